"""What is said of a mix that was chosen by measurement."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ggufscope.report.quantize.tailored import tailored_facts


@pytest.mark.parametrize(
    ("bound", "said"),
    [
        (1.0, "exact"),
        (1.0 - 4.4e-16, "exact"),
        (1.0 + 4.4e-16, "exact"),
        (1.0 - 1e-6, "within 1.0e-4% of what no choice can beat"),
        (0.5, "within 50.0% of what no choice can beat"),
    ],
)
def test_rounding_is_no_gap_to_the_least(bound: float, said: str) -> None:
    tried = SimpleNamespace(name="choice", plan=SimpleNamespace(tensors=(), preset="Q2_K"))
    found: Any = SimpleNamespace(
        sensitivities=SimpleNamespace(tokens=1, windows=1, draws=1),
        best=tried,
        choice=tried,
        selection=SimpleNamespace(bound=bound, cost=1.0),
    )
    assert dict(tailored_facts(found))["least"] == said
