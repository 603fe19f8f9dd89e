"""The searches for a scale that the formats share: qx, q3 and qkx2, named as in ggml.

A sub-block x is stored as integer levels L and a scale: ``x = scale * L``, or with a minimum,
``x = scale * L + minimum``. Dividing by the full range is a start, not the best. So ggml tries a
few wider and narrower scales; for each it rounds the weights to levels and solves for the scale
(and minimum) that fits these levels best, by weighted least squares. The best of them is kept.

All arrays are lanes, ``(k, lanes)``: see ``ordered``. Each search comes in two forms, one code.
The *quick* form rounds by adding ``MAGIC`` and clamps while the sum is still a float, and forgets
the levels: the caller rounds again anyway, with the scales that were stored. It is exact where
every number to round stays within ``MAGIC_REACH``. The *careful* form reads the bits as ggml does,
and keeps the levels. It does again the lanes of qkx2 that may leave the range (a NaN, an infinity,
a spread that overflows or nearly vanishes), and those whose stored scale came out as zero: there
ggml leaves the levels of the search in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from ggufscope.arrays import Bytes, Floats, Ints, Mask
from ggufscope.blocks.ordered import MAGIC, extreme, largest, nearest_int, smallest, sum_rows

ALL_ZERO: Final = np.float32(1e-15)
"""A sub-block with no magnitude from here on is stored as zeros (ggml's ``GROUP_MAX_EPS``)."""

_SIGNED_STEPS: Final = tuple(step for step in range(-9, 10) if step)
_DESCENTS: Final = 5
# Bounds for a spread, within which iscale and what it multiplies are certain to stay in range.
_THIN: Final = np.float32(2**-16)
_TINY: Final = np.float32(1e-30)
_HUGE: Final = np.float32(1e38)


def nearest_level(t: Floats, low: int, high: int) -> Ints:
    """Round t to integers in [low, high], as ggml does, for any t: ``nearest_int``, then clamp."""
    return np.clip(nearest_int(t), low, high)


def requantize(x: Floats, d: Floats, m: Floats | None, low: int, high: int) -> Bytes:
    """X (k, lanes), d, m (lanes,) -> levels less ``low`` (k, lanes): round((x + m) / d), clamped.

    The last rounding of every K-quant, with the scales as they are stored.
    """
    t = x / d if m is None else x + m
    if m is not None:
        t /= d
    levels = nearest_level(t, low, high)
    levels -= low
    return levels.astype(np.uint8)


def _round_quick(t: Floats, low: Floats | None, high: Floats | None) -> None:
    """Round t in place, and clamp to bounds that have ``MAGIC`` in them. For ``MAGIC_REACH``.

    The bounds have the shape of t: NumPy clamps to an array twice as fast as to a number.
    """
    t += MAGIC
    if low is not None:
        np.maximum(t, low, out=t)
    if high is not None:
        np.minimum(t, high, out=t)
    t -= MAGIC


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


def qkx2(x: Floats, weights: Floats, search: AffineSearch) -> tuple[Floats, Floats]:
    """X, weights (k, lanes) -> scale (lanes,), minimum (lanes,) <= 0. ``make_qkx2_quants``.

    ggml returns the minimum negated.
    """
    scale, minimum, leaving = _qkx2(x, weights, search, None)
    again = np.flatnonzero(leaving)
    if again.size:
        part, part_weights = np.take(x, again, axis=1), np.take(weights, again, axis=1)
        kept = np.empty_like(part)
        scale[again], minimum[again], _ = _qkx2(part, part_weights, search, kept)
    return scale, minimum


def qkx2_levels(x: Floats, weights: Floats, search: AffineSearch) -> Bytes:
    """X, weights (k, lanes) -> levels (k, lanes): those that the search of ``qkx2`` ended with."""
    kept = np.empty_like(x)
    _qkx2(x, weights, search, kept)
    return kept.astype(np.uint8)


def _qkx2(
    x: Floats, weights: Floats, search: AffineSearch, kept: Floats | None
) -> tuple[Floats, Floats, Mask]:
    """Search; also tell which lanes leave the quick form's range. ``kept`` makes it careful."""
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
        if kept is None:
            # high is less than half a level above the top until factor is.
            _round_quick(t, floor, ceiling if factor > search.top + 0.49 else None)
        else:
            t[...] = nearest_level(t, 0, search.top)
        return iscale

    def misfit(scale: Floats, minimum: Floats) -> Floats:
        """Weigh the deviation of x from ``scale * t + minimum``."""
        np.multiply(t, scale, out=u)
        np.add(u, minimum, out=u)
        np.subtract(u, x, out=u)
        np.abs(u, out=u) if search.absolute else np.multiply(u, u, out=u)
        np.multiply(u, weights, out=u)
        return sum_rows(u)

    scale: Floats = np.float32(1) / divide(np.float32(search.top))
    best = misfit(scale, minimum)
    if kept is not None:
        kept[...] = t
    wl = np.empty_like(x)
    for i in range(search.last + 1):
        divide(search.factor(i))
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
        np.copyto(minimum, new_minimum, where=better)
        if kept is not None:
            np.copyto(kept, t, where=better)
        # The next try starts from the new minimum.
        np.subtract(high, minimum, out=spread)
        np.minimum(thinnest, spread, out=thinnest)
        np.maximum(thickest, spread, out=thickest)
    scale[flat] = 0
    if kept is not None:
        kept[:, flat] = 0
    # Whatever the minimum became, |x - minimum| <= spread / _THIN then, so no number to round was
    # above 2**16 times the levels. A comparison with NaN is false.
    inside = (thinnest >= bound) & (thinnest > _TINY) & (thickest < _HUGE) & np.isfinite(sum_x)
    return scale, minimum, ~(inside | flat)


def qx(x: Floats, top: int) -> Floats:
    """X (k, lanes) -> scale (lanes,), for levels [-top, top - 1]. ``make_qx_quants``, rmse type 1.

    The weights of the fit are x * x. The quick form serves every lane: no weight is larger than
    the one that iscale is made from, and a NaN or an infinity makes the sums, and so the scale, a
    NaN whatever its level is.
    """
    return _qx(x, top, None)


def qx_levels(x: Floats, top: int) -> Bytes:
    """X (k, lanes) -> levels + top (k, lanes): those that the search of ``qx`` ended with."""
    kept = np.empty_like(x)
    _qx(x, top, kept)
    return kept.astype(np.uint8)


def _qx(x: Floats, top: int, kept: Floats | None) -> Floats:
    most = extreme(x)
    zero = np.abs(most) < ALL_ZERO
    w = x * x
    wx = w * x
    t, u = np.empty_like(x), np.empty_like(x)
    floor = np.full_like(x, MAGIC - np.float32(top))
    ceiling = np.full_like(x, MAGIC + np.float32(top - 1))

    def fit(factor: np.float32) -> tuple[Floats, Floats]:
        """Round x to levels, into t, and give sum(w * x * l), sum(w * l * l)."""
        iscale = -factor / most
        np.multiply(x, iscale, out=t)
        if kept is None:
            # The largest weight gets -factor, one of the other sign up to +factor.
            _round_quick(t, floor if factor > top + 0.49 else None, ceiling)
        else:
            t[...] = nearest_level(t, -top, top - 1)
        sum_lx = sum_rows(np.multiply(wx, t, out=u))
        np.multiply(w, t, out=u)
        return sum_lx, sum_rows(np.multiply(u, t, out=u))

    sum_lx, sum_l2 = fit(np.float32(top))
    scale = np.where(sum_l2 != 0, sum_lx / sum_l2, np.float32(0))
    best = scale * sum_lx
    if kept is not None:
        kept[...] = t
    for step in _SIGNED_STEPS:
        sum_lx, sum_l2 = fit(np.float32(top) + np.float32(0.1) * np.float32(step))
        better = (sum_l2 > 0) & (sum_lx * sum_lx > best * sum_l2)
        new_scale = sum_lx / sum_l2
        np.copyto(scale, new_scale, where=better)
        np.copyto(best, new_scale * sum_lx, where=better)
        if kept is not None:
            np.copyto(kept, t, where=better)
    scale[zero] = 0
    if kept is not None:
        kept += np.float32(top)
        kept[:, zero] = 0
    return scale


def q3(x: Floats, top: int) -> tuple[Floats, Bytes]:
    """X (k, lanes) -> scale (lanes,), levels + top (k, lanes). ``make_q3_quants`` with rmse.

    A descent by coordinates, in at most five rounds. A round that changes nothing is a lane's
    last, and few lanes need a second one.
    """
    most = extreme(x)
    zero = np.abs(most) < ALL_ZERO
    w = x * x
    wx = w * x
    levels = nearest_level(x * (np.float32(-top) / most), -top, top - 1).astype(np.float32)
    sum_lx = sum_rows(wx * levels)
    sum_l2 = sum_rows(w * levels * levels)
    changed = _descend(top, x, w, wx, levels, sum_lx, sum_l2)
    for _ in range(_DESCENTS - 1):
        left = np.flatnonzero(changed)
        if not left.size:
            break
        part = [np.take(of, left, axis=-1) for of in (x, w, wx, levels, sum_lx, sum_l2)]
        changed[left] = _descend(top, *part)
        levels[:, left], sum_lx[left], sum_l2[left] = part[3:]
    scale = np.where(sum_l2 > 0, sum_lx / sum_l2, np.float32(0))
    scale[zero] = 0
    levels += np.float32(top)
    levels[:, zero] = 0
    return scale, levels.astype(np.uint8)


def _descend(
    top: int, x: Floats, w: Floats, wx: Floats, levels: Floats, sum_lx: Floats, sum_l2: Floats
) -> Mask:
    """One round of ``q3``, in place: which lanes (lanes,) it changed.

    Each weight in turn takes the level that suits the sums of all the others, if that is better.
    """
    changed = np.zeros(sum_lx.shape, np.bool_)
    for row, weight, weighted, level in zip(x, w, wx, levels, strict=True):
        lx = sum_lx - weighted * level
        l2 = sum_l2 - weight * level * level
        new = nearest_level(row * l2 / lx, -top, top - 1).astype(np.float32)
        moved = (lx > 0) & (new != level)
        lx += weighted * new
        l2 += weight * new * new
        moved &= (l2 > 0) & (lx * lx * sum_l2 > sum_lx * sum_lx * l2)
        np.copyto(level, new, where=moved)
        np.copyto(sum_lx, lx, where=moved)
        np.copyto(sum_l2, l2, where=moved)
        changed |= moved
    return changed
