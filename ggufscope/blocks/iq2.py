"""IQ2_XXS, IQ2_XS and IQ2_S: two bits and a bit; vectors of eight magnitudes, and their signs."""

from __future__ import annotations

from typing import Final

import numpy as np

from ggufscope.arrays import Blocks, Floats, Integers
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
from ggufscope.blocks.layouts import SUPER
from ggufscope.blocks.neighbours import codebook
from ggufscope.blocks.ordered import from_half, lanes_of, to_half
from ggufscope.blocks.packing import (
    EVEN_SIGNS,
    even_signs,
    pack_even_signs,
    pack_fields,
    unpack_fields,
)

_XXS: Final = Search(32, 6, 0.1, 1e-15, even=True, again="all", by_qp=True)
_XS: Final = Search(16, 9, 0.1, 1e-15, even=True, again="off grid")
_S: Final = Search(16, 9, 0.1, 1e-8, even=False, again="off grid")
_FINER: Final = np.float32(0.9875)


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


def _fit(x: Floats, importance: Floats, name: str, search: Search) -> Fitted:
    lanes = lanes_of(x, search.length)
    weights = by_column_and_size(importance, lanes, sigma2_of(x, 1))
    return fit_vectors(x, lanes, weights, codebook(name), search)


def quantize_iq2_xxs(x: Floats, out: Blocks, importance: Floats) -> None:
    """x (rows, row) -> IQ2_XXS out (rows, row / 256). Follows ``quantize_row_iq2_xxs_impl``."""
    fitted, blocks = _fit(x, importance, "IQ2_XXS", _XXS), out.reshape(-1)
    d, levels, zero = stored_scales(fitted.scales, 31, 16)
    words = np.empty((len(blocks), 8, 2), np.uint32)
    words[:, :, 0] = fitted.entries.astype(np.uint8).view("<u4")
    words[:, :, 1] = pack_even_signs(fitted.signs) | levels.astype(np.uint32) << 28
    blocks["d"] = to_half(d)
    blocks["qs"] = words.view("<u2").reshape(len(blocks), -1)
    blocks[zero] = np.zeros((), blocks.dtype)


def quantize_iq2_xs(x: Floats, out: Blocks, importance: Floats) -> None:
    """x (rows, row) -> IQ2_XS out (rows, row / 256). Follows ``quantize_row_iq2_xs_impl``."""
    fitted, blocks = _fit(x, importance, "IQ2_XS", _XS), out.reshape(-1)
    d, levels, zero = stored_scales(fitted.scales, 31, 16)
    blocks["d"] = to_half(d)
    blocks["qs"] = fitted.entries | (fitted.signs & 127).astype(np.int32) << 9
    blocks["scales"] = pack_fields(levels.astype(np.uint8), 4, 1)
    blocks[zero] = np.zeros((), blocks.dtype)


def quantize_iq2_s(x: Floats, out: Blocks, importance: Floats | None) -> None:
    """x (rows, row) -> IQ2_S out (rows, row / 256). Follows ``quantize_row_iq2_s_impl``."""
    lanes, sigma2, blocks = lanes_of(x, _S.length), sigma2_of(x, 2), out.reshape(-1)
    if importance is None:
        flat = np.repeat(np.float32(0.25) * sigma2, SUPER // _S.length)
        weights = flat + np.square(lanes)
    else:
        weights = by_column_and_size(importance, lanes, sigma2)
    fitted = fit_vectors(x, lanes, weights, codebook("IQ2_S"), _S)
    d, levels, zero = stored_scales(fitted.scales, 31, 16)
    blocks["d"] = to_half(np.where(zero, np.float32(0), d * _FINER))
    blocks["qs"] = np.concatenate([fitted.entries & 255, fitted.signs], axis=1)
    blocks["qh"] = pack_fields((fitted.entries >> 8).astype(np.uint8), 2, 1)
    blocks["scales"] = pack_fields(np.where(zero[:, None], 0, levels).astype(np.uint8), 4, 1)
