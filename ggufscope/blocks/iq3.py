"""IQ3_XXS and IQ3_S: three bits and a bit; vectors of four magnitudes, and their signs."""

from __future__ import annotations

import numpy as np

from ggufscope.arrays import Blocks, Floats
from ggufscope.blocks import grids
from ggufscope.blocks.grids import fill
from ggufscope.blocks.ordered import from_half
from ggufscope.blocks.packing import even_signs, unpack_fields


def dequantize_iq3_xxs(blocks: Blocks, out: Floats) -> None:
    """IQ3_XXS (n,) -> out (n, 256): two thirds of ``qs`` are indices, then a word for 32 weights.

    ::

    SSSSDDDD DDDCCCCC CCBBBBBB BAAAAAAA    A to D = signs of 8 weights each    S = scale
    """
    index, tail = np.split(blocks["qs"], [blocks["qs"].shape[1] * 2 // 3], axis=1)
    packed = np.ascontiguousarray(tail).view("<u4").astype(np.uint32)
    factor = np.float32(0.5) + (packed >> 28).astype(np.float32)
    scales = from_half(blocks["d"])[:, None] * factor * np.float32(0.5)
    fill(out, grids.IQ3_XXS, index, even_signs(packed), scales)


def dequantize_iq3_s(blocks: Blocks, out: Floats) -> None:
    """IQ3_S (n,) -> out (n, 256), with the ninth bit of each index in ``qh``.

    A nibble of scale, s, serves 32 weights: d * (1 + 2 * s).
    """
    index = blocks["qs"] | unpack_fields(blocks["qh"], 1, 1).astype(np.uint16) << 8
    factor = (1 + 2 * unpack_fields(blocks["scales"], 4, 1)).astype(np.float32)
    fill(out, grids.IQ3_S, index, blocks["signs"], from_half(blocks["d"])[:, None] * factor)
