"""IQ1_S and IQ1_M: one bit and a half; vectors of eight -1, 0 and 1, moved by an eighth."""

from __future__ import annotations

from typing import Final

import numpy as np

from ggufscope.arrays import Blocks, Floats, Integers, Ints, Words16
from ggufscope.blocks import grids
from ggufscope.blocks.fits.splits import DELTA, best_split
from ggufscope.blocks.fits.vectors import (
    best_neighbour,
    require,
    sigma2_of,
    stored_scales,
)
from ggufscope.blocks.fits.weights import by_column_and_size
from ggufscope.blocks.layouts import SUPER
from ggufscope.blocks.neighbours import codebook
from ggufscope.blocks.ordered import (
    from_half,
    lanes_of,
    largest_by_macro,
    per_weight,
    rows_of,
    sum_rows,
    to_half,
)
from ggufscope.blocks.packing import pack_fields, unpack_fields

_ONE: Final = np.float32(1)


def _fill(
    out: Floats,
    index: Words16,
    minus: Integers,
    d: Floats,
    scales: Integers,
) -> None:
    """Fill out (n, 256) with d * (2 * scale + 1) * (grid +- delta).

    Index (n, 32); minus and scales (n, s): each serves a run of 256 / s weights.
    """
    np.copyto(out, grids.lookup(grids.IQ1_S, index))
    out += per_weight(np.where(minus != 0, -DELTA, DELTA), out)
    out *= per_weight(d[:, None] * (2 * scales + 1).astype(np.float32), out)


def dequantize_iq1_s(blocks: Blocks, out: Floats) -> None:
    """IQ1_S (n,) -> out (n, 256), with one ``qh`` for 32 weights, in vectors A to D.

    ::

    MSSSDDDCCCBBBAAA    A B C D = upper bits of the index    S = scale    M = minus delta
    """
    qh = blocks["qh"].astype(np.uint16)
    high = qh[:, :, None] >> np.array([0, 3, 6, 9], np.uint16) & 7
    index = blocks["qs"] | high.reshape(len(blocks), -1) << 8
    _fill(out, index, qh >> 15, from_half(blocks["d"]), qh >> 12 & 7)


def dequantize_iq1_m(blocks: Blocks, out: Floats) -> None:
    """IQ1_M (n,) -> out (n, 256), with a nibble of ``qh`` for 8 weights, a 16-bit scale for 64.

    ::

        qh       MAAA                A = upper bits of the index    M = minus delta
        scales   HHHHDDDCCCBBBAAA    A B C D = scales of 16 weights each    H = a quarter of d

    The four quarters of the float16 d stand in order, the lowest first.
    """
    n = len(blocks)
    qh = unpack_fields(blocks["qh"], 4, 1)
    index = blocks["qs"] | (qh & 7).astype(np.uint16) << 8
    words = np.ascontiguousarray(blocks["scales"]).view("<u2").astype(np.uint16)
    quarters = words >> 12 << np.array([0, 4, 8, 12], np.uint16)
    d = from_half(np.bitwise_or.reduce(quarters, axis=1).view(np.float16))
    scales = words[:, :, None] >> np.array([0, 3, 6, 9], np.uint16) & 7
    _fill(out, index, qh >> 3, d, scales.reshape(n, -1))


