"""x @ W.T of weights that stay as they are stored: some rows at a time, in all threads.

Compiled, blocks go to a kernel that decodes what fits into a core's cache and multiplies it there;
the sum for a row and a token is the same whatever else is computed with it. In NumPy a tile of rows
is decoded and handed to the matrix library. Either way the result depends neither on the number of
threads nor on what the weights are stored as, only on the numbers that they stand for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

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


Factor: TypeAlias = tuple[Floats, Matrix, tuple[int, int]]
"""x (T, in), weight [out, in], and which of its rows: [first, last)."""


def product(x: Floats, weight: Matrix, rows: tuple[int, int]) -> Floats:
    """x (T, in), rows [first, last) of weight [out, in] -> x @ weight[first:last].T."""
    return products([(x, weight, rows)])[0]


def products(factors: Sequence[Factor]) -> list[Floats]:
    """Return ``product`` of each (x, weight, rows): threads wait for each other once, not each."""
    kernels = engine().kernels
    if kernels is None:
        return _in_numpy(factors)
    return _compiled(kernels, factors)


def _compiled(kernels: Kernels, factors: Sequence[Factor]) -> list[Floats]:
    pieces: dict[int, Floats] = {}
    tiles: list[tuple[int, int, int]] = []
    made: list[Floats] = []
    for at, (x, weight, (first, last)) in enumerate(factors):
        if id(x) not in pieces:
            pieces[id(x)] = kernels.cut(x)
        made.append(np.empty((len(x), last - first), np.float32))
        least, most = (tile_rows(weight.shape[1], size) for size in (STRETCH.start, STRETCH.stop))
        step = min(most, max(least, -(-(last - first) // _PARTS)))
        tiles += [(at, start, min(start + step, last)) for start in range(first, last, step)]

    def multiply(tile: tuple[int, int, int]) -> None:
        at, start, stop = tile
        x, weight, (first, _) = factors[at]
        blocks, layout = weight.blocks(start, stop)
        if not kernels.multiplies(layout):
            blocks, layout = weight.rows(start, stop), F32
        out = made[at][:, start - first : stop - first]
        kernels.multiply(layout, blocks, pieces[id(x)], out)
        if not np.isfinite(out).all():
            weight.rows(start, stop)  # raises where it is the file that has what is no number

    in_parallel(multiply, tiles)
    return made


def _in_numpy(factors: Sequence[Factor]) -> list[Floats]:
    # Column by column of the result, so that each tile writes to memory of its own.
    columns: list[Floats] = []
    tiles: list[tuple[int, int, int]] = []
    for at, (x, weight, (first, last)) in enumerate(factors):
        columns.append(np.empty((last - first, len(x)), np.float32))
        step = tile_rows(weight.shape[1])
        tiles += [(at, start, min(start + step, last)) for start in range(first, last, step)]
    across = {id(x): np.ascontiguousarray(x.T) for x, _, _ in factors}

    @np.errstate(all="ignore")  # numbers overflow as they do in C; the setting is the thread's
    def multiply(tile: tuple[int, int, int]) -> None:
        at, start, stop = tile
        x, weight, (first, _) = factors[at]
        out = columns[at][start - first : stop - first]
        np.matmul(weight.rows(start, stop), across[id(x)], out=out)

    in_parallel(multiply, tiles)
    return [np.ascontiguousarray(each.T) for each in columns]
