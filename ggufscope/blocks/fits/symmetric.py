"""Scales without a minimum: qx, q3, and the search of IQ4. Levels of both signs around zero."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import numpy as np

from ggufscope.arrays import Bytes, Floats, Mask
from ggufscope.blocks.ordered import MAGIC, extreme, nearest_level, round_quick, sum_rows

ALL_ZERO: Final = np.float32(1e-15)
"""A sub-block with no magnitude from here on is stored as zeros (ggml's ``GROUP_MAX_EPS``)."""

_SIGNED_STEPS: Final = tuple(step for step in range(-9, 10) if step)
_TRIES: Final = 7
_DESCENTS: Final = 5
_Try = TypeVar("_Try")


def _climb(
    fit: Callable[[_Try], tuple[Floats, Floats]],
    tries: Iterable[_Try],
    scale: Floats,
    best: Floats,
    keep: Callable[[Mask], None] = lambda _: None,
) -> None:
    """Take the scale of each try that fits better: scale and best (lanes,), in place.

    ``fit`` rounds to levels l and returns sum(w * x * l), sum(w * l * l), each (lanes,).
    """
    for each in tries:
        sum_lx, sum_l2 = fit(each)
        better = (sum_l2 > 0) & (sum_lx * sum_lx > best * sum_l2)
        new_scale = sum_lx / sum_l2
        np.copyto(scale, new_scale, where=better)
        np.copyto(best, new_scale * sum_lx, where=better)
        keep(better)


def qx(x: Floats, weights: Floats, top: int, kept: Floats | None = None) -> Floats:
    """x, weights (k, lanes) -> scale (lanes,), for levels [-top, top - 1]. ``make_qx_quants``.

    With ``kept`` (k, lanes) the form is the careful one, and it receives the levels + top. The
    quick form serves every lane: no weight is larger than the one that iscale is made from, and a
    NaN or an infinity makes the sums, and so the scale, a NaN whatever its level is.
    """
    most = extreme(x)
    zero = np.abs(most) < ALL_ZERO
    wx = weights * x
    t, u = np.empty_like(x), np.empty_like(x)
    floor = np.full_like(x, MAGIC - np.float32(top))
    ceiling = np.full_like(x, MAGIC + np.float32(top - 1))

    def fit(factor: np.float32) -> tuple[Floats, Floats]:
        iscale = -factor / most
        np.multiply(x, iscale, out=t)
        if kept is None:
            # The largest weight gets -factor, one of the other sign up to +factor.
            round_quick(t, floor if factor > top + 0.49 else None, ceiling)
        else:
            t[...] = nearest_level(t, -top, top - 1)
        sum_lx = sum_rows(np.multiply(wx, t, out=u))
        np.multiply(weights, t, out=u)
        return sum_lx, sum_rows(np.multiply(u, t, out=u))

    def keep(better: Mask | bool) -> None:
        if kept is not None:
            np.copyto(kept, t, where=better)

    sum_lx, sum_l2 = fit(np.float32(top))
    keep(True)
    scale = np.where(sum_l2 != 0, sum_lx / sum_l2, np.float32(0))
    tries = (np.float32(top) + np.float32(0.1) * np.float32(step) for step in _SIGNED_STEPS)
    _climb(fit, tries, scale, scale * sum_lx, keep)
    scale[zero] = 0
    if kept is not None:
        kept += np.float32(top)
        kept[:, zero] = 0
    return scale


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

    sum_qx, sum_q2 = fit(np.float32(1) / (-most / lowest))
    scale = np.where(sum_q2 > 0, sum_qx / sum_q2, np.float32(0))
    tries = ((np.float32(step) + lowest) / most for step in range(-_TRIES, _TRIES + 1))
    _climb(fit, tries, scale, scale * sum_qx)
    scale[np.abs(most) < ALL_ZERO] = 0
    return scale


def q3(x: Floats, weights: Floats, top: int) -> tuple[Floats, Bytes]:
    """x, weights (k, lanes) -> scale (lanes,), levels + top (k, lanes). ``make_q3_quants``, rmse.

    A descent by coordinates, in at most five rounds. A round that changes nothing is a lane's
    last, and few lanes need a second one.
    """
    most = extreme(x)
    zero = np.abs(most) < ALL_ZERO
    wx = weights * x
    levels = nearest_level(x * (np.float32(-top) / most), -top, top - 1).astype(np.float32)
    sum_lx = sum_rows(wx * levels)
    sum_l2 = sum_rows(weights * levels * levels)
    changed = _descend(top, x, weights, wx, levels, sum_lx, sum_l2)
    for _ in range(_DESCENTS - 1):
        left = np.flatnonzero(changed)
        if not left.size:
            break
        part = [np.take(of, left, axis=-1) for of in (x, weights, wx, levels, sum_lx, sum_l2)]
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
