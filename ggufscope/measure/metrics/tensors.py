"""Weights: what storing them in another type did to the numbers. Sums in float64."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

Weights = npt.NDArray[np.floating[Any]]

_STEP = 1 << 15
"""Weights looked at in one go: in float64 they stay in the cache."""


@dataclass(frozen=True, slots=True)
class WeightError:
    """Sums over some weights that were changed; two of them add up."""

    squared_error: float
    """``sum (c - r)^2``."""
    squared_weights: float
    """``sum r^2``."""
    largest: float
    """``max |c - r|``, in the unit of the weights. Range 0 to infinity."""
    n: int
    """Number of weights."""

    def __add__(self, other: WeightError) -> WeightError:
        return WeightError(
            self.squared_error + other.squared_error,
            self.squared_weights + other.squared_weights,
            max(self.largest, other.largest),
            self.n + other.n,
        )

    @property
    def relative(self) -> float:
        """``sqrt(sum (c - r)^2 / sum r^2)``. Range 0 to infinity; 0 where nothing changed."""
        if not self.squared_error:
            return 0.0
        if not self.squared_weights:
            return float("inf")
        return sqrt(self.squared_error / self.squared_weights)


NONE = WeightError(0.0, 0.0, 0.0, 0)
"""Of no weights at all."""


def weight_error(reference: Weights, candidate: Weights) -> WeightError:
    """Two arrays of weights, of one shape -> the error of all of them together."""
    r, c = reference.reshape(-1), candidate.reshape(-1)
    squared_error = squared_weights = largest = 0.0
    for start in range(0, r.size, _STEP):
        part = r[start : start + _STEP].astype(np.float64)
        gap = c[start : start + _STEP] - part
        # Not by BLAS, which would start threads of its own within those of the caller.
        squared_error += float(np.einsum("i,i->", gap, gap))
        squared_weights += float(np.einsum("i,i->", part, part))
        largest = max(largest, float(gap.max()), -float(gap.min()))
    return WeightError(squared_error, squared_weights, largest, r.size)
