"""Every family, held to real llama.cpp and to a float64 pass written apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from ggufscope.forward.families import GRAPHS
from ggufscope.forward.trace import Trace
from tests.families import GELU, IDS, SMALL
from tests.forward.golden import golden, largest_difference
from tests.forward.reference import Reference
from tests.forward.running import running


def test_every_family_has_a_model_to_be_held_to() -> None:
    assert {small.architecture for small in SMALL.values()} == set(GRAPHS)


@pytest.mark.parametrize("name", SMALL)
def test_logits_and_attention_agree_with_llama_cpp_and_with_float64(
    name: str, tmp_path: Path
) -> None:
    trace = Trace({"kq_soft_max", "result_output"})
    with running(tmp_path, name) as model:
        logits = model.run(IDS, trace=trace)
    assert logits is trace["result_output"]
    theirs = golden(name)
    assert trace.keys() == theirs.keys()
    # ggml looks GELU up in a table of half floats; here it is computed
    assert largest_difference(trace, theirs) < (2e-2 if name in GELU else 1e-4)
    assert largest_difference(trace, Reference(SMALL[name]).run(IDS)) < 1e-4
