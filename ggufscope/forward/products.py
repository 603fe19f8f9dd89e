"""x @ W.T of weights that stay as they are stored: some rows at a time, in all threads.

Compiled, blocks go to a kernel that decodes what fits into a core's cache and multiplies it there;
the sum for a row and a token is the same whatever else is computed with it. In NumPy a tile of rows
is decoded and handed to the matrix library. Either way the result depends neither on the number of
threads nor on what the weights are stored as, only on the numbers that they stand for.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ggufscope.arrays import Floats
from ggufscope.blocks.codec import engine
from ggufscope.blocks.kernels import Kernels
from ggufscope.forward.weights import F32, Matrix, tile_rows
from ggufscope.pool import in_parallel

STRETCH: Final = range(1 << 18, 1 << 21)
"""Weights that a thread reads and multiplies together: it takes far longer than asking for it."""
_PARTS: Final = 8
"""Into how many a matrix is cut, within that; never by how many threads there are."""


def product(x: Floats, weight: Matrix, rows: tuple[int, int]) -> Floats:
    """x (T, in), rows [first, last) of weight [out, in] -> x @ weight[first:last].T."""
    kernels = engine().kernels
    if kernels is None:
        return _in_numpy(x, weight, *rows)
    return _compiled(kernels, x, weight, *rows)


def _compiled(kernels: Kernels, x: Floats, weight: Matrix, first: int, last: int) -> Floats:
    pieces = kernels.cut(x)
    y = np.empty((len(x), last - first), np.float32)
    least, most = (tile_rows(weight.shape[1], size) for size in (STRETCH.start, STRETCH.stop))
    step = min(most, max(least, -(-(last - first) // _PARTS)))

    def multiply(start: int) -> None:
        stop = min(start + step, last)
        blocks, layout = weight.blocks(start, stop)
        if not kernels.multiplies(layout):
            blocks, layout = weight.rows(start, stop), F32
        out = y[:, start - first : stop - first]
        kernels.multiply(layout, blocks, pieces, out)
        if not np.isfinite(out).all():
            weight.rows(start, stop)  # raises where it is the file that has what is no number

    in_parallel(multiply, range(first, last, step))
    return y


def _in_numpy(x: Floats, weight: Matrix, first: int, last: int) -> Floats:
    step = tile_rows(weight.shape[1])
    # Column by column of the result, so that each tile writes to memory of its own.
    columns = np.empty((last - first, len(x)), np.float32)
    across = np.ascontiguousarray(x.T)

    @np.errstate(all="ignore")  # numbers overflow as they do in C; the setting is the thread's
    def multiply(start: int) -> None:
        stop = min(start + step, last)
        np.matmul(weight.rows(start, stop), across, out=columns[start - first : stop - first])

    in_parallel(multiply, range(first, last, step))
    return np.ascontiguousarray(columns.T)
