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
from ggufscope.blocks.fits.affine import AffineFit, AffineSearch, by_importance, qkx2
from ggufscope.blocks.fits.positive import qp
from ggufscope.blocks.fits.symmetric import ALL_ZERO, q3, qx, qx_levels
from ggufscope.blocks.fits.weights import by_column, by_column_and_size, sums_of_squares
from ggufscope.blocks.layouts import SUPER
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
_TWO: Final = np.float32(2)


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


def _steps(values: Floats, most: int, d: Blocks, weights: Floats | None) -> Ints | Bytes:
    """values (lanes,), blocks of them in turn -> (n, s): as multiples of d (n,), which is filled.

    The largest above 0 becomes ``most``, by C's ``if (scale > max)`` from 0; 0 where there is none.
    With weights (lanes,), those of the sub-blocks, d is what fits best.
    """
    values = values.reshape(len(d), -1)
    if weights is not None:
        scale, levels = qp(values.T.copy(), weights.reshape(len(d), -1).T.copy(), most)
        d[:] = to_half(scale)
        return levels.T
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


def _affine(lanes: Floats, fit: AffineFit, top: int, d: Floats, m: Floats) -> Bytes:
    """Return levels (k, lanes) under the stored d and m; those of the search where d is 0."""
    levels = _requantize(lanes, d, m, 0, top)
    lost = np.flatnonzero(d == 0)
    if lost.size:
        levels[:, lost] = fit.levels(lanes, top)[:, lost]
    return levels


def quantize_q2_k(x: Floats, out: Blocks, importance: Floats | None) -> None:
    """x (rows, row) -> Q2_K out (rows, row / 256). ``quantize_row_q2_K_ref``, and ``_impl``."""
    lanes, blocks = lanes_of(x, 16), out.reshape(-1)
    search, weights, total = _Q2_K, np.abs(lanes), None
    if importance is not None:
        sigma2 = sums_of_squares(x, SUPER) / np.float32(SUPER)
        search, weights = by_importance(search.top), by_column_and_size(importance, lanes, sigma2)
        total = sum_rows(weights)
    fit = qkx2(lanes, weights, search)
    # Four bits each, which ggml does not clamp: none is above the largest, which is stored as 15.
    low = _steps(fit.scale, 15, blocks["d"], total)
    high = _steps(-fit.minimum, 15, blocks["dmin"], total)
    packed = (low | high << 4).astype(np.uint8)
    blocks["scales"] = packed
    d = _subscales(blocks["d"], packed & 15).reshape(-1)
    m = _subscales(blocks["dmin"], packed >> 4).reshape(-1)
    levels = _affine(lanes, fit, search.top, d, m)
    blocks["qs"] = pack_fields(rows_of(levels, len(blocks)), 2, 32)


def _quantize_32(
    x: Floats, search: AffineSearch, blocks: Blocks, importance: Floats | None
) -> Bytes:
    """x (rows, row) -> levels (n, 256); d, dmin and scales into blocks (n,).

    What Q4_K and Q5_K share.
    """
    lanes, total = lanes_of(x, 32), None
    if importance is None:
        root_mean_square = np.sqrt(sum_rows(lanes * lanes) / np.float32(len(lanes)))
        weights = root_mean_square + np.abs(lanes)
    else:
        sigma2 = _TWO * sums_of_squares(x, SUPER) / np.float32(SUPER)
        search, weights = by_importance(search.top), by_column_and_size(importance, lanes, sigma2)
        total = sum_rows(weights)
    fit = qkx2(lanes, weights, search)
    # C stores the integer in a byte before it takes the minimum.
    s: Bytes = _steps(fit.scale, 63, blocks["d"], total).astype(np.uint8)
    m: Bytes = _steps(-fit.minimum, 63, blocks["dmin"], total).astype(np.uint8)
    if importance is None or search.top == _Q5_K.top:  # Q4_K takes no minimum by importance
        s, m = np.minimum(s, 63), np.minimum(m, 63)
    blocks["scales"] = pack_scales_mins(s, m)
    s, m = unpack_scales_mins(blocks["scales"])
    d = _subscales(blocks["d"], s).reshape(-1)
    stored_m = _subscales(blocks["dmin"], m).reshape(-1)
    return rows_of(_affine(lanes, fit, search.top, d, stored_m), len(blocks))