def _fit(
    x: Floats, weights: Floats, length: int, runs: int, least: float
) -> tuple[Floats, Ints, Ints]:
    """x, weights (length, n) -> scale (n,), entries (length / 8, n), runs moved down (n,), as bits.

    Raises ``UnmakeableBlock``.
    """
    book, n = codebook("IQ1_S"), x.shape[1]
    scale, entries = np.zeros(n, np.float32), np.zeros((length // 8, n), np.int32)
    minus = np.zeros(n, np.int32)
    peak = largest_by_macro(np.abs(x))
    live = np.flatnonzero(~(peak < np.float32(least)))
    split = best_split(x[:, live], weights[:, live], runs)
    fitted = np.flatnonzero(split.minus >= 0)
    live, levels = live[fitted], split.levels[:, fitted]
    x, weights = x[:, live], weights[:, live]
    found, moved = split.scale[fitted], split.minus[fitted]
    turned = found < 0
    found[turned] *= np.float32(-1)
    levels[:, turned] = 2 - levels[:, turned]
    moved[turned] ^= (1 << runs) - 1

    # Each vector of eight belongs to one run: all of IQ1_S's to its only one, IQ1_M's to their own.
    run = np.arange(length // 8)[:, None] * 8 * runs // length
    lowest = np.where(moved >> runs - 1 - run & 1, -_ONE - DELTA, -_ONE + DELTA)
    shape = (length // 8, 8, len(live))
    vectors, counts = (of.reshape(shape).swapaxes(0, 1) for of in (x, weights))
    points = book.pack(levels.reshape(shape).swapaxes(0, 1))
    vector, lane = np.nonzero(book.place[points] < 0)
    points[vector, lane] = best_neighbour(
        *(book, points[vector, lane], vectors[:, vector, lane], counts[:, vector, lane]),
        *(found[lane], lowest[vector, lane], 1),
    )
    q = (book.unpack(points) + lowest).swapaxes(0, 1).reshape(x.shape)
    sum_qx, sum_q2 = sum_rows(weights * q * x), sum_rows(weights * q * q)
    again = np.zeros(len(live), np.bool_)
    again[lane] = True
    again &= (sum_qx > 0) & (sum_q2 > 0)
    np.copyto(found, sum_qx / sum_q2, where=again)
    require(not np.isnan(found).any())
    scale[live], minus[live], entries[:, live] = found, moved, book.place[points]
    return scale, entries, minus


def quantize_iq1_s(x: Floats, out: Blocks, importance: Floats) -> None:
    """x (rows, row) -> IQ1_S out (rows, row / 256). Follows ``quantize_row_iq1_s_impl``."""
    lanes, blocks = lanes_of(x, 32), out.reshape(-1)
    weights = by_column_and_size(importance, lanes, sigma2_of(x, 2))
    scale, entries, minus = _fit(lanes, weights, 32, 1, 1e-12)
    d, levels, zero = stored_scales(scale.reshape(len(blocks), -1), 15, 8)
    levels = np.where(zero[:, None], 0, levels | minus.reshape(levels.shape) << 3)
    high = np.bitwise_or.reduce(entries >> 8 << np.array([[0], [3], [6], [9]]), axis=0)
    blocks["d"] = to_half(np.where(zero, np.float32(0), d * np.float32(1.125)))
    blocks["qs"] = rows_of(entries & 255, len(blocks))
    blocks["qh"] = high.reshape(levels.shape) | levels << 12


def quantize_iq1_m(x: Floats, out: Blocks, importance: Floats | None) -> None:
    """x (rows, row) -> IQ1_M out (rows, row / 256). Follows ``quantize_row_iq1_m_impl``."""
    lanes, blocks = lanes_of(x, 16), out.reshape(-1)
    if importance is None:
        weights = np.square(lanes)
    else:
        weights = by_column_and_size(importance, lanes, sigma2_of(x, 2))
    scale, entries, minus = _fit(lanes, weights, 16, 2, 1e-7)
    n = len(blocks)
    d, levels, zero = stored_scales(scale.reshape(n, -1), 15, 8)
    minus = np.stack([minus >> 1, minus & 1])
    # The scale of the super-block is solved for again, with all that is stored.
    delta = np.where(minus, -DELTA, DELTA)
    q = grids.IQ1_S[entries].astype(np.float32) + delta[:, :, None]
    q *= (2 * levels + 1).astype(np.float32).reshape(-1, 1)
    q = q.swapaxes(0, 1).reshape(n, SUPER).T
    counts = rows_of(weights, n).T
    sum_qx, sum_q2 = sum_rows(counts * q * x.reshape(n, SUPER).T), sum_rows(counts * q * q)
    d = np.where(sum_q2 > 0, sum_qx / sum_q2, d)
    bits = to_half(d * np.float32(1.1125)).view("<u2")
    packed = np.bitwise_or.reduce(levels.reshape(n, 4, 4) << np.array([0, 3, 6, 9]), axis=2)
    packed |= (bits[:, None] >> np.array([0, 4, 8, 12]) & 15).astype(np.int32) << 12
    minus[:, np.repeat(zero, SUPER // 16)] = 0
    nibbles = rows_of(entries >> 8 | minus << 3, n).astype(np.uint8)
    blocks["qs"] = rows_of(entries & 255, n)
    blocks["qh"] = pack_fields(nibbles, 4, 1)
    blocks["scales"] = np.where(zero[:, None], 0, packed).astype("<u2").view(np.uint8)
