"""The 13 types of GGUF metadata, their numbers and their sizes."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, Literal

from ggufscope.errors import UnknownValueType

Order = Literal["<", ">"]
"""Byte order of a file, as ``struct`` and NumPy write it: little ``<`` or big ``>``."""

Buffer = bytes | bytearray | memoryview


class ValueType(IntEnum):
    """The type numbers of GGUF metadata."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


CODES: Final[dict[ValueType, str]] = {
    ValueType.UINT8: "B", ValueType.UINT16: "H", ValueType.UINT32: "I", ValueType.UINT64: "Q",
    ValueType.INT8: "b", ValueType.INT16: "h", ValueType.INT32: "i", ValueType.INT64: "q",
    ValueType.FLOAT32: "f", ValueType.FLOAT64: "d", ValueType.BOOL: "B",
}  # fmt: skip
"""The ``struct`` (and NumPy) code of each type of fixed size."""

SIZES: Final = {type_: struct.calcsize("<" + code) for type_, code in CODES.items()}
"""Bytes of each of them."""


def value_type(number: int, where: str) -> ValueType:
    """Return the type of this number, or raise ``UnknownValueType`` naming ``where`` it stood."""
    try:
        return ValueType(number)
    except ValueError:
        raise UnknownValueType(
            f"{where} has metadata type {number}, and GGUF has types 0 to {max(ValueType)}",
            hint="the header is damaged, or a newer format than this program knows",
        ) from None
