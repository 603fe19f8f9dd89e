"""Metadata values: the 13 types of GGUF, to and from bytes.

A ``Value`` is a type and the bytes that stand in the file for it. It is decoded when asked, so a
vocabulary of 150,000 strings costs nothing until somebody looks at it, and a file copied from
another keeps every bit of its metadata, NaN payloads and invalid UTF-8 included.

The bytes of a value (all numbers in the file's byte order)::

    number   1 to 8 bytes; a bool is one byte, 0 or not 0
    string   u64 length, then that many bytes of UTF-8
    array    u32 element type, u64 count, then the elements, each as above
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice
from typing import Any, Final, Literal, overload

import numpy as np

from ggufscope.errors import NestedTooDeep, Truncated, UnencodableValue, UnknownValueType

Order = Literal["<", ">"]
"""Byte order of a file, as ``struct`` and NumPy write it: little ``<`` or big ``>``."""

Buffer = bytes | memoryview

MAX_NESTING: Final = 16
"""Arrays within arrays beyond this depth are refused; llama.cpp reads no nested array at all."""


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


# The struct (and NumPy) code of each type of fixed size.
_CODES: Final[dict[ValueType, str]] = {
    ValueType.UINT8: "B",
    ValueType.INT8: "b",
    ValueType.UINT16: "H",
    ValueType.INT16: "h",
    ValueType.UINT32: "I",
    ValueType.INT32: "i",
    ValueType.FLOAT32: "f",
    ValueType.BOOL: "B",
    ValueType.UINT64: "Q",
    ValueType.INT64: "q",
    ValueType.FLOAT64: "d",
}
_SIZES: Final = {type_: struct.calcsize("<" + code) for type_, code in _CODES.items()}


def value_type(number: int, where: str) -> ValueType:
    """Give the type of this number, or raise ``UnknownValueType`` naming ``where`` it stood."""
    try:
        return ValueType(number)
    except ValueError:
        raise UnknownValueType(
            f"{where} has metadata type {number}, and GGUF has types 0 to {max(ValueType)}",
            hint="the header is damaged, or a newer format than this program knows",
        ) from None


class Array(Sequence[Any]):
    """An array value as a sequence; decoded element by element, and only when asked.

    ``len`` is read from the header of the array. Iterating decodes as it goes; indexing strings
    decodes all of them once and keeps them.
    """

    __slots__ = ("_items", "_length", "_order", "_raw", "element_type")

    def __init__(self, raw: Buffer, order: Order) -> None:
        """``raw``: element type, count and elements, as they stand in the file."""
        number, length = struct.unpack_from(order + "IQ", raw)
        self._length = int(length)
        self.element_type = ValueType(number)
        self._raw = raw
        self._order: Order = order
        self._items: list[Any] | None = None

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        if self._items is not None:
            return iter(self._items)
        if self.element_type in _CODES:
            return iter(self.numpy().tolist())
        return self._strings() if self.element_type is ValueType.STRING else self._walk()

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if self._items is None:
            self._items = list(self)
        return self._items[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # mutable cache inside, and compared by content

    def __repr__(self) -> str:
        return f"Array({self.element_type.name}, {self._length} items)"

    def head(self, count: int) -> list[Any]:
        """Give the first ``count`` items, decoding no more than those."""
        return (
            list(islice(self, count))
            if self.element_type not in _CODES
            else self.numpy()[:count].tolist()
        )

    def numpy(self) -> np.ndarray[Any, Any]:
        """Give a zero-copy view of a numeric or bool array, shape (len,), in the file's order.

        Raises ``TypeError`` for strings and nested arrays.
        """
        code = _CODES.get(self.element_type)
        if code is None:
            raise TypeError(f"an array of {self.element_type.name} has no NumPy view")
        dtype = np.dtype(self._order + code)
        found = np.frombuffer(self._raw, dtype, self._length, _ARRAY_HEAD)
        return found != 0 if self.element_type is ValueType.BOOL else found

    def _strings(self) -> Iterator[str]:
        """Decode strings: their extents were checked when the header was read."""
        raw, position, length_at = bytes(self._raw), _ARRAY_HEAD, struct.Struct(self._order + "Q")
        for _ in range(self._length):
            begin = position + 8
            position = begin + length_at.unpack_from(raw, position)[0]
            yield raw[begin:position].decode("utf-8", "surrogateescape")

    def _walk(self) -> Iterator[Any]:
        position = _ARRAY_HEAD
        for _ in range(self._length):
            end = skip(self._raw, position, self.element_type, self._order, "an array item")
            yield _decode(self.element_type, self._raw[position:end], self._order)
            position = end


_ARRAY_HEAD: Final = struct.calcsize("<IQ")


@dataclass(frozen=True, slots=True)
class Value:
    """One metadata value: its type, its bytes, and the byte order they are in."""

    type: ValueType
    raw: Buffer
    order: Order = "<"

    @classmethod
    def of(cls, type_: ValueType, data: Any) -> Value:
        """Make a number, bool or string; raises ``UnencodableValue`` where it does not fit."""
        if type_ is ValueType.STRING and isinstance(data, str):
            # surrogateescape: bytes that were not UTF-8 when read go back as they were.
            text = data.encode("utf-8", "surrogateescape")
            return cls(type_, struct.pack("<Q", len(text)) + text)
        try:
            return cls(type_, struct.pack("<" + _CODES[type_], data))
        except (struct.error, OverflowError, TypeError, KeyError):
            raise UnencodableValue(
                f"{data!r} cannot be stored as {type_.name}", hint="choose a type that holds it"
            ) from None

    @classmethod
    def array(cls, element_type: ValueType, items: Iterable[Any]) -> Value:
        """Make an array of numbers, bools or strings, or of other array values."""
        if element_type is ValueType.ARRAY:
            parts = [item.encode("<") for item in items]
        else:
            parts = [bytes(cls.of(element_type, item).raw) for item in items]
        head = struct.pack("<IQ", element_type, len(parts))
        return cls(ValueType.ARRAY, head + b"".join(parts))

    @property
    def data(self) -> Any:
        """The value as int, float, bool, str or ``Array``."""
        return _decode(self.type, self.raw, self.order)

    def encode(self, order: Order) -> bytes:
        """Give the bytes of the value in this byte order: every bit of every number kept."""
        return bytes(self.raw) if order == self.order else _swapped(self.type, self.raw, self.order)


def _decode(type_: ValueType, raw: Buffer, order: Order) -> Any:
    if type_ is ValueType.STRING:
        return str(raw[8:], "utf-8", "surrogateescape")
    if type_ is ValueType.ARRAY:
        return Array(raw, order)
    (number,) = struct.unpack(order + _CODES[type_], raw)
    return number != 0 if type_ is ValueType.BOOL else number


def _swapped(type_: ValueType, raw: Buffer, order: Order) -> bytes:
    """Give ``raw`` with each of its numbers in the other byte order."""
    if type_ in _CODES:
        return bytes(raw)[::-1]
    if type_ is ValueType.STRING:
        return bytes(raw[:8])[::-1] + bytes(raw[8:])
    number, count = struct.unpack_from(order + "IQ", raw)
    element_type = ValueType(number)
    head = bytes(raw[:4])[::-1] + bytes(raw[4:_ARRAY_HEAD])[::-1]
    if element_type in _CODES:
        unsigned = np.dtype(f"u{_SIZES[element_type]}")
        return head + np.frombuffer(raw, unsigned, count, _ARRAY_HEAD).byteswap().tobytes()
    parts, position = [head], _ARRAY_HEAD
    for _ in range(count):
        end = skip(raw, position, element_type, order, "an array item")
        parts.append(_swapped(element_type, raw[position:end], order))
        position = end
    return b"".join(parts)


def skip(
    data: Buffer, position: int, type_: ValueType, order: Order, where: str, depth: int = 0
) -> int:
    """Give the position behind the value that begins at ``position``; decode nothing.

    This walk is the whole cost of opening a file with a large vocabulary. Every length is held
    against what is left of ``data`` before it is used.

    Raises ``Truncated``, ``UnknownValueType`` or ``NestedTooDeep``, naming ``where``.
    """
    if type_ is ValueType.STRING:
        return _skip_strings(data, position, 1, order, where)
    if type_ is not ValueType.ARRAY:
        return _within(data, position, _SIZES[type_], where)
    if depth == MAX_NESTING:
        raise NestedTooDeep(
            f"{where} nests arrays more than {MAX_NESTING} deep (at byte {position})",
            hint="no model does that: the header is damaged or hostile",
        )
    items = _within(data, position, _ARRAY_HEAD, where)
    number, count = struct.unpack_from(order + "IQ", data, position)
    element_type = value_type(number, f"{where}, an array at byte {position},")
    if element_type in _CODES:
        return _within(data, items, count * _SIZES[element_type], where)
    # A string takes at least the 8 bytes of its length, an inner array the 12 of its head.
    _within(data, items, count * (8 if element_type is ValueType.STRING else _ARRAY_HEAD), where)
    if element_type is ValueType.STRING:
        return _skip_strings(data, items, count, order, where)
    for _ in range(count):
        items = skip(data, items, element_type, order, where, depth + 1)
    return items


def _within(data: Buffer, position: int, size: int, where: str) -> int:
    end = position + size
    if end > len(data):
        raise Truncated(
            f"{where} needs {size} bytes at byte {position}, and the file ends at {len(data)}",
            hint="the file is cut short or damaged: download it again",
        )
    return end


def _skip_strings(data: Buffer, position: int, count: int, order: Order, where: str) -> int:
    length_at = struct.Struct(order + "Q").unpack_from
    index, begin = 0, position
    try:
        for index in range(count):  # noqa: B007  # which one failed is what the error below says
            begin = position
            position += 8 + length_at(data, position)[0]
    except (struct.error, OverflowError):  # the length before this one led out of the file
        begin = min(begin, len(data))
    else:
        if position <= len(data):
            return position
    item = f"string {index} of {count} in {where}" if count > 1 else f"the string of {where}"
    raise Truncated(
        f"{item}, near byte {begin}, reaches beyond the file's end at {len(data)}",
        hint="the file is cut short or damaged: download it again",
    )
