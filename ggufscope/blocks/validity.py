"""Numbers that no block may hold: scales and weights that are NaN or infinite, bad exponents.

Follows ``ggml_validate_row_data`` in ggml's ``ggml-quants.c``. Which fields are scales follows from
``layouts.py``: every float is one. What is looked at is always some bits of a word that must not
all be set: the exponent of a float, or all of an E8M0 exponent. NumPy does that at 20 GB/s a core
and more, with the interpreter let go: there is nothing for a kernel to gain.
"""

from __future__ import annotations

from functools import cache
from typing import Final, Literal, NamedTuple

import numpy as np

from ggufscope.arrays import Array
from ggufscope.blocks.layouts import LAYOUTS, Layout


class Watched(NamedTuple):
    """A word in each block of a type, and the bits of it that must not all be set."""

    field: str
    """Its name in the layout; empty where the block is the word."""
    offset: int
    """Bytes from the block's beginning."""
    width: int
    """Bytes."""
    mask: int
    mantissa: int
    """Bits that tell a NaN from an infinity; 0 for what is no float. The top bit is the sign."""


class Bad(NamedTuple):
    """A field that holds no number in some blocks."""

    field: str
    blocks: int
    """How many of them."""
    first: int
    """The first of them."""
    said: str
    """What stands there: ``nan``, ``inf``, ``-inf``, ``255``."""


_EXPONENTS: Final = {
    np.dtype("<f2"): 0x7C00,
    np.dtype("<f4"): 0x7F800000,
}
# What the dtypes do not say: BF16 is kept as bits, an E8M0 exponent is a byte, and the scale of an
# IQ1_M block is spread over the top of four words, its exponent over that of the last two.
_OTHERS: Final = {
    "BF16": Watched("", 0, 2, 0x7F80, 0x7F),
    "MXFP4": Watched("e", 0, 1, 0xFF, 0),
    "IQ1_M": Watched("scales", 0, 8, 0x7000_C000_0000_0000, 0x3000_F000_F000),
}


@cache
def watched(layout: Layout) -> tuple[Watched, ...]:
    """Return what has to be looked at in each block; nothing where every bit pattern is a number.

    Those are the integers and NVFP4, whose scales are unsigned E4M3 bytes: ggml takes each.
    """
    fields = layout.dtype.fields or {"": (layout.dtype, 0)}
    if layout.name in _OTHERS:
        other = _OTHERS[layout.name]
        return (other._replace(offset=fields[other.field][1]),)
    found = []
    for name, (dtype, offset, *_) in fields.items():
        if dtype in _EXPONENTS:
            mask, bits = _EXPONENTS[dtype], 8 * dtype.itemsize - 1
            found.append(Watched(name, offset, dtype.itemsize, mask, ~mask & ((1 << bits) - 1)))
    return tuple(found)


def bad_blocks(data: memoryview, layout: Layout, order: Literal["<", ">"] = "<") -> list[Bad]:
    """Return what is no number in some blocks: data, their bytes -> one entry a field that is bad.

    Raises ``ValueError`` for bytes that are not a whole number of blocks.
    """
    count, rest = divmod(data.nbytes, layout.block_bytes)
    if rest:
        raise ValueError(f"{data.nbytes} bytes are not a whole number of {layout.name} blocks")
    if layout.name == "F64":  # ggml looks at it as float32, in which the largest are infinite
        with np.errstate(over="ignore", invalid="ignore"):
            narrow = np.frombuffer(data, f"{order}f8").astype(np.float32)
        return bad_blocks(narrow.data, LAYOUTS["F32"])
    found = []
    for each in watched(layout) if count else ():
        spread = layout.name == "IQ1_M"  # of bytes, whose order is the same in every file
        dtype = np.dtype(f"{'<' if spread else order}u{each.width}")
        words: Array = np.ndarray((count,), dtype, data, each.offset, (layout.block_bytes,))
        bad, first = _count_set(words, each.mask)
        if bad:
            found.append(Bad(each.field, bad, first, _said(int(words[first]), each)))
    return found


def _count_set(words: Array, mask: int) -> tuple[int, int]:
    """words (n,) -> how many have all bits of the mask, and the first of them, -1 for none."""
    bits = words.dtype.type(mask)
    found = (words & bits) == bits
    count = int(np.count_nonzero(found))
    return count, int(np.argmax(found)) if count else -1


def _said(word: int, each: Watched) -> str:
    if not each.mantissa:
        return str(word)
    if word & each.mantissa:
        return "nan"
    return "-inf" if word >> (8 * each.width - 1) else "inf"
