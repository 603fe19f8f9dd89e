"""Vectors: outputs of heads and layers, and how far they moved. Sums in float64."""

from __future__ import annotations

import numpy as np

from ggufscope.arrays import Doubles, Reals


def cosine(a: Reals, b: Reals) -> Doubles:
    """Two arrays (..., N) -> (...): ``a . b / (|a| |b|)``. Range -1 to 1: 1 is the same direction.

    Two vectors of zeros are alike, so 1; a vector of zeros and another one have no direction in
    common, so 0. A vector with a number that is not finite has none: NaN.
    """
    a, b = _scaled(a), _scaled(b)
    lengths = np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))
    nothing = ~a.any(axis=-1) & ~b.any(axis=-1)
    product = (a * b).sum(axis=-1) / np.where(lengths > 0, lengths, 1.0)
    cosines: Doubles = np.clip(np.where(nothing, 1.0, product), -1.0, 1.0)
    return cosines


def relative_error(reference: Reals, candidate: Reals) -> Doubles:
    """Two arrays (..., N) -> (...): ``|c - r| / |r|``. Range 0 to infinity.

    0 where both are zeros, infinite where the reference alone is, NaN where a number is not finite.
    """
    r, c = np.asarray(reference, np.float64), np.asarray(candidate, np.float64)
    with np.errstate(invalid="ignore"):
        moved, length = np.sqrt(np.square(c - r).sum(axis=-1)), np.sqrt(np.square(r).sum(axis=-1))
        from_nothing = np.where(moved > 0, np.inf, 0.0 * moved)
        near = moved / np.where(length > 0, length, 1.0)
    error: Doubles = np.where(length > 0, near, from_nothing)
    return error


def _scaled(x: Reals) -> Doubles:
    """Divide each vector by its largest number, so that no square over- or underflows."""
    x = np.asarray(x, np.float64)
    largest = np.abs(x).max(axis=-1, keepdims=True, initial=0.0)
    with np.errstate(invalid="ignore"):  # an infinity has no place on any scale
        scaled: Doubles = x / np.where(largest > 0, largest, 1.0)
    return scaled
