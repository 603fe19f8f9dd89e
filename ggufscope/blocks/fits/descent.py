"""A descent by coordinates: what make_q3_quants and make_qp_quants end with."""

from __future__ import annotations

from typing import Final

import numpy as np

from ggufscope.arrays import Floats, Mask
from ggufscope.blocks.ordered import nearest_int

_ROUNDS: Final = 5


def descend(
    x: Floats,
    weights: Floats,
    levels: Floats,
    sum_lx: Floats,
    sum_l2: Floats,
    low: int | None,
    high: int,
) -> None:
    """Improve levels (k, lanes), sum_lx, sum_l2 (lanes,), in place, in at most five rounds.

    A round that changes nothing is a lane's last, and few lanes need a second one. Where there is
    no ``low``, the levels are bytes as in make_qp_quants: one below zero counts as such in the
    sums, and comes back as what its byte holds.
    """
    wx = weights * x
    changed = _round(low, high, x, weights, wx, levels, sum_lx, sum_l2)
    for _ in range(_ROUNDS - 1):
        left = np.flatnonzero(changed)
        if not left.size:
            break
        part = [np.take(of, left, axis=-1) for of in (x, weights, wx, levels, sum_lx, sum_l2)]
        changed[left] = _round(low, high, *part)
        levels[:, left], sum_lx[left], sum_l2[left] = part[3:]


def _round(
    low: int | None,
    high: int,
    x: Floats,
    weights: Floats,
    wx: Floats,
    levels: Floats,
    sum_lx: Floats,
    sum_l2: Floats,
) -> Mask:
    """One round of ``descend``, in place: which lanes (lanes,) it changed.

    Each weight in turn takes the level that suits the sums of all the others, if that is better.
    """
    changed = np.zeros(sum_lx.shape, np.bool_)
    for row, weight, weighted, level in zip(x, weights, wx, levels, strict=True):
        lx = sum_lx - weighted * level
        l2 = sum_l2 - weight * level * level
        moved = lx > 0
        if low is None:
            moved &= l2 > 0
        found = np.clip(nearest_int(row * l2 / lx), low, high)
        new = found.astype(np.float32)
        moved &= new != level
        lx += weighted * new
        l2 += weight * new * new
        moved &= (l2 > 0) & (lx * lx * sum_l2 > sum_lx * sum_lx * l2)
        np.copyto(level, new if low is not None else found.astype(np.uint8), where=moved)
        np.copyto(sum_lx, lx, where=moved)
        np.copyto(sum_l2, l2, where=moved)
        changed |= moved
    return changed
