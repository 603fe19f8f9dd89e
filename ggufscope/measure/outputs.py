"""What W_O makes of each head: its share of what attention adds.

``concat(heads) @ W_O`` is the sum of ``head_i @ W_O_i``, so what a layer's attention adds to a
token is a sum with a summand for each head. How far a summand points along the sum, over the length
of the sum, is the head's share: shares add up to 1, with that of the bias where there is one. A
negative share works against what the others do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ggufscope.arrays import Doubles, Floats
from ggufscope.forward.weights import Matrix, tile_rows


def summands(kqv_out: Floats, w_o: Matrix, heads: int) -> Doubles:
    """kqv_out (H * M), W_O [E, H * M] -> ``head_i @ W_O_i`` of one token (H, E), in float64."""
    rows, row_length = w_o.shape
    step = tile_rows(row_length)
    found = np.empty((heads, rows))
    side_by_side = kqv_out.astype(np.float64).reshape(heads, -1, 1)
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        tile = w_o.rows(start, stop).reshape(stop - start, heads, -1)
        found[:, start:stop] = (tile.transpose(1, 0, 2).astype(np.float64) @ side_by_side)[..., 0]
    return found


@dataclass(frozen=True, slots=True)
class OutputShares:
    """What W_O makes of the heads of a layer, a mean over the tokens; every array (H,)."""

    shares: Doubles
    """Of the layer's attention output; with the bias they add up to 1."""
    sizes: Doubles
    """Length of a head's summand, over the length of the sum: near 0 where W_O ignores it."""


def output_shares(kqv_out: Floats, attn_out: Floats, w_o: Matrix, heads: int) -> OutputShares:
    """kqv_out (T, H * M), attn_out (T, E), W_O [E, H * M] -> the shares of its heads.

    A tile of the matrix is in memory at a time.
    """
    rows, row_length = w_o.shape
    step, width = tile_rows(row_length), row_length // heads
    along, squares = np.zeros((heads, len(kqv_out))), np.zeros((heads, len(kqv_out)))
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        tile, whole = w_o.rows(start, stop), attn_out[:, start:stop].astype(np.float64)
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            summand = (kqv_out[:, part] @ tile[:, part].T).astype(np.float64)
            along[head] += (summand * whole).sum(axis=1)
            squares[head] += (summand * summand).sum(axis=1)
    lengths = np.square(attn_out.astype(np.float64)).sum(axis=1)
    with np.errstate(all="ignore"):  # of an output of nothing but zeros nothing can be said: NaN
        return OutputShares(
            (along / lengths).mean(axis=1), (np.sqrt(squares) / np.sqrt(lengths)).mean(axis=1)
        )
