"""Scales without a minimum: qx, q3, and the search of IQ4. Levels of both signs around zero."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import numpy as np

from ggufscope.arrays import Bytes, Floats
from ggufscope.blocks.fits.descent import descend
from ggufscope.blocks.ordered import MAGIC, extreme, nearest_level, round_quick, sum_rows

ALL_ZERO: Final = np.float32(1e-15)
"""A sub-block with no magnitude from here on is stored as zeros (ggml's ``GROUP_MAX_EPS``)."""

_SIGNED_STEPS: Final = tuple(step for step in range(-9, 10) if step)
_TRIES: Final = 7
_Try = TypeVar("_Try", Floats, np.float32)


def _climb(
    fit: Callable[[_Try], tuple[Floats, Floats]],
    tries: Iterable[_Try],
    scale: Floats,
    best: Floats,
    kept: Floats,
) -> None:
    """Take the scale of each try that fits better: scale, best, kept (lanes,), in place.

    ``fit`` rounds to levels l and returns sum(w * x * l), sum(w * l * l), each (lanes,). ``kept``
    is the best try.
    """
    for each in tries:
        sum_lx, sum_l2 = fit(each)
        better = (sum_l2 > 0) & (sum_lx * sum_lx > best * sum_l2)
        new_scale = sum_lx / sum_l2
        np.copyto(scale, new_scale, where=better)
        np.copyto(best, new_scale * sum_lx, where=better)
        np.copyto(kept, each, where=better)


def qx(x: Floats, weights: Floats, top: int, careful: bool = False) -> tuple[Floats, Floats]:
    """x, weights (k, lanes) -> scale (lanes,), iscale (lanes,). ``make_qx_quants``.

    ``qx_levels`` makes the levels, from -top to top - 1, out of iscale. No weight is larger than
    the one that iscale is made from, so the quick form serves every lane but those with a NaN or
    an infinity, which are searched again in the careful one.
    """
    most = extreme(x)
    zero = np.abs(most) < ALL_ZERO
    wx = weights * x
    t, u = np.empty_like(x), np.empty_like(x)
    floor = np.full_like(x, MAGIC - np.float32(top))
    ceiling = np.full_like(x, MAGIC + np.float32(top - 1))

    def fit(factor: np.float32) -> tuple[Floats, Floats]:
        np.multiply(x, -factor / most, out=t)
        if careful:
            t[...] = nearest_level(t, -top, top - 1)
        else:
            # The largest weight gets -factor, one of the other sign up to +factor.
            round_quick(t, floor if factor > top + 0.49 else None, ceiling)
        sum_lx = sum_rows(np.multiply(wx, t, out=u))
        np.multiply(weights, t, out=u)
        return sum_lx, sum_rows(np.multiply(u, t, out=u))

    kept = np.full_like(most, top)
    sum_lx, sum_l2 = fit(np.float32(top))
    lost = ~np.isfinite(sum_lx)
    scale = np.where(sum_l2 != 0, sum_lx / sum_l2, np.float32(0))
    tries = (np.float32(top) + np.float32(0.1) * np.float32(step) for step in _SIGNED_STEPS)
    _climb(fit, tries, scale, scale * sum_lx, kept)
    iscale = -kept / most
    again = np.flatnonzero(lost & ~zero)
    if again.size and not careful:
        part = qx(np.take(x, again, axis=1), np.take(weights, again, axis=1), top, careful=True)
        scale[again], iscale[again] = part
    scale[zero] = 0
    iscale[zero] = np.nan
    return scale, iscale


def qx_levels(x: Floats, iscale: Floats, top: int) -> Bytes:
    """x (k, lanes), iscale (lanes,) of ``qx`` -> levels + top (k, lanes).

    Where nothing was searched, and iscale is a NaN, ggml leaves 0: not the level of a zero.
    """
    levels = nearest_level(x * iscale, -top, top - 1) + np.int32(top)
    levels[:, np.isnan(iscale)] = 0
    return levels.astype(np.uint8)


def qvalues(
    x: Floats, weights: Floats, lowest: np.float32, nearest: Callable[[Floats, Floats], None]
) -> Floats:
    """x, weights (k, lanes) -> scale (lanes,). The search in ``quantize_row_iq4_nl_impl``.

    The scale that puts the largest weight on the lowest value, and fourteen scales around it.
    ``nearest(t, out)`` writes the value nearest to each number of t into out; t is lost.
    """
    most = extreme(x)
    t, q = np.empty_like(x), np.empty_like(x)

    def fit(inverse: Floats) -> tuple[Floats, Floats]:
        np.multiply(x, inverse, out=t)
        nearest(t, q)
        np.multiply(weights, q, out=t)
        np.multiply(t, q, out=q)
        np.multiply(t, x, out=t)
        return sum_rows(t), sum_rows(q)

    first: Floats = np.float32(1) / (-most / lowest)
    sum_qx, sum_q2 = fit(first)
    scale = np.where(sum_q2 > 0, sum_qx / sum_q2, np.float32(0))
    tries = ((np.float32(step) + lowest) / most for step in range(-_TRIES, _TRIES + 1))
    _climb(fit, tries, scale, scale * sum_qx, first)
    scale[np.abs(most) < ALL_ZERO] = 0
    return scale


def q3(x: Floats, weights: Floats, top: int) -> tuple[Floats, Bytes]:
    """x, weights (k, lanes) -> scale (lanes,), levels + top (k, lanes). ``make_q3_quants``, rmse.

    The levels of the largest weight's scale, and ``descend`` from there.
    """
    most = extreme(x)
    zero = np.abs(most) < ALL_ZERO
    levels = nearest_level(x * (np.float32(-top) / most), -top, top - 1).astype(np.float32)
    sum_lx = sum_rows(weights * x * levels)
    sum_l2 = sum_rows(weights * levels * levels)
    descend(x, weights, levels, sum_lx, sum_l2, -top, top - 1)
    scale = np.where(sum_l2 > 0, sum_lx / sum_l2, np.float32(0))
    scale[zero] = 0
    levels += np.float32(top)
    levels[:, zero] = 0
    return scale, levels.astype(np.uint8)
