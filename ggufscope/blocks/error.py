"""What storing weights in another type did to them: sums that add up over parts of a tensor."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from typing import Final


@dataclass(frozen=True, slots=True)
class WeightError:
    """Weights r that became c, summed up; the errors of two parts add up."""

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
        """``sqrt(sum (c - r)^2 / sum r^2)``. Range 0 to infinity; a NaN stays one.

        0 where nothing changed, zeros and no weights at all included: nothing was lost. Infinity
        where zeros became something else: a 0 would hide it, and no finite number measures it.
        """
        if self.squared_error == 0:
            return 0.0
        if self.squared_weights == 0:
            return self.squared_error * inf
        return sqrt(self.squared_error / self.squared_weights)


NO_ERROR: Final = WeightError(0.0, 0.0, 0.0, 0)
"""Of no weights at all."""
