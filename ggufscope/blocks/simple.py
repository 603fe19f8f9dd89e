"""One scale a block, found in one pass: Q1_0 Q2_0 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q8_1.

Each block is a lane: ``x`` comes as rows, one block a row, and is transposed once.
Q8_1 is only read: ggml makes it on the fly for dot products and never stores it in a file.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ggufscope.arrays import Blocks, Bytes, Floats
from ggufscope.blocks.fits.affine import by_importance, qkx2
from ggufscope.blocks.fits.symmetric import qx, qx_levels
from ggufscope.blocks.fits.weights import by_column_and_size, sums_of_squares
from ggufscope.blocks.ordered import (
    LARGEST,
    extreme,
    flip_signs,
    from_half,
    lanes_of,
    largest,
    nudge_away,
    peak,
    peak_of_rows,
    per_weight,
    reciprocal,
    rows_of,
    smallest,
    sum_rows,
    to_half,
    truncate,
)
from ggufscope.blocks.packing import pack_fields, read_fields, unpack_fields

_LENGTH: Final = 32
"""Weights in a block of Q4_0, Q4_1, Q5_0 and Q5_1."""


def dequantize_q1_0(blocks: Blocks, out: Floats) -> None:
    """Q1_0 (n,) -> out (n, 128): d for a set bit, -d for a clear one."""
    out[...] = from_half(blocks["d"])[:, None]
    flip_signs(out, unpack_fields(~blocks["qs"], 1, 1))


def quantize_q1_0(x: Floats, out: Blocks) -> None:
    """x (n, 128) -> Q1_0 out (n,): the mean magnitude and the signs. ``quantize_row_q1_0_ref``."""
    lanes = lanes_of(x, x.shape[1])
    out["d"] = to_half(sum_rows(np.abs(lanes)) / np.float32(len(lanes)))
    out["qs"] = pack_fields((x >= 0).view(np.uint8), 1, 1)


def dequantize_q2_0(blocks: Blocks, out: Floats) -> None:
    """Q2_0 (n,) -> out (n, 64): d * (level - 1), so -d, 0, d or 2d."""
    read_fields(blocks["qs"], 2, 1, 1, out)
    out *= per_weight(from_half(blocks["d"]), out)


def quantize_q2_0(x: Floats, out: Blocks) -> None:
    """x (n, 64) -> Q2_0 out (n,). ``quantize_row_q2_0_ref``: 2d is never reached from a peak."""
    lanes = lanes_of(x, x.shape[1])
    d = peak(lanes)
    lanes *= reciprocal(d)
    levels = np.clip(truncate(nudge_away(lanes)) + 1, 0, 3)
    out["d"] = to_half(d)
    out["qs"] = pack_fields(rows_of(levels.astype(np.uint8), len(x)), 2, 1)


def dequantize_q4_0(blocks: Blocks, out: Floats) -> None:
    """Q4_0 (n,) -> out (n, 32): d * (level - 8)."""
    read_fields(blocks["qs"], 4, 16, 8, out)
    out *= per_weight(from_half(blocks["d"]), out)


def dequantize_q4_1(blocks: Blocks, out: Floats) -> None:
    """Q4_1 (n,) -> out (n, 32): d * level + m."""
    read_fields(blocks["qs"], 4, 16, 0, out)
    out *= per_weight(from_half(blocks["d"]), out)
    out += per_weight(from_half(blocks["m"]), out)


def dequantize_q5_0(blocks: Blocks, out: Floats) -> None:
    """Q5_0 (n,) -> out (n, 32): d * (level - 16)."""
    levels = unpack_fields(blocks["qh"], 1, 1, up=4, zero=16)
    levels |= unpack_fields(blocks["qs"], 4, 16)
    np.copyto(out, levels.view(np.int8))
    out *= per_weight(from_half(blocks["d"]), out)


def dequantize_q5_1(blocks: Blocks, out: Floats) -> None:
    """Q5_1 (n,) -> out (n, 32): d * level + m."""
    levels = unpack_fields(blocks["qh"], 1, 1, up=4)
    levels |= unpack_fields(blocks["qs"], 4, 16)
    np.copyto(out, levels)
    out *= per_weight(from_half(blocks["d"]), out)
    out += per_weight(from_half(blocks["m"]), out)


def _weights(x: Floats, lanes: Floats, importance: Floats) -> Floats:
    """Return what each weight counts (32, lanes): by its column, its size, and that of its row."""
    sigma2 = sums_of_squares(x, x.shape[1]) / np.float32(x.shape[1])
    return by_column_and_size(importance, lanes, sigma2)


def _centred(x: Floats, bits: int, importance: Floats | None) -> tuple[Floats, Bytes]:
    """x (rows, row) -> d (n,), levels (n, 32): the weight of the largest magnitude gets level 0.

    With an even number of levels one end reaches further than the other, and this weight, of
    either sign, is given the far end: d carries the opposite sign. With an importance that is only
    where the search starts: a weight then counts by the mean square of its whole row, too.
    """
    half = 1 << bits - 1
    lanes = lanes_of(x, _LENGTH)
    if importance is None:
        d = extreme(lanes) / np.float32(-half)
        lanes *= reciprocal(d)
        lanes += np.float32(half + 0.5)
        # C casts to int8 before it takes the minimum, and the cast keeps the low byte.
        levels: Bytes = np.minimum(lanes.astype(np.int8), np.int8(2 * half - 1)).view(np.uint8)
    else:
        d, iscale = qx(lanes, _weights(x, lanes, importance), half)
        levels = qx_levels(lanes, iscale, half)
    return d, rows_of(levels, d.size)


def _from_minimum(x: Floats, bits: int, importance: Floats | None) -> tuple[Floats, Floats, Bytes]:
    """x (rows, row) -> d (n,), m (n,), levels (n, 32): level 0 is the smallest weight.

    With an importance d and m are what fits best.
    """
    top = (1 << bits) - 1
    lanes = lanes_of(x, _LENGTH)
    if importance is None:
        m = smallest(lanes, LARGEST)
        d = (largest(lanes, -LARGEST) - m) / np.float32(top)
        lanes -= m
        lanes *= reciprocal(d)
        lanes += np.float32(0.5)
        if bits == 4:  # with an int8 and a minimum
            levels: Bytes = np.minimum(lanes.astype(np.int8), np.int8(top)).view(np.uint8)
        else:
            levels = lanes.astype(np.int32).astype(np.uint8)
    else:
        fit = qkx2(lanes, _weights(x, lanes, importance), by_importance(top))
        d, m, levels = fit.scale, fit.minimum, fit.levels(lanes, top)
    return d, m, rows_of(levels, d.size)


def quantize_q4_0(x: Floats, out: Blocks, importance: Floats | None) -> None:
    """x (rows, row) -> Q4_0 out (rows, row / 32). ``quantize_row_q4_0_ref``, and ``_impl``."""
    d, levels = _centred(x, 4, importance)
    blocks = out.reshape(-1)
    blocks["d"] = to_half(d)
    blocks["qs"] = pack_fields(levels, 4, 16)


def quantize_q4_1(x: Floats, out: Blocks, importance: Floats | None) -> None:
    """x (rows, row) -> Q4_1 out (rows, row / 32). ``quantize_row_q4_1_ref``, and ``_impl``."""
    d, m, levels = _from_minimum(x, 4, importance)
    blocks = out.reshape(-1)
    blocks["d"] = to_half(d)
    blocks["m"] = to_half(m)
    blocks["qs"] = pack_fields(levels, 4, 16)


def _store_five_bits(levels: Bytes, out: Blocks) -> None:
    out["qs"] = pack_fields(levels & 15, 4, 16)
    out["qh"] = pack_fields(levels >> 4 & 1, 1, 1)


def quantize_q5_0(x: Floats, out: Blocks, importance: Floats | None) -> None:
    """x (rows, row) -> Q5_0 out (rows, row / 32). ``quantize_row_q5_0_ref``, and ``_impl``."""
    d, levels = _centred(x, 5, importance)
    blocks = out.reshape(-1)
    blocks["d"] = to_half(d)
    _store_five_bits(levels, blocks)


def quantize_q5_1(x: Floats, out: Blocks, importance: Floats | None) -> None:
    """x (rows, row) -> Q5_1 out (rows, row / 32). ``quantize_row_q5_1_ref``, and ``_impl``."""
    d, m, levels = _from_minimum(x, 5, importance)
    blocks = out.reshape(-1)
    blocks["d"] = to_half(d)
    blocks["m"] = to_half(m)
    _store_five_bits(levels, blocks)


def dequantize_q8(blocks: Blocks, out: Floats) -> None:
    """Q8_0 or Q8_1 (n,) -> out (n, 32): d * level."""
    np.copyto(out, blocks["qs"])
    out *= per_weight(from_half(blocks["d"]), out)


def quantize_q8_0(x: Floats, out: Blocks) -> None:
    """x (n, 32) -> Q8_0 out (n,). Follows ``quantize_row_q8_0_ref``."""
    d = peak_of_rows(x) / np.float32(127)
    out["d"] = to_half(d)
    out["qs"] = nudge_away(x * per_weight(reciprocal(d), x)).astype(np.int8)
