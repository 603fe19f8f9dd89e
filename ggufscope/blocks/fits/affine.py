"""A scale and a minimum: qkx2, qkx3. Levels from 0, ``x = scale * L + minimum``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from ggufscope.arrays import Bytes, Floats
from ggufscope.blocks.ordered import MAGIC, largest, nearest_level, round_quick, smallest, sum_rows

# Bounds for a spread, within which iscale and what it multiplies are certain to stay in range.
_THIN: Final = np.float32(2**-16)
_TINY: Final = np.float32(1e-30)
_HUGE: Final = np.float32(1e38)


@dataclass(frozen=True, slots=True)
class AffineSearch:
    """What a format asks of qkx2: its highest level and the scales to try.

    Try i divides the spread into ``first + step * i + top`` levels, for i up to ``last``.
    """

    top: int
    first: float
    step: float
    last: int
    absolute: bool
    """Whether the error is the sum of absolute deviations, not of squares."""

    def factor(self, i: int) -> np.float32:
        """Try i's number of levels, rounded to float32 after each operation."""
        return np.float32(self.first) + np.float32(self.step) * np.float32(i) + np.float32(self.top)


def by_importance(top: int) -> AffineSearch:
    """Return what every format asks for where columns have an importance."""
    return AffineSearch(top, first=-0.9, step=0.05, last=36, absolute=False)


@dataclass(frozen=True, slots=True)
class AffineFit:
    """What qkx2 found, for each lane (lanes,)."""

    scale: Floats
    minimum: Floats
    """At most 0. ggml returns it negated."""

    iscale: Floats
    start: Floats
    """With ``iscale``, what the levels of the fit are made with: a try starts from the minimum of
    the one before."""

    def levels(self, x: Floats, top: int) -> Bytes:
        """x (k, lanes) -> levels (k, lanes) of the fit."""
        return nearest_level((x - self.start) * self.iscale, 0, top).astype(np.uint8)


def qkx2(x: Floats, weights: Floats, search: AffineSearch, careful: bool = False) -> AffineFit:
    """x, weights (k, lanes) -> the fit of each lane. ``make_qkx2_quants``, ``make_qkx3_quants``.

    In the quick form, lanes that leave its range are searched again in the careful one.
    """
    low, high = smallest(x), largest(x)
    minimum: Floats = np.where(low > 0, np.float32(0), low)
    spread = high - minimum
    flat = high == minimum
    thinnest, thickest = spread.copy(), spread.copy()
    sum_w = sum_rows(weights)
    t = weights * x
    sum_x = sum_rows(t)
    bound = spread * _THIN
    u = np.empty_like(x)
    floor, ceiling = np.full_like(x, MAGIC), np.full_like(x, MAGIC + np.float32(search.top))

    def divide(factor: np.float32) -> Floats:
        """Round x to levels, into t: ``factor`` levels over the spread from the minimum."""
        iscale = factor / spread
        np.subtract(x, minimum, out=t)
        np.multiply(t, iscale, out=t)
        if careful:
            t[...] = nearest_level(t, 0, search.top)
        else:
            # high is less than half a level above the top until factor is.
            round_quick(t, floor, ceiling if factor > search.top + 0.49 else None)
        return iscale

    def misfit(scale: Floats, minimum: Floats) -> Floats:
        """Weigh the deviation of x from ``scale * t + minimum``."""
        np.multiply(t, scale, out=u)
        np.add(u, minimum, out=u)
        np.subtract(u, x, out=u)
        np.abs(u, out=u) if search.absolute else np.multiply(u, u, out=u)
        np.multiply(u, weights, out=u)
        return sum_rows(u)

    kept, start = divide(np.float32(search.top)), minimum.copy()
    scale: Floats = np.float32(1) / kept
    best = misfit(scale, minimum)
    wl = np.empty_like(x)
    for i in range(search.last + 1):
        iscale = divide(search.factor(i))
        np.multiply(weights, t, out=wl)
        sum_l = sum_rows(wl)
        sum_l2 = sum_rows(np.multiply(wl, t, out=u))
        sum_xl = sum_rows(np.multiply(wl, x, out=u))
        det = sum_w * sum_l2 - sum_l * sum_l
        new_scale = np.divide(sum_w * sum_xl - sum_x * sum_l, det)
        new_minimum = np.divide(sum_l2 * sum_x - sum_l * sum_xl, det)
        above = new_minimum > 0
        np.copyto(new_scale, sum_xl / sum_l2, where=above)
        np.copyto(new_minimum, 0, where=above)
        error = misfit(new_scale, new_minimum)
        better = (det > 0) & (error < best)
        np.copyto(best, error, where=better)
        np.copyto(scale, new_scale, where=better)
        np.copyto(kept, iscale, where=better)
        np.copyto(start, minimum, where=better)
        np.copyto(minimum, new_minimum, where=better)
        # The next try starts from the new minimum.
        np.subtract(high, minimum, out=spread)
        np.minimum(thinnest, spread, out=thinnest)
        np.maximum(thickest, spread, out=thickest)
    scale[flat] = 0
    kept[flat] = 0
    fit = AffineFit(scale, minimum, kept, start)
    if careful:
        return fit
    # Whatever the minimum became, |x - minimum| <= spread / _THIN then, so no number to round was
    # above 2**16 times the levels. A comparison with NaN is false.
    inside = (thinnest >= bound) & (thinnest > _TINY) & (thickest < _HUGE) & np.isfinite(sum_x)
    again = np.flatnonzero(~(inside | flat))
    if again.size:
        part = qkx2(np.take(x, again, axis=1), np.take(weights, again, axis=1), search, True)
        for name in AffineFit.__slots__:
            getattr(fit, name)[again] = getattr(part, name)
    return fit
