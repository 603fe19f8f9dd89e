"""Every ggml tensor type: its number, its block length, its fields in file order.

A row of weights is cut into blocks of ``block_length`` weights. Each block is a small record, and
here each record is a NumPy structured dtype, so a field is read by name (``blocks["qs"]``) and the
size of a block is whatever its fields add up to: no byte count is written by hand.

Follows the ``block_*`` structs of ggml's ``ggml-common.h`` and the type numbers of ``ggml.h``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ggufscope.errors import UnknownType
from ggufscope.spelling import did_you_mean

SUPER: Final = 256
"""Weights in a super-block (ggml's ``QK_K``)."""

SCALE_BYTES: Final = 12
"""Bytes that hold the 6-bit scales of a K-quant super-block (ggml's ``K_SCALE_SIZE``)."""

_HALF = "<f2"


@dataclass(frozen=True, slots=True)
class Layout:
    """How one ggml type lays its weights out in bytes."""

    name: str
    number: int
    block_length: int
    dtype: np.dtype[Any]
    """One block: a structured dtype, or a plain one for the types without blocks."""

    @property
    def block_bytes(self) -> int:
        """Bytes of one block."""
        return self.dtype.itemsize

    @property
    def bits_per_weight(self) -> float:
        """Bits of storage for each weight, scales included."""
        return 8 * self.block_bytes / self.block_length

    def row_bytes(self, weights: int) -> int:
        """Bytes of ``weights`` weights; the caller has checked that they divide into blocks."""
        return weights // self.block_length * self.block_bytes


@dataclass(frozen=True, slots=True)
class ForeignType:
    """A type number that ggml does not define: removed from it, or known to a fork only.

    Its blocks cannot be sized or decoded, but a file that holds it can still be listed.
    """

    name: str
    number: int


def is_quantized(type_: Layout | ForeignType) -> bool:
    """Return whether a type has blocks of several weights."""
    return isinstance(type_, Layout) and type_.block_length > 1


def _plain(name: str, number: int, code: str) -> Layout:
    return Layout(name, number, 1, np.dtype(code))


def _block(
    name: str, number: int, block_length: int, **fields: str | int | tuple[str, int]
) -> Layout:
    """Lay out fields: one of a type, as many bytes as a number says, or several of a type."""
    rows = [
        (key, "u1", of) if isinstance(of, int) else (key, of) if isinstance(of, str) else (key, *of)
        for key, of in fields.items()
    ]
    return Layout(name, number, block_length, np.dtype(rows))


# Field names are ggml's: d a scale, dmin the scale of the minimums, m a minimum, qs the low bits of
# the quantized weights, qh their high bits, e an exponent.
_LAYOUTS: Final = (
    _plain("F32", 0, "<f4"),
    _plain("F16", 1, "<f2"),
    _block("Q4_0", 2, 32, d=_HALF, qs=32 // 2),
    _block("Q4_1", 3, 32, d=_HALF, m=_HALF, qs=32 // 2),
    _block("Q5_0", 6, 32, d=_HALF, qh=32 // 8, qs=32 // 2),
    _block("Q5_1", 7, 32, d=_HALF, m=_HALF, qh=32 // 8, qs=32 // 2),
    _block("Q8_0", 8, 32, d=_HALF, qs=("i1", 32)),
    _block("Q8_1", 9, 32, d=_HALF, s=_HALF, qs=("i1", 32)),
    _block("Q2_K", 10, SUPER, scales=SUPER // 16, qs=SUPER // 4, d=_HALF, dmin=_HALF),
    _block("Q3_K", 11, SUPER, hmask=SUPER // 8, qs=SUPER // 4, scales=SCALE_BYTES, d=_HALF),
    _block("Q4_K", 12, SUPER, d=_HALF, dmin=_HALF, scales=SCALE_BYTES, qs=SUPER // 2),
    _block(
        "Q5_K", 13, SUPER, d=_HALF, dmin=_HALF, scales=SCALE_BYTES, qh=SUPER // 8, qs=SUPER // 2
    ),
    _block("Q6_K", 14, SUPER, ql=SUPER // 2, qh=SUPER // 4, scales=("i1", SUPER // 16), d=_HALF),
    _block("Q8_K", 15, SUPER, d="<f4", qs=("i1", SUPER), bsums=("<i2", SUPER // 16)),
    _block("IQ2_XXS", 16, SUPER, d=_HALF, qs=("<u2", SUPER // 8)),
    _block("IQ2_XS", 17, SUPER, d=_HALF, qs=("<u2", SUPER // 8), scales=SUPER // 32),
    _block("IQ3_XXS", 18, SUPER, d=_HALF, qs=3 * SUPER // 8),
    _block("IQ1_S", 19, SUPER, d=_HALF, qs=SUPER // 8, qh=("<u2", SUPER // 32)),
    _block("IQ4_NL", 20, 32, d=_HALF, qs=32 // 2),
    _block(
        "IQ3_S",
        21,
        SUPER,
        d=_HALF,
        qs=SUPER // 4,
        qh=SUPER // 32,
        signs=SUPER // 8,
        scales=SUPER // 64,
    ),
    _block("IQ2_S", 22, SUPER, d=_HALF, qs=SUPER // 4, qh=SUPER // 32, scales=SUPER // 32),
    _block("IQ4_XS", 23, SUPER, d=_HALF, scales_h="<u2", scales_l=SUPER // 64, qs=SUPER // 2),
    _plain("I8", 24, "i1"),
    _plain("I16", 25, "<i2"),
    _plain("I32", 26, "<i4"),
    _plain("I64", 27, "<i8"),
    _plain("F64", 28, "<f8"),
    # IQ1_M has no d: the bits of its half are spread over the top of its four 16-bit scales.
    _block("IQ1_M", 29, SUPER, qs=SUPER // 8, qh=SUPER // 16, scales=SUPER // 32),
    # NumPy has no bfloat16: the upper half of a float32, kept as its bits.
    _plain("BF16", 30, "<u2"),
    # Five ternary digits fit a byte (3**5 = 243); the last 16 weights are packed four to a byte.
    _block("TQ1_0", 34, SUPER, qs=(SUPER - SUPER // 16) // 5, qh=SUPER // 64, d=_HALF),
    _block("TQ2_0", 35, SUPER, qs=SUPER // 4, d=_HALF),
    _block("MXFP4", 39, 32, e="u1", qs=32 // 2),
    _block("NVFP4", 40, 64, d=64 // 16, qs=64 // 2),
    _block("Q1_0", 41, 128, d=_HALF, qs=128 // 8),
    _block("Q2_0", 42, 64, d=_HALF, qs=64 // 4),
)

LAYOUTS: Final[dict[str, Layout]] = {layout.name: layout for layout in _LAYOUTS}
"""Every type of the current ggml, by name, in order of its number."""

REMOVED: Final[dict[int, str]] = {
    4: "Q4_2",
    5: "Q4_3",
    31: "Q4_0_4_4",
    32: "Q4_0_4_8",
    33: "Q4_0_8_8",
    36: "IQ4_NL_4_4",
    37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
}
"""Numbers that ggml once gave to a type and has retired; they are never used again."""

NOT_CONVERTIBLE: Final = frozenset({"Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64"})
"""Types that llama.cpp has no quantizer and no way back for."""

_BY_NUMBER: Final = {layout.number: layout for layout in _LAYOUTS}


def layout_numbered(number: int) -> Layout | ForeignType:
    """Return the type with this ggml number; a ``ForeignType`` where ggml defines none."""
    return _BY_NUMBER.get(number) or ForeignType(REMOVED.get(number, f"type {number}"), number)


def layout_named(name: str, offered: Collection[str] = ()) -> Layout:
    """Return the type of this name, in any case (``"Q4_K"``, ``"q4_k"``).

    Raises ``UnknownType`` for a name that ggml does not have; its hint is of the types ``offered``,
    by default those of weights.
    """
    layout = LAYOUTS.get(name.upper())
    if layout is None:
        names = offered or [each for each in LAYOUTS if each not in NOT_CONVERTIBLE]
        hint = did_you_mean(name, names, f"the types are {', '.join(names)}")
        raise UnknownType(f"unknown ggml type {name!r:.60}", hint=hint)
    return layout
