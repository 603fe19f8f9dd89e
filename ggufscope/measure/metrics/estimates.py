"""Means with their errors, as llama-perplexity states them, and how numbers are spread.

An error is one standard deviation of the mean, the tokens taken for independent of each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from ggufscope.arrays import Doubles

PERCENTS: Final = (0.0, 0.1, 1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 100.0)
FEW: Final = 10
"""Of no more numbers than these no error is told."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its error."""

    value: float
    error: float


def mean_of(x: Doubles) -> Estimate:
    """x (N,) -> its mean. The error is ``std / sqrt(N - 1)``; 0 where N is 10 or less."""
    if not len(x):
        return Estimate(math.nan, math.nan)
    with np.errstate(all="ignore"):
        return Estimate(float(x.mean()), math.sqrt(covariance(x, x)))


def covariance(x: Doubles, y: Doubles) -> float:
    """x (N,), y (N,) -> covariance of their means; 0 where N is 10 or less."""
    if len(x) <= FEW:
        return 0.0
    with np.errstate(all="ignore"):
        return float(((x - x.mean()) * (y - y.mean())).mean()) / (len(x) - 1)


def exponential(of: Estimate) -> Estimate:
    """Return e to an estimate: of a mean loss the perplexity."""
    value = math.exp(min(of.value, 700.0)) if of.value == of.value else math.nan
    return Estimate(value, value * of.error)


def root(of: Estimate) -> Estimate:
    """Return the root of an estimate: of a mean square the RMS."""
    value = math.sqrt(of.value)
    return Estimate(value, 0.5 / value * of.error if value else 0.0)


def share_of(hits: int, count: int) -> Estimate:
    """Return a share, 0 to 1."""
    if not count:
        return Estimate(math.nan, math.nan)
    value = hits / count
    return Estimate(value, math.sqrt(value * (1 - value) / (count - 1)) if count > 1 else 0.0)


def spread(x: Doubles) -> dict[float, float]:
    """x (N,) -> percent: what that share of x does not exceed, between two linearly; 0 to 100."""
    if not len(x):
        return dict.fromkeys(PERCENTS, math.nan)
    with np.errstate(all="ignore"):
        found = np.percentile(x, PERCENTS)
    return dict(zip(PERCENTS, map(float, found), strict=True))
