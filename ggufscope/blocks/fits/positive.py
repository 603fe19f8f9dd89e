"""A scale for numbers from 0: qp. It stores the scales and minimums of a super-block."""

from __future__ import annotations

from typing import Final

import numpy as np

from ggufscope.arrays import Bytes, Floats, Ints
from ggufscope.blocks.fits.descent import descend
from ggufscope.blocks.fits.symmetric import ALL_ZERO
from ggufscope.blocks.ordered import largest_by_macro, nearest_int, sum_rows

_STEPS: Final = tuple(step for step in range(-4, 5) if step)


def qp(x: Floats, weights: Floats, top: int) -> tuple[Floats, Bytes]:
    """x, weights (k, lanes) -> scale (lanes,), levels (k, lanes). ``make_qp_quants``.

    Levels are bytes up to ``top``. Nothing clamps them from below, so a number below 0, which
    rounding errors of a search can give, gets a byte far above the top, as in ggml.
    """
    most = largest_by_macro(np.concatenate([np.zeros_like(x[:1]), x]))
    zero = most < ALL_ZERO

    def misfit(levels: Ints | Bytes, scale: Floats) -> Floats:
        diff = x - scale * levels.astype(np.float32)
        return sum_rows(weights * diff * diff)

    iscale = np.float32(top) / most
    best = misfit(nearest_int(x * iscale).astype(np.uint8), np.float32(1) / iscale)
    for step in _STEPS:
        tried = (np.float32(0.1) * np.float32(step) + np.float32(top)) / most
        error = misfit(np.minimum(nearest_int(x * tried), top), np.float32(1) / tried)
        better = error < best
        np.copyto(best, error, where=better)
        np.copyto(iscale, tried, where=better)
    signed = np.minimum(nearest_int(x * iscale), top)
    levels = signed.astype(np.float32)
    sum_lx, sum_l2 = sum_rows(weights * x * levels), sum_rows(weights * levels * levels)
    levels = signed.astype(np.uint8).astype(np.float32)
    descend(x, weights, levels, sum_lx, sum_l2, None, top)
    scale = np.where(sum_l2 > 0, sum_lx / sum_l2, np.float32(0))
    scale[zero] = 0
    levels[:, zero] = 0
    return scale, levels.astype(np.uint8)
