"""IQ2_XXS, IQ2_XS and IQ2_S: two bits and a bit; vectors of eight magnitudes, and their signs."""

from __future__ import annotations

import numpy as np

from ggufscope.arrays import Blocks, Bytes, Floats, Grid, Integers
from ggufscope.blocks import grids
from ggufscope.blocks.ordered import flip_signs, from_half, per_weight
from ggufscope.blocks.packing import EVEN_SIGNS, unpack_fields


def _fill(
    out: Floats,
    grid: Grid,
    index: Integers,
    signs: Bytes,
    d: Floats,
    scales: Integers,
) -> None:
    """Fill out (n, 256) with d * (scale + 1/2) / 4 * grid, signed.

    Index and signs (n, 32); scales (n, s), each for a run of 256 / s weights.
    """
    np.copyto(out, grids.lookup(grid, index))
    factor = np.float32(0.5) + scales.astype(np.float32)
    out *= per_weight(d[:, None] * factor * np.float32(0.25), out)
    flip_signs(out, unpack_fields(signs, 1, 1))


def dequantize_iq2_xxs(blocks: Blocks, out: Floats) -> None:
    """IQ2_XXS (n,) -> out (n, 256), with two 32-bit words for 32 weights, in vectors A to D.

    ::

    word 0   DDDDDDDD CCCCCCCC BBBBBBBB AAAAAAAA     index
    word 1   SSSSDDDD DDDCCCCC CCBBBBBB BAAAAAAA     signs, and S, the scale
    """
    words = np.ascontiguousarray(blocks["qs"]).view("<u4").reshape(len(blocks), -1, 2)
    index = np.ascontiguousarray(words[:, :, 0]).view(np.uint8)
    packed = words[:, :, 1].astype(np.uint32)
    signs = EVEN_SIGNS[packed[:, :, None] >> np.array([0, 7, 14, 21], np.uint32) & 127]
    d = from_half(blocks["d"])
    _fill(out, grids.IQ2_XXS, index, signs.reshape(len(blocks), -1), d, packed >> 28)


def dequantize_iq2_xs(blocks: Blocks, out: Floats) -> None:
    """IQ2_XS (n,) -> out (n, 256), with a 16-bit word for 8 weights, a nibble of scale for 16.

    ::

    SSSSSSSIIIIIIIII    S = signs    I = index
    """
    qs = blocks["qs"].astype(np.uint16)
    scales = unpack_fields(blocks["scales"], 4, 1)
    _fill(out, grids.IQ2_XS, qs & 511, EVEN_SIGNS[qs >> 9], from_half(blocks["d"]), scales)


def dequantize_iq2_s(blocks: Blocks, out: Floats) -> None:
    """IQ2_S (n,) -> out (n, 256), with the index in the first half of ``qs``, signs in the second.

    ``qh`` has the upper two bits of each index; a nibble of scale serves 16 weights.
    """
    low, signs = np.split(blocks["qs"], 2, axis=1)
    index = low | unpack_fields(blocks["qh"], 2, 1).astype(np.uint16) << 8
    scales = unpack_fields(blocks["scales"], 4, 1)
    _fill(out, grids.IQ2_S, index, signs, from_half(blocks["d"]), scales)
