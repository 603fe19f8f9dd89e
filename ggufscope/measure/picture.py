"""The weights of a tensor as a small picture: in each cell the weight of the largest magnitude."""

from __future__ import annotations

from typing import Final

import numpy as np

from ggufscope.arrays import Floats
from ggufscope.measure import reading
from ggufscope.measure.statistics import Part, weights_of

MOST: Final = 512
"""Cells down, and across."""


def picture(part: Part, most: int = MOST) -> Floats | None:
    """Part (rows, row) -> (h, w), no more than ``most`` each; None where a row is too long.

    NaN where no weight of a cell is a number. A mean would hide what stands out: outliers.
    """
    if part.row > reading.TILE:
        return None
    h, w = min(part.rows, most), min(part.row, most)
    high = np.full((h, w), np.nan, np.float32)
    low = high.copy()
    edges = np.arange(w) * part.row // w
    step = max(1, reading.TILE // part.row)
    for start in range(0, part.rows, step):
        stop = min(start + step, part.rows)
        x = weights_of(part, start * part.row, stop * part.row).reshape(-1, part.row)
        x = np.where(np.isfinite(x), x, np.float32(np.nan))
        cells = np.arange(start, stop) * h // part.rows
        np.fmax.at(high, cells, np.fmax.reduceat(x, edges, axis=1))
        np.fmin.at(low, cells, np.fmin.reduceat(x, edges, axis=1))
    found: Floats = np.where(-low > high, low, high)
    return found
