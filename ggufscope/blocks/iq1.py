"""IQ1_S and IQ1_M: one bit and a half; vectors of eight -1, 0 and 1, moved by an eighth."""

from __future__ import annotations

from typing import Final

import numpy as np

from ggufscope.arrays import Blocks, Floats, Integers, Words16
from ggufscope.blocks import grids
from ggufscope.blocks.ordered import from_half, per_weight
from ggufscope.blocks.packing import unpack_fields

_DELTA: Final = np.float32(0.125)


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
    out += per_weight(np.where(minus != 0, -_DELTA, _DELTA), out)
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
