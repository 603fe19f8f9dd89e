"""The error of weights: what adds up, and what is said where nothing can be divided by."""

from __future__ import annotations

from math import inf, isnan, nan

import pytest

from ggufscope.blocks.error import NO_ERROR, WeightError


def test_parts_add_up() -> None:
    total = WeightError(1.0, 90.0, 0.5, 7) + WeightError(3.0, 310.0, 1.5, 3)
    assert total == WeightError(4.0, 400.0, 1.5, 10)
    assert total.relative == pytest.approx(0.1)
    assert total + NO_ERROR == total


@pytest.mark.parametrize(
    ("squared_error", "squared_weights", "expected"),
    [(0.0, 0.0, 0.0), (0.0, 4.0, 0.0), (1.0, 0.0, inf), (inf, 1.0, inf)],
)
def test_zeros_that_became_something_else_are_no_small_error(
    squared_error: float, squared_weights: float, expected: float
) -> None:
    assert WeightError(squared_error, squared_weights, 1.0, 1).relative == expected


@pytest.mark.parametrize("squared_weights", [0.0, 1.0, nan])
def test_a_nan_stays_one(squared_weights: float) -> None:
    assert isnan(WeightError(nan, squared_weights, 1.0, 1).relative)