def quantize_q4_k(x: Floats, out: Blocks, importance: Floats | None) -> None:
    """x (rows, row) -> Q4_K out (rows, row / 256). ``quantize_row_q4_K_ref``, and ``_impl``."""
    blocks = out.reshape(-1)
    blocks["qs"] = pack_fields(_quantize_32(x, _Q4_K, blocks, importance), 4, 32)


def quantize_q5_k(x: Floats, out: Blocks, importance: Floats | None) -> None:
    """x (rows, row) -> Q5_K out (rows, row / 256). ``quantize_row_q5_K_ref``, and ``_impl``."""
    blocks = out.reshape(-1)
    levels = _quantize_32(x, _Q5_K, blocks, importance)
    blocks["qs"] = pack_fields(levels & 15, 4, 32)
    blocks["qh"] = pack_fields(levels >> 4, 1, 32)


def quantize_q3_k(x: Floats, out: Blocks, importance: Floats | None) -> None:
    """x (rows, row) -> Q3_K out (rows, row / 256). ``quantize_row_q3_K_ref``, and ``_impl``.

    The two search in ways of their own.
    """
    lanes, blocks = lanes_of(x, 16), out.reshape(-1)
    n = len(blocks)
    if importance is None:
        scale, searched = q3(lanes, lanes * lanes, 4)
        scales = scale.reshape(n, -1)
        top = extreme(scales.T)
        iscale = np.float32(-32) / top
        blocks["d"] = to_half(np.where(top != 0, np.float32(1) / iscale, np.float32(0)))
        stored = np.clip(nearest_int(iscale[:, None] * scales).astype(np.int8), -32, 31)
        stored = np.where(top[:, None] != 0, stored, np.int8(-32))
    else:
        sigma2 = _TWO * sums_of_squares(x, SUPER) / np.float32(SUPER)
        weights = by_column_and_size(importance, lanes, sigma2)
        scale, iscale = qx(lanes, weights, 4)
        searched = qx_levels(lanes, iscale, 4)
        total = sum_rows(weights).reshape(n, -1).T.copy()
        scales = scale.reshape(n, -1).T.copy()
        scale, iscale = qx(scales, total, 32)
        blocks["d"] = to_half(scale)
        stored = qx_levels(scales, iscale, 32).T.view(np.int8) - np.int8(32)
    blocks["scales"] = pack_sixteen_scales((stored + np.int8(32)).view(np.uint8))
    d = _subscales(blocks["d"], stored).reshape(-1)
    levels = np.where(d != 0, _requantize(lanes, d, None, -4, 3), searched)
    rows = rows_of(levels, n)
    blocks["hmask"] = pack_fields(rows >> 2, 1, 32)
    blocks["qs"] = pack_fields(rows & 3, 2, 32)


def quantize_q6_k(x: Floats, out: Blocks, importance: Floats | None) -> None:
    """x (rows, row) -> Q6_K out (rows, row / 256). Follows ``quantize_row_q6_K_impl``.

    A weight counts the importance of its column in the fit, or its square where there is none.
    """
    lanes, blocks = lanes_of(x, 16), out.reshape(-1)
    n = len(blocks)
    weights = lanes * lanes if importance is None else by_column(importance, lanes)
    scale, searched = qx(lanes, weights, 32)
    scales = scale.reshape(n, -1)
    top = extreme(scales.T)
    iscale = np.float32(-128) / top
    blocks["d"] = to_half(np.float32(1) / iscale)
    blocks["scales"] = np.minimum(nearest_int(iscale[:, None] * scales), 127)
    d = _subscales(blocks["d"], blocks["scales"]).reshape(-1)
    levels = _requantize(lanes, d, None, -32, 31)
    lost = np.flatnonzero(d == 0)
    if lost.size:
        levels[:, lost] = qx_levels(np.take(lanes, lost, axis=1), searched[lost], 32)
    rows = rows_of(levels, n)
    blocks["ql"] = pack_fields(rows & 15, 4, 64)
    blocks["qh"] = pack_fields(rows >> 4, 2, 32)
    # Too small to be scaled: ggml clears the whole super-block.
    blocks[np.abs(top) < ALL_ZERO] = 0
