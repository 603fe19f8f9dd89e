"""K-quants: super-blocks of 256 weights, Q2_K to Q6_K, whose sub-blocks have small integer scales.

A super-block is cut into sub-blocks of 16 or 32 weights. Each gets a scale from a search
(``fits``), and some types a minimum too; these are then themselves stored as a few bits, as
multiples of one float16 ``d`` (and ``dmin``). With the stored scales the weights are rounded once
more, and that is what is written. Q8_K is only read: ggml makes it for dot products.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ggufscope.arrays import Blocks, Bytes, Floats, Ints
from ggufscope.blocks.fits.affine import AffineSearch, qkx2
from ggufscope.blocks.fits.symmetric import ALL_ZERO, q3, qx
from ggufscope.blocks.fits.weights import by_column
from ggufscope.blocks.ordered import (
    extreme,
    from_half,
    lanes_of,
    largest,
    nearest_int,
    nearest_level,
    per_weight,
    rows_of,
    sum_rows,
    to_half,
)
from ggufscope.blocks.packing import (
    pack_fields,
    pack_scales_mins,
    pack_sixteen_scales,
    planes,
    read_fields,
    unpack_fields,
    unpack_scales_mins,
    unpack_sixteen_scales,
)

_Q2_K: Final = AffineSearch(top=3, first=-0.5, step=0.1, last=15, absolute=True)
_Q4_K: Final = AffineSearch(top=15, first=-1.0, step=0.1, last=20, absolute=False)
_Q5_K: Final = AffineSearch(top=31, first=-0.5, step=0.1, last=15, absolute=False)


def _subscales(d: Blocks, scales: Bytes) -> Floats:
    """d (n,), scales (n, s) -> (n, s): float32 of each sub-block."""
    return from_half(d)[:, None] * scales.astype(np.float32)


def dequantize_q2_k(blocks: Blocks, out: Floats) -> None:
    """Q2_K (n,) -> out (n, 256): d * scale * level - dmin * minimum, sub-blocks of 16."""
    read_fields(blocks["qs"], 2, 32, 0, out)
    out *= per_weight(_subscales(blocks["d"], blocks["scales"] & 15), out)
    out -= per_weight(_subscales(blocks["dmin"], blocks["scales"] >> 4), out)


def dequantize_q3_k(blocks: Blocks, out: Floats) -> None:
    """Q3_K (n,) -> out (n, 256): d * (scale - 32) * (level - 4), sub-blocks of 16."""
    levels = unpack_fields(blocks["hmask"], 1, 32, up=2, zero=4)
    levels |= unpack_fields(blocks["qs"], 2, 32)
    np.copyto(out, levels.view(np.int8))
    scales = unpack_sixteen_scales(blocks["scales"]).view(np.int8) - np.int8(32)
    out *= per_weight(_subscales(blocks["d"], scales), out)


def dequantize_q4_k(blocks: Blocks, out: Floats) -> None:
    """Q4_K (n,) -> out (n, 256): d * scale * level - dmin * minimum, sub-blocks of 32."""
    scales, minimums = unpack_scales_mins(blocks["scales"])
    read_fields(blocks["qs"], 4, 32, 0, out)
    out *= per_weight(_subscales(blocks["d"], scales), out)
    out -= per_weight(_subscales(blocks["dmin"], minimums), out)


def dequantize_q5_k(blocks: Blocks, out: Floats) -> None:
    """Q5_K (n,) -> out (n, 256): as Q4_K, the fifth bit of each level in ``qh``."""
    levels = unpack_fields(blocks["qh"], 1, 32, up=4)
    levels |= unpack_fields(blocks["qs"], 4, 32)
    scales, minimums = unpack_scales_mins(blocks["scales"])
    np.copyto(out, levels)
    out *= per_weight(_subscales(blocks["d"], scales), out)
    out -= per_weight(_subscales(blocks["dmin"], minimums), out)


def dequantize_q6_k(blocks: Blocks, out: Floats) -> None:
    """Q6_K (n,) -> out (n, 256): d * scale * (level - 32), sub-blocks of 16.

    Quarters of 32 weights, A to D, of each half of 128, with l from 0 to 31::

        qh[l]         DDCCBBAA     their upper bits
        ql[l]         CCCCAAAA     their nibbles
        ql[l + 32]    DDDDBBBB
    """
    quarters = out.reshape(-1, 4, 32)
    by_half = blocks["ql"].reshape(-1, 2, 2, 32).transpose(2, 0, 1, 3)
    pairs = np.ascontiguousarray(by_half).reshape(2, -1, 32)
    for quarter, upper in enumerate(planes(blocks["qh"], 2, up=4, zero=32)):
        levels = upper.reshape(-1, 32)
        levels |= pairs[quarter % 2] >> np.uint8(4) if quarter > 1 else pairs[quarter] & 15
        quarters[:, quarter] = levels.view(np.int8)
    out *= per_weight(_subscales(blocks["d"], blocks["scales"]), out)


def dequantize_q8_k(blocks: Blocks, out: Floats) -> None:
    """Q8_K (n,) -> out (n, 256): d * level, d a float32."""
    np.copyto(out, blocks["qs"])
    out *= per_weight(blocks["d"].astype(np.float32), out)


def _steps(values: Floats, most: int, d: Blocks) -> Ints:
    """values (lanes,), blocks of them in turn -> (n, s): as multiples of d (n,), which is filled.

    The largest above 0 becomes ``most``, by C's ``if (scale > max)`` from 0; 0 where there is none.
    """
    values = values.reshape(len(d), -1)
    top = largest(values.T, np.float32(0))
    top = np.where(top > 0, top, np.float32(0))
    d[:] = to_half(top / np.float32(most))
    inverse = np.where(top > 0, np.float32(most) / top, np.float32(0))
    return nearest_int(inverse[:, None] * values)


def _requantize(x: Floats, d: Floats, m: Floats | None, low: int, high: int) -> Bytes:
    """x (k, lanes), d, m (lanes,) -> levels less ``low`` (k, lanes): round((x + m) / d), clamped.

    The last rounding of every K-quant, with the scales as they are stored.
    """
    t = (x if m is None else x + m) / d
    levels = nearest_level(t, low, high)
    levels -= low
    return levels.astype(np.uint8)


def _affine(lanes: Floats, weights: Floats, search: AffineSearch, d: Floats, m: Floats) -> Bytes:
    """Return levels (k, lanes) under the stored d and m; those of the search where d is 0."""
    levels = _requantize(lanes, d, m, 0, search.top)
    lost = np.flatnonzero(d == 0)
    if lost.size:
        part, part_weights = np.take(lanes, lost, axis=1), np.take(weights, lost, axis=1)
        kept = np.empty_like(part)
        qkx2(part, part_weights, search, kept)
        levels[:, lost] = kept
    return levels


def quantize_q2_k(x: Floats, out: Blocks) -> None:
    """x (n, 256) -> Q2_K out (n,). Follows ``quantize_row_q2_K_ref``."""
    lanes = lanes_of(x, 16)
    weights = np.abs(lanes)
    scale, minimum = qkx2(lanes, weights, _Q2_K)
    # Four bits each, which ggml does not clamp: none is above the largest, which is stored as 15.
    low, high = _steps(scale, 15, out["d"]), _steps(-minimum, 15, out["dmin"])
    packed = (low | high << 4).astype(np.uint8)
    out["scales"] = packed
    d = _subscales(out["d"], packed & 15).reshape(-1)
    m = _subscales(out["dmin"], packed >> 4).reshape(-1)
    out["qs"] = pack_fields(rows_of(_affine(lanes, weights, _Q2_K, d, m), len(x)), 2, 32)


def _quantize_32(x: Floats, search: AffineSearch, out: Blocks) -> Bytes:
    """x (n, 256) -> levels (n, 256); d, dmin and scales into out: what Q4_K and Q5_K share."""
    lanes = lanes_of(x, 32)
    root_mean_square = np.sqrt(sum_rows(lanes * lanes) / np.float32(len(lanes)))
    weights = root_mean_square + np.abs(lanes)
    scale, minimum = qkx2(lanes, weights, search)
    # C stores the integer in a byte before it takes the minimum.
    s = np.minimum(_steps(scale, 63, out["d"]).astype(np.uint8), 63)
    m = np.minimum(_steps(-minimum, 63, out["dmin"]).astype(np.uint8), 63)
    out["scales"] = pack_scales_mins(s, m)
    stored_d = _subscales(out["d"], s).reshape(-1)
    stored_m = _subscales(out["dmin"], m).reshape(-1)
    return rows_of(_affine(lanes, weights, search, stored_d, stored_m), len(x))


def quantize_q4_k(x: Floats, out: Blocks) -> None:
    """x (n, 256) -> Q4_K out (n,). Follows ``quantize_row_q4_K_ref``."""
    out["qs"] = pack_fields(_quantize_32(x, _Q4_K, out), 4, 32)


def quantize_q5_k(x: Floats, out: Blocks) -> None:
    """x (n, 256) -> Q5_K out (n,). Follows ``quantize_row_q5_K_ref``."""
    levels = _quantize_32(x, _Q5_K, out)
    out["qs"] = pack_fields(levels & 15, 4, 32)
    out["qh"] = pack_fields(levels >> 4, 1, 32)


def quantize_q3_k(x: Floats, out: Blocks) -> None:
    """x (n, 256) -> Q3_K out (n,). Follows ``quantize_row_q3_K_ref``."""
    n = len(x)
    lanes = lanes_of(x, 16)
    scale, searched = q3(lanes, lanes * lanes, 4)
    scales = scale.reshape(n, -1)
    top = extreme(scales.T)
    iscale = np.float32(-32) / top
    out["d"] = to_half(np.where(top != 0, np.float32(1) / iscale, np.float32(0)))
    stored = np.clip(nearest_int(iscale[:, None] * scales).astype(np.int8), -32, 31)
    stored = np.where(top[:, None] != 0, stored, np.int8(-32))
    out["scales"] = pack_sixteen_scales((stored + np.int8(32)).view(np.uint8))
    d = _subscales(out["d"], stored).reshape(-1)
    levels = np.where(d != 0, _requantize(lanes, d, None, -4, 3), searched)
    rows = rows_of(levels, n)
    out["hmask"] = pack_fields(rows >> 2, 1, 32)
    out["qs"] = pack_fields(rows & 3, 2, 32)


def quantize_q6_k(x: Floats, out: Blocks, importance: Floats | None) -> None:
    """x (rows, row) -> Q6_K out (rows, row / 256). Follows ``quantize_row_q6_K_impl``.

    A weight counts the importance of its column in the fit, or its square where there is none.
    """
    lanes, blocks = lanes_of(x, 16), out.reshape(-1)
    n = len(blocks)
    weights = lanes * lanes if importance is None else by_column(importance, lanes)
    scales = qx(lanes, weights, 32).reshape(n, -1)
    top = extreme(scales.T)
    iscale = np.float32(-128) / top
    blocks["d"] = to_half(np.float32(1) / iscale)
    blocks["scales"] = np.minimum(nearest_int(iscale[:, None] * scales), 127)
    d = _subscales(blocks["d"], blocks["scales"]).reshape(-1)
    levels = _requantize(lanes, d, None, -32, 31)
    lost = np.flatnonzero(d == 0)
    if lost.size:
        part, kept = np.take(lanes, lost, axis=1), np.empty((16, lost.size), np.float32)
        qx(part, np.take(weights, lost, axis=1), 32, kept)
        levels[:, lost] = kept
    rows = rows_of(levels, n)
    blocks["ql"] = pack_fields(rows & 15, 4, 64)
    blocks["qh"] = pack_fields(rows >> 4, 2, 32)
    # Too small to be scaled: ggml clears the whole super-block.
    blocks[np.abs(top) < ALL_ZERO] = 0
