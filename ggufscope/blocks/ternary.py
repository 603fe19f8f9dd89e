"""TQ1_0 and TQ2_0: three levels, -1 0 1, and one scale for a super-block of 256 weights."""

from __future__ import annotations

from typing import Final

import numpy as np

from ggufscope.arrays import Blocks, Bytes, Floats
from ggufscope.blocks.ordered import (
    from_half,
    nudge_away,
    peak_of_rows,
    per_weight,
    reciprocal,
    to_half,
)
from ggufscope.blocks.packing import pack_fields, read_fields

_DIGITS: Final = 5
_POWERS: Final = 3 ** np.arange(_DIGITS, dtype=np.uint8)
# TQ1_0 cuts its weights into three parts: how many bytes of which field, five digits to a byte but
# four in the last part.
_PARTS: Final = (("qs", 0, 32, 5), ("qs", 32, 48, 5), ("qh", 0, 4, 4))


def _unpack_digits(packed: Bytes, digits: int) -> Bytes:
    """packed (n, b) -> (n, digits * b), each 0, 1 or 2; digit i of byte j is weight i * b + j.

    A byte holds the fraction 0.abcde in base 3, as a multiple of 1/256, rounded up. Multiplied by
    3 its whole part is the first digit, and the low byte is the fraction with the others.
    """
    shifted = packed[:, None, :] * _POWERS[:digits, None]
    return (shifted.astype(np.uint16) * 3 >> 8).astype(np.uint8).reshape(len(packed), -1)


def _pack_digits(digits: Bytes, count: int) -> Bytes:
    """digits (n, count * b) -> (n, b): the inverse of ``_unpack_digits``, modulo 256 as in C."""
    places = digits.reshape(len(digits), count, -1)
    number = np.zeros_like(places[:, 0])
    for place in range(_DIGITS):
        number *= np.uint8(3)
        if place < count:
            number += places[:, place]
    return ((number.astype(np.uint16) * 256 + (3**_DIGITS - 1)) // 3**_DIGITS).astype(np.uint8)


def _levels(x: Floats, out: Blocks) -> Bytes:
    """x (n, 256) -> round(x / d) + 1 (n, 256), modulo 256; d, the peak, into out."""
    d = peak_of_rows(x)
    out["d"] = to_half(d)
    rounded = nudge_away(x * per_weight(reciprocal(d), x)).astype(np.int8)
    return rounded.view(np.uint8) + np.uint8(1)


def digits_tq1_0(blocks: Blocks) -> Bytes:
    """TQ1_0 (n,) -> (n, 256), each 0, 1 or 2."""
    digits = [_unpack_digits(blocks[field][:, a:b], count) for field, a, b, count in _PARTS]
    return np.concatenate(digits, axis=1)


def dequantize_tq1_0(blocks: Blocks, out: Floats) -> None:
    """TQ1_0 (n,) -> out (n, 256): d * (digit - 1)."""
    np.copyto(out, digits_tq1_0(blocks))
    out -= 1
    out *= per_weight(from_half(blocks["d"]), out)


def quantize_tq1_0(x: Floats, out: Blocks) -> None:
    """x (n, 256) -> TQ1_0 out (n,). Follows ``quantize_row_tq1_0_ref``."""
    levels = _levels(x, out)
    done = 0
    for field, start, stop, count in _PARTS:
        weights = count * (stop - start)
        out[field][:, start:stop] = _pack_digits(levels[:, done : done + weights], count)
        done += weights


def dequantize_tq2_0(blocks: Blocks, out: Floats) -> None:
    """TQ2_0 (n,) -> out (n, 256): d * (level - 1)."""
    read_fields(blocks["qs"], 2, 32, 1, out)
    out *= per_weight(from_half(blocks["d"]), out)


def quantize_tq2_0(x: Floats, out: Blocks) -> None:
    """x (n, 256) -> TQ2_0 out (n,). Follows ``quantize_row_tq2_0_ref``."""
    out["qs"] = pack_fields(_levels(x, out) & 3, 2, 32)
