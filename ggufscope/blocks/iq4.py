"""IQ4_NL and IQ4_XS: four bits, sixteen levels that are not evenly spaced."""

from __future__ import annotations

from typing import Final

import numpy as np

from ggufscope.arrays import Blocks, Bytes, Floats, Ints, Places
from ggufscope.blocks.fits.symmetric import qvalues
from ggufscope.blocks.fits.weights import by_column_and_size, sums_of_squares
from ggufscope.blocks.layouts import SUPER
from ggufscope.blocks.ordered import (
    extreme,
    from_half,
    lanes_of,
    nearest_level,
    per_weight,
    reciprocal,
    rows_of,
    to_half,
)
from ggufscope.blocks.packing import pack_fields, unpack_fields

VALUES: Final = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8
)
"""(16,): the levels (ggml's ``kvalues_iq4nl``)."""

_LENGTH: Final = 32
"""Weights that share a scale."""


def _code_of_doubled() -> Bytes:
    doubled = np.arange(-256, 257)
    middles = VALUES[1:].astype(np.int64) + VALUES[:-1]
    return np.searchsorted(middles, doubled, side="right").astype(np.uint8)


_CODES: Final = _code_of_doubled()
"""(513,): the nearest code for floor(2 * x) from -256 to 256. Each middle between two levels is
a multiple of one half, so floor(2 * x) tells on which side x lies; the middle belongs above."""

_LEVELS: Final = VALUES.astype(np.float32)[_CODES]


def _places(t: Floats) -> Places:
    """t -> the place of each number in ``_CODES``; t is overwritten.

    ggml's ``best_index_int8`` ends at the highest level for NaN, for no comparison holds.
    """
    t += t
    np.floor(t, out=t)
    t += np.float32(256)
    np.fmin(t, np.float32(512), out=t)
    np.maximum(t, np.float32(0), out=t)
    return t.astype(np.intp)


def _codes(t: Floats) -> Bytes:
    return _CODES.take(_places(t))


def _nearest(t: Floats, out: Floats) -> None:
    _LEVELS.take(_places(t), out=out)


def _scales(x: Floats, length: int, lanes: Floats, importance: Floats | None) -> Floats:
    """x (rows, row) in blocks of ``length``, its lanes (32, lanes) -> (lanes,)."""
    if importance is None:
        weights = np.square(lanes)
    else:
        sigma2 = sums_of_squares(x, length) * np.float32(2 / length)
        weights = by_column_and_size(importance, lanes, sigma2)
    return qvalues(lanes, weights, np.float32(VALUES[0]), _nearest)


def dequantize_iq4_nl(blocks: Blocks, out: Floats) -> None:
    """IQ4_NL (n,) -> out (n, 32): d * value."""
    np.copyto(out, VALUES[unpack_fields(blocks["qs"], 4, 16)])
    out *= per_weight(from_half(blocks["d"]), out)


def scales_xs(blocks: Blocks) -> Ints:
    """IQ4_XS (n,) -> (n, 8), each under 64.

    Scale of sub-block j: nibble j of ``scales_l``, below the pair of bits j of ``scales_h``.
    """
    high = blocks["scales_h"].astype(np.uint16)[:, None] >> np.arange(0, 16, 2, dtype=np.uint16) & 3
    scales: Ints = unpack_fields(blocks["scales_l"], 4, 1).astype(np.int32)
    return scales | high.astype(np.int32) << 4


def dequantize_iq4_xs(blocks: Blocks, out: Floats) -> None:
    """IQ4_XS (n,) -> out (n, 256): d * (scale - 32) * value."""
    np.copyto(out, VALUES[unpack_fields(blocks["qs"], 4, 16)])
    d = from_half(blocks["d"])[:, None] * (scales_xs(blocks) - 32).astype(np.float32)
    out *= per_weight(d, out)


def quantize_iq4_nl(x: Floats, out: Blocks, importance: Floats | None) -> None:
    """x (rows, row) -> IQ4_NL out (rows, row / 32). Follows ``quantize_iq4_nl``."""
    lanes, blocks = lanes_of(x, _LENGTH), out.reshape(-1)
    scale = _scales(x, _LENGTH, lanes, importance)
    blocks["d"] = to_half(scale)
    codes = _codes(lanes * reciprocal(scale))
    blocks["qs"] = pack_fields(rows_of(codes, len(blocks)), 4, 16)


def quantize_iq4_xs(x: Floats, out: Blocks, importance: Floats | None) -> None:
    """x (rows, row) -> IQ4_XS out (rows, row / 256). Follows ``quantize_iq4_xs``."""
    lanes, blocks = lanes_of(x, _LENGTH), out.reshape(-1)
    n = len(blocks)
    scales = _scales(x, SUPER, lanes, importance).reshape(n, -1)
    d = -extreme(scales.T) / np.float32(32)
    blocks["d"] = to_half(d)
    stored = nearest_level(reciprocal(d)[:, None] * scales, -32, 31)
    # The weights are rounded with d as it was before it became a half.
    inverse = reciprocal(d[:, None] * stored.astype(np.float32)).reshape(-1)
    blocks["qs"] = pack_fields(rows_of(_codes(lanes * inverse), n), 4, 16)
    stored += 32
    blocks["scales_l"] = pack_fields((stored & 15).astype(np.uint8), 4, 1)
    high = (stored >> 4 << np.arange(0, 16, 2)).astype(np.uint16)
    blocks["scales_h"] = np.bitwise_or.reduce(high, axis=1)
