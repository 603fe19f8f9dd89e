"""How the weights of two tensors agree: sums in float64, which add up over parts."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from typing import Final

import numpy as np

from ggufscope.arrays import Doubles, Floats
from ggufscope.blocks.error import NO_ERROR, WeightError

STRETCH: Final = 1 << 15
"""Weights that are summed up at a time: in float64 they stay in the cache."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Weights c of one tensor beside weights r of another; those of two parts add up."""

    error: WeightError
    """Over the weights that are numbers in both."""
    squared_candidate: float
    """``sum c^2``."""
    dot: float
    """``sum r c``."""
    place: int
    """Where the largest difference is: the index of the weight in the flat tensor."""
    unmatched: int
    """Weights of which one is no finite number, and the other is not the same."""
    worst: float
    """The largest relative error of a stretch."""
    worst_at: int
    """Where that stretch begins in the flat tensor."""
    strange: tuple[bool, bool] = (False, False)
    """Whether r, and whether c, has one of the unmatched that is no finite number."""

    def __add__(self, other: Agreement) -> Agreement:
        larger = other if other.error.largest > self.error.largest else self
        worse = other if other.worst > self.worst else self
        return Agreement(
            self.error + other.error,
            self.squared_candidate + other.squared_candidate,
            self.dot + other.dot,
            larger.place,
            self.unmatched + other.unmatched,
            worse.worst,
            worse.worst_at,
            (self.strange[0] or other.strange[0], self.strange[1] or other.strange[1]),
        )

    @property
    def equal(self) -> bool:
        """Whether every weight is the same number."""
        return self.error.squared_error == 0 and not self.unmatched

    @property
    def relative(self) -> float:
        """``|c - r| / |r|``. Infinite where a weight is a number in one of the two alone."""
        return inf if self.unmatched else self.error.relative

    @property
    def cosine(self) -> float:
        """``r.c / (|r| |c|)``. Range -1 to 1; two tensors of zeros are alike, so 1, as elsewhere.

        A tensor of zeros and another one have no direction in common: 0.
        """
        lengths = sqrt(self.error.squared_weights) * sqrt(self.squared_candidate)
        if not lengths:
            return float(self.error.squared_error == 0)
        return min(1.0, max(-1.0, self.dot / lengths))


NO_AGREEMENT: Final = Agreement(NO_ERROR, 0.0, 0.0, 0, 0, 0.0, 0)
"""Of no weights at all."""


def agreement(r: Floats, c: Floats, first: int = 0, scratch: Doubles | None = None) -> Agreement:
    """r, c (n,) -> how they agree; ``first`` is the index of the first weight in its tensor.

    ``scratch`` (2, STRETCH) is overwritten.
    """
    total, room = NO_AGREEMENT, np.empty((2, STRETCH)) if scratch is None else scratch
    for start in range(0, r.size, STRETCH):
        stop = start + STRETCH
        with np.errstate(all="ignore"):  # what is no number is counted, not computed with
            total += _stretch(r[start:stop], c[start:stop], first + start, room)
    return total


def _stretch(r: Floats, c: Floats, first: int, room: Doubles) -> Agreement:
    x, y = room[:, : r.size]
    x[:], y[:] = r, c
    unmatched, strange = 0, (False, False)
    weights, candidate = _dot(x, x), _dot(y, y)
    if not (np.isfinite(weights) and np.isfinite(candidate)):
        # The square of no float32 overflows, so one of them is no number.
        odd = ~(np.isfinite(r) & np.isfinite(c))
        other = odd & (r != c) & ~(np.isnan(r) & np.isnan(c))
        unmatched = int(np.count_nonzero(other))
        strange = bool((other & ~np.isfinite(r)).any()), bool((other & ~np.isfinite(c)).any())
        x[odd] = y[odd] = 0.0
        weights, candidate = _dot(x, x), _dot(y, y)
    along = _dot(x, y)
    gap = np.subtract(y, x, out=y)
    squared = _dot(gap, gap)
    at = int(np.abs(gap, out=gap).argmax()) if squared else 0
    error = WeightError(squared, weights, float(gap[at]) if squared else 0.0, r.size)
    return Agreement(error, candidate, along, first + at, unmatched, error.relative, first, strange)


def _dot(x: Doubles, y: Doubles) -> float:
    # Not by BLAS, which would start threads of its own within those of the caller.
    return float(np.einsum("i,i->", x, y))
