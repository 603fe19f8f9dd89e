"""How small numbers share bytes: nibbles, two-bit and one-bit planes, six-bit scales, signs.

In the pictures a byte is written with its highest bit on the left. A letter is one bit of one
number; a number's bits are written with the same letter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from ggufscope.arrays import Bytes, Floats, Words32

_FOUR: Final = np.uint32(0x0F0F0F0F)
_SIX: Final = np.uint32(0x3F3F3F3F)
_UPPER_TWO: Final = np.uint32(0x30303030)


def unpack_fields(packed: Bytes, bits: int, apart: int, up: int = 0, zero: int = 0) -> Bytes:
    """packed (n, bytes) -> (n, bytes * 8 / bits): fields of ``bits`` bits, in order of weights.

    Each comes out as ``(field << up) - zero``, modulo 256.

    Weights that share a byte lie ``apart`` weights apart, the earliest in the lowest bits. A group
    of ``apart`` bytes holds ``apart * 8 / bits`` weights. Nibbles that lie 16 apart, as in Q4_0::

        byte 0   BBBBAAAA     A = weight 0    B = weight 16
        byte 1   DDDDCCCC     C = weight 1    D = weight 17

    Two bits that lie 32 apart, as in Q2_K::

        byte 0   DDCCBBAA     A = weight 0    B = weight 32    C = weight 64    D = weight 96

    One bit a weight, next to each other, as in Q1_0::

        byte 0   HGFEDCBA     A = weight 0    B = weight 1     ...              H = weight 7
    """
    n, length = packed.shape
    fields = np.empty((n, length * 8 // bits), np.uint8)
    places = fields.reshape(-1, 8 // bits, apart)
    for place, plane in enumerate(planes(packed, bits, up, zero)):
        places[:, place] = plane.reshape(-1, apart)
    return fields


def read_fields(packed: Bytes, bits: int, apart: int, zero: int, out: Floats) -> None:
    """packed (n, bytes) -> out (n, bytes * 8 / bits): each field less ``zero``, as float32."""
    places = out.reshape(-1, 8 // bits, apart)
    for place, plane in enumerate(planes(packed, bits, zero=zero)):
        places[:, place] = plane.view(np.int8).reshape(-1, apart)


def planes(packed: Bytes, bits: int, up: int = 0, zero: int = 0) -> Iterator[Bytes]:
    """packed, any shape -> the fields at each place of its bytes in turn, in that shape.

    As in ``unpack_fields``, ``(field << up) - zero``. One array, used again for each plane.
    """
    packed = np.ascontiguousarray(packed)
    plane = np.empty_like(packed)
    field = (1 << bits) - 1 << up
    for place in range(8 // bits):
        down = place * bits - up
        if down > 0:
            np.right_shift(packed, np.uint8(down), out=plane)
        elif down < 0:
            np.left_shift(packed, np.uint8(-down), out=plane)
        if 0xFF >> max(down, 0) != field:
            np.bitwise_and(plane if down else packed, np.uint8(field), out=plane)
        if zero:
            plane -= np.uint8(zero)
        yield plane


def pack_fields(fields: Bytes, bits: int, apart: int) -> Bytes:
    """fields (n, weights) -> (n, weights * bits / 8): the inverse of ``unpack_fields``."""
    n, weights = fields.shape
    per_byte = 8 // bits
    groups = fields.reshape(n, -1, per_byte, apart)
    packed = groups[:, :, 0].copy()
    for place in range(1, per_byte):
        packed |= groups[:, :, place] << np.uint8(place * bits)
    return packed.reshape(n, weights // per_byte)


def unpack_scales_mins(packed: Bytes) -> tuple[Bytes, Bytes]:
    """packed (n, 12) -> scales (n, 8), minimums (n, 8): the 6-bit pairs of Q4_K and Q5_K.

    Sub-blocks 0 to 3 have their six bits together. The upper bits of 4 to 7 fill the two bits
    that are left above them. With ``S`` and ``M`` for sub-block j and ``s`` and ``m`` for j + 4::

        byte j        ssSSSSSS
        byte j + 4    mmMMMMMM
        byte j + 8    mmmmssss
    """
    first, second, third = _words(packed)
    scales, minimums = np.empty((2, len(packed), 2), np.uint32)
    scales[:, 0] = first & _SIX
    scales[:, 1] = third & _FOUR | first >> 2 & _UPPER_TWO
    minimums[:, 0] = second & _SIX
    minimums[:, 1] = third >> 4 & _FOUR | second >> 2 & _UPPER_TWO
    return scales.view(np.uint8), minimums.view(np.uint8)


def pack_scales_mins(scales: Bytes, minimums: Bytes) -> Bytes:
    """scales (n, 8), minimums (n, 8), all under 64 -> (n, 12): see ``unpack_scales_mins``."""
    early_s, late_s = _words(scales)
    early_m, late_m = _words(minimums)
    first = early_s | (late_s & _UPPER_TWO) << 2
    second = early_m | (late_m & _UPPER_TWO) << 2
    third = late_s & _FOUR | (late_m & _FOUR) << 4
    return np.stack([first, second, third], axis=1).view(np.uint8)


def _words(packed: Bytes) -> Words32:
    """packed (n, 4 * k) -> (k, n): four bytes at a time. The masks keep them apart."""
    return np.ascontiguousarray(packed).view(np.uint32).T


def unpack_sixteen_scales(packed: Bytes) -> Bytes:
    """packed (n, 12) -> (n, 16), each under 64: the scales of Q3_K.

    Eight bytes of low nibbles, then four bytes of upper pairs. With ``A`` ``B`` ``C`` ``D`` for
    sub-blocks j, j + 4, j + 8, j + 12::

        byte j        CCCCAAAA
        byte j + 4    DDDDBBBB
        byte j + 8    DDCCBBAA
    """
    return unpack_fields(packed[:, :8], 4, 8) | unpack_fields(packed[:, 8:], 2, 4) << 4


def pack_sixteen_scales(scales: Bytes) -> Bytes:
    """scales (n, 16), all under 64 -> (n, 12): see ``unpack_sixteen_scales``."""
    return np.concatenate([pack_fields(scales & 15, 4, 8), pack_fields(scales >> 4, 2, 4)], axis=1)


def _even_signs() -> Bytes:
    low = np.arange(128, dtype=np.uint8)
    return low | (np.bitwise_count(low) & 1) << 7


EVEN_SIGNS: Final = _even_signs()
"""(128,): 7 stored sign bits -> 8: the last one makes the number of minus signs even.

::

    stored   0GFEDCBA    A = sign of weight 0, ..., G = sign of weight 6
    signs    HGFEDCBA    H = A ^ B ^ C ^ D ^ E ^ F ^ G
"""


def even_signs(packed: Words32) -> Bytes:
    """packed (n, w) -> signs (n, 4 * w): four times 7 bits of each word, the lowest first."""
    sevens = packed[:, :, None] >> np.array([0, 7, 14, 21], np.uint32) & 127
    return EVEN_SIGNS.take(sevens).reshape(len(packed), -1)


def pack_even_signs(signs: Bytes) -> Words32:
    """signs (n, 4 * w) -> packed (n, w): the inverse of ``even_signs``."""
    sevens = (signs & 127).astype(np.uint32).reshape(len(signs), -1, 4)
    return np.asarray(np.bitwise_or.reduce(sevens << np.array([0, 7, 14, 21], np.uint32), axis=2))
