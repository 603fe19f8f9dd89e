"""MXFP4 and NVFP4: four-bit floats (E2M1) that share a scale which is itself a tiny float.

The values are stored doubled, to be integers, and the scales halved to match, as in ggml.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ggufscope.arrays import Blocks, Bytes, Floats
from ggufscope.blocks.ordered import lanes_of, peak, per_weight, rows_of, truncate
from ggufscope.blocks.packing import pack_fields, unpack_fields

VALUES: Final = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.int8)
"""(16,): twice the value of each E2M1 code; the codes from 8 are the negative ones."""

_MAGNITUDES: Final = VALUES[:8].astype(np.float32)
_MIDDLES: Final = (_MAGNITUDES[1:] + _MAGNITUDES[:-1]) / np.float32(2)
_SUB: Final = 16
"""Weights of an NVFP4 block that share a scale."""


def half_e8m0(exponents: Bytes) -> Floats:
    """Half of 2**(e - 127): exact, a denormal for e < 2. 255 is no NaN here, as in ggml."""
    return np.ldexp(np.float32(1), exponents.astype(np.int32) - 128)


def half_ue4m3(codes: Bytes) -> Floats:
    """Half of the unsigned float with 4 bits of exponent (bias 7) and 3 of mantissa.

    ::

        EEEEMMM    EEEE = 0: M * 2**-9    else (1 + M / 8) * 2**(E - 7)    0x7f: 0
    """
    exponent, mantissa = codes >> 3 & 15, codes & 7
    normal = (mantissa | 8).astype(np.float32)
    raw = np.where(exponent == 0, mantissa, normal).astype(np.float32)
    value = np.ldexp(raw, np.maximum(exponent, 1).astype(np.int32) - (7 + 3 + 1))
    return np.where(codes == 0x7F, np.float32(0), value)


def _to_ue4m3(x: Floats) -> Bytes:
    """Round to the code, half up; from 256 on all is 0x7e. Follows ``ggml_fp32_to_ue4m3``."""
    x = np.where(x > 0, np.minimum(x, np.float32(448)), np.float32(0))
    bits = x.view(np.int32)
    exponent = (bits >> 23) - 127 + 7
    # Half a unit added to the mantissa carries into the exponent by itself.
    normal = (exponent << 3 | bits >> 20 & 7) + (bits >> 19 & 1)
    tiny = np.minimum(truncate(x * np.float32(512) + np.float32(0.5)), 7)
    code = np.where(exponent <= 0, tiny, np.where(normal < 15 << 3, normal, 0x7E))
    return code.astype(np.uint8)


def _nearest_codes(lanes: Floats, d: Floats, reach: Floats) -> Bytes:
    """lanes (k, lanes), d, largest magnitude (lanes,) -> the nearest code, the first of equals.

    ggml measures ``fabsf(value * d - x)`` for each of the 16 codes. Near the middle between two
    values that difference is exact, so comparing with the middles decides alike, as long as d is
    neither 0 nor so large that its multiples overflow, and no weight is far beyond the largest
    value. Other lanes are measured as ggml does.
    """
    codes = np.zeros(lanes.shape, np.uint8)
    magnitude = np.abs(lanes)
    for middle in _MIDDLES:
        codes += magnitude > middle * d
    codes += (np.signbit(lanes) & (codes > 0)).view(np.uint8) << 3
    limit = 2 * _MAGNITUDES[-1] * d
    far = np.flatnonzero(~((reach <= limit) & (d > 0) & np.isfinite(limit)))
    if far.size:
        part = np.take(lanes, far, axis=1)
        best = np.abs(np.float32(0) - part)
        code = np.zeros(part.shape, np.uint8)
        for i, value in enumerate(VALUES[1:].astype(np.float32), start=1):
            error = np.abs(value * d[far] - part)
            closer = error < best
            code[closer] = i
            np.copyto(best, error, where=closer)
        codes[:, far] = code
    return codes


def _e8m0_for(top: Floats) -> Bytes:
    """Return the exponent that puts the top magnitude between 4 and 8: floor(log2(top)) - 2.

    ggml takes ``floorf(log2f(top))``. For the last floats below a power of two ``log2f`` rounds up
    to the integer, so the exponent of the float is not the answer. Rounding a float64 logarithm to
    float32 does the same on every platform; NumPy's float32 one depends on the processor.
    """
    logarithm = np.floor(np.log2(top.astype(np.float64)).astype(np.float32))
    # C casts the float to a byte: the low one of its integer, also where that is negative.
    exponent = truncate(logarithm - np.float32(2) + np.float32(127)).astype(np.uint8)
    return np.where(top > 0, exponent, np.uint8(0))


def dequantize_mxfp4(blocks: Blocks, out: Floats) -> None:
    """MXFP4 (n,) -> out (n, 32): 2**(e - 127) * value."""
    np.copyto(out, VALUES[unpack_fields(blocks["qs"], 4, 16)])
    out *= per_weight(half_e8m0(blocks["e"]), out)


def quantize_mxfp4(x: Floats, out: Blocks) -> None:
    """x (n, 32) -> MXFP4 out (n,). Follows ``quantize_row_mxfp4_ref``."""
    lanes = lanes_of(x, x.shape[1])
    top = peak(lanes)
    exponent = _e8m0_for(top)
    out["e"] = exponent
    codes = _nearest_codes(lanes, half_e8m0(exponent), top)
    out["qs"] = pack_fields(rows_of(codes, len(x)), 4, 16)


def dequantize_nvfp4(blocks: Blocks, out: Floats) -> None:
    """NVFP4 (n,) -> out (n, 64): scale * value, sub-blocks of 16."""
    np.copyto(out, VALUES[unpack_fields(blocks["qs"], 4, _SUB // 2)])
    out *= per_weight(half_ue4m3(blocks["d"]), out)


def quantize_nvfp4(x: Floats, out: Blocks) -> None:
    """x (n, 64) -> NVFP4 out (n,). Follows ``quantize_row_nvfp4_ref``."""
    lanes = lanes_of(x, _SUB)
    top = peak(lanes)
    scales = _to_ue4m3(top / np.float32(6))
    out["d"] = scales.reshape(len(x), -1)
    codes = _nearest_codes(lanes, half_ue4m3(scales), top)
    out["qs"] = pack_fields(rows_of(codes, len(x)), 4, _SUB // 2)
