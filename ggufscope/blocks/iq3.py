"""IQ3_XXS and IQ3_S: three bits and a bit; vectors of four magnitudes, and their signs."""

from __future__ import annotations

from typing import Final

import numpy as np

from ggufscope.arrays import Blocks, Floats, Integers, Places
from ggufscope.blocks import grids
from ggufscope.blocks.fits.vectors import (
    Fitted,
    Search,
    fit_vectors,
    sigma2_of,
    stored_scales,
)
from ggufscope.blocks.fits.weights import by_column_and_size
from ggufscope.blocks.grids import fill
from ggufscope.blocks.neighbours import codebook
from ggufscope.blocks.ordered import from_half, lanes_of, to_half
from ggufscope.blocks.packing import even_signs, pack_even_signs, pack_fields, unpack_fields

_XXS: Final = Search(32, 15, 0.2, 1e-8, even=True, again="off grid")
_S: Final = Search(32, 9, 0.2, 0, even=False, again="if any")
_FINER_XXS: Final = np.float32(1.0125)
_FINER: Final = np.float32(1.033)


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


def _fit(x: Floats, importance: Floats | None, name: str, search: Search) -> Fitted:
    lanes = lanes_of(x, search.length)
    if importance is None:
        weights = np.square(lanes)
    else:
        weights = by_column_and_size(importance, lanes, sigma2_of(x, 2))
    return fit_vectors(x, lanes, weights, codebook(name), search)


def quantize_iq3_xxs(x: Floats, out: Blocks, importance: Floats | None) -> None:
    """x (rows, row) -> IQ3_XXS out (rows, row / 256). Follows ``quantize_row_iq3_xxs_impl``."""
    fitted, blocks = _fit(x, importance, "IQ3_XXS", _XXS), out.reshape(-1)
    d, levels, zero = stored_scales(fitted.scales, 31, 16)
    packed = pack_even_signs(fitted.signs) | levels.astype(np.uint32) << 28
    blocks["d"] = to_half(d * _FINER_XXS)
    blocks["qs"] = np.concatenate([fitted.entries, packed.astype("<u4").view(np.uint8)], axis=1)
    blocks[zero] = np.zeros((), blocks.dtype)


def _in_order(values: Integers, order: Places) -> Integers:
    """values (n, m), order (n, s) -> (n, m): each row by its runs of m / s, in that order."""
    runs = values.reshape(*order.shape, -1)
    return np.take_along_axis(runs, order[:, :, None], axis=1).reshape(values.shape)


def quantize_iq3_s(x: Floats, out: Blocks, importance: Floats | None) -> None:
    """x (rows, row) -> IQ3_S out (rows, row / 256). Follows ``quantize_row_iq3_s_impl``.

    Where 32 weights in a row are all zero, those after them are stored in their place, and are read
    as if they were others. llama-quantize's files have that; so these have it too.
    """
    fitted, blocks = _fit(x, importance, "IQ3_S", _S), out.reshape(-1)
    d, levels, zero = stored_scales(fitted.scales, 31, 16)
    blocks["d"] = to_half(np.where(zero, np.float32(0), d * _FINER))
    first = np.argsort(~fitted.live, axis=1, kind="stable")  # the others are zeros anyway
    blocks["qs"] = _in_order(fitted.entries & 255, first)
    blocks["qh"] = pack_fields((fitted.entries >> 8).astype(np.uint8), 1, 1)
    blocks["signs"] = _in_order(fitted.signs, first)
    blocks["scales"] = pack_fields(np.where(zero[:, None], 0, levels).astype(np.uint8), 4, 1)
