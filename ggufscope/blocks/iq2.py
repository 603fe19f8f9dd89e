"""IQ2_XXS, IQ2_XS and IQ2_S: two bits and a bit; vectors of eight magnitudes, and their signs."""

from __future__ import annotations

import numpy as np

from ggufscope.arrays import Blocks, Floats, Integers
from ggufscope.blocks import grids
from ggufscope.blocks.grids import fill
from ggufscope.blocks.ordered import from_half
from ggufscope.blocks.packing import EVEN_SIGNS, even_signs, unpack_fields


def _scales(blocks: Blocks, scales: Integers) -> Floats:
    """blocks (n,), scales (n, s) -> (n, s): d * (scale + 1/2) / 4."""
    factor = np.float32(0.5) + scales.astype(np.float32)
    return from_half(blocks["d"])[:, None] * factor * np.float32(0.25)


def dequantize_iq2_xxs(blocks: Blocks, out: Floats) -> None:
    """IQ2_XXS (n,) -> out (n, 256), with two 32-bit words for 32 weights, in vectors A to D.

    ::

    word 0   DDDDDDDD CCCCCCCC BBBBBBBB AAAAAAAA     index
    word 1   SSSSDDDD DDDCCCCC CCBBBBBB BAAAAAAA     signs, and S, the scale
    """
    words = np.ascontiguousarray(blocks["qs"]).view("<u4").reshape(len(blocks), -1, 2)
    index = np.ascontiguousarray(words[:, :, 0]).view(np.uint8)
    packed = words[:, :, 1].astype(np.uint32)
    fill(out, grids.IQ2_XXS, index, even_signs(packed), _scales(blocks, packed >> 28))


def dequantize_iq2_xs(blocks: Blocks, out: Floats) -> None:
    """IQ2_XS (n,) -> out (n, 256), with a 16-bit word for 8 weights, a nibble of scale for 16.

    ::

    SSSSSSSIIIIIIIII    S = signs    I = index
    """
    qs = blocks["qs"].astype(np.uint16)
    scales = _scales(blocks, unpack_fields(blocks["scales"], 4, 1))
    fill(out, grids.IQ2_XS, qs & 511, EVEN_SIGNS[qs >> 9], scales)


def dequantize_iq2_s(blocks: Blocks, out: Floats) -> None:
    """IQ2_S (n,) -> out (n, 256), with the index in the first half of ``qs``, signs in the second.

    ``qh`` has the upper two bits of each index; a nibble of scale serves 16 weights.
    """
    low, signs = np.split(blocks["qs"], 2, axis=1)
    index = low | unpack_fields(blocks["qh"], 2, 1).astype(np.uint16) << 8
    fill(out, grids.IQ2_S, index, signs, _scales(blocks, unpack_fields(blocks["scales"], 4, 1)))
