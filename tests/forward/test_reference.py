"""The second opinion itself, held to real llama.cpp: what the forward pass is then held to."""

from __future__ import annotations

import pytest

from tests.forward.golden import golden, largest_difference
from tests.forward.reference import Reference
from tests.models.families import GELU, IDS, SMALL


@pytest.mark.parametrize("name", SMALL)
def test_the_reference_agrees_with_llama_cpp(name: str) -> None:
    # ggml looks GELU up in a table of half floats; the reference computes it
    tolerance = 2e-2 if name in GELU else 1e-4
    difference = largest_difference(Reference(SMALL[name]).run(IDS), golden(name))
    assert difference < tolerance
