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
from itertools import islice
from typing import Any, Final, overload

import numpy as np

from ggufscope.container.value_types import CODES, SIZES, Buffer, Order, ValueType
from ggufscope.container.walk import ARRAY_HEAD, Walk
from ggufscope.errors import UnencodableValue

_CHUNK: Final = 1 << 16
"""Numbers that become Python objects at a time."""
_COPIED: Final = 1 << 25
"""Bytes of strings that may be held twice while they are decoded."""


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
        if self.element_type in CODES:
            return self._numbers()
        return self._strings() if self.element_type is ValueType.STRING else self._arrays()

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if self.element_type in CODES:
            return self.numpy()[index].tolist()
        if self._items is None:
            self._items = list(self)
        return self._items[index]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Array) and self._order == other._order and self._raw == other._raw:
            return True  # the usual case, and nothing to decode; NaN equals itself here
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # mutable cache inside, and compared by content

    def __repr__(self) -> str:
        return f"Array({self.element_type.name}, {self._length} items)"

    def head(self, count: int) -> list[Any]:
        """Return the first ``count`` items, decoding no more than those."""
        return list(islice(self, count))

    def heads(self, count: int, most: int) -> list[Any]:
        """Return the first ``count`` items; of a string over ``most`` bytes the head and "..."."""
        if self.element_type is not ValueType.STRING:
            return self.head(count)
        return [
            _text(self._raw, start, stop, most) + ("..." if stop - start > most else "")
            for start, stop in islice(self._extents(), count)
        ]

    def numpy(self) -> np.ndarray[Any, Any]:
        """Return a zero-copy view of a numeric or bool array, shape (len,), in the file's order.

        Raises ``TypeError`` for strings and nested arrays.
        """
        code = CODES.get(self.element_type)
        if code is None:
            raise TypeError(f"an array of {self.element_type.name} has no NumPy view")
        dtype = np.dtype(self._order + code)
        found = np.frombuffer(self._raw, dtype, self._length, ARRAY_HEAD)
        return found != 0 if self.element_type is ValueType.BOOL else found

    def _numbers(self) -> Iterator[Any]:
        numbers = self.numpy()
        for start in range(0, self._length, _CHUNK):
            yield from numbers[start : start + _CHUNK].tolist()

    def _extents(self) -> Iterator[tuple[int, int]]:
        """Return where each string begins and ends; that was checked when the header was read."""
        position, length_at = ARRAY_HEAD, struct.Struct(self._order + "Q").unpack_from
        for _ in range(self._length):
            begin = position + 8
            position = begin + length_at(self._raw, position)[0]
            yield begin, position

    def _strings(self) -> Iterator[str]:
        # A copy as bytes is decoded twice as fast; where it would be large, memory counts more.
        raw = bytes(self._raw) if len(self._raw) <= _COPIED else self._raw
        for begin, end in self._extents():
            yield str(raw[begin:end], "utf-8", "surrogateescape")

    def _arrays(self) -> Iterator[Array]:
        return (Array(part, self._order) for part in _elements(self._raw, self._order))


def _text(raw: Buffer, start: int, stop: int, most: int | None = None) -> str:
    """Decode the string of ``raw[start:stop]``, or no more than its first ``most`` bytes."""
    if most is not None and stop - start > most:
        stop = start + most
        while stop > start and raw[stop] & 0xC0 == 0x80:  # not within a character
            stop -= 1
    return str(raw[start:stop], "utf-8", "surrogateescape")


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
            return cls(type_, struct.pack("<" + CODES[type_], data))
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

    @property
    def length(self) -> int:
        """Bytes of a string, items of an array; 1 of a number."""
        if self.type is ValueType.STRING:
            return len(self.raw) - 8
        return len(Array(self.raw, self.order)) if self.type is ValueType.ARRAY else 1

    def head(self, most: int) -> str:
        """Return the text of a string's first ``most`` bytes, decoding no more than those."""
        return _text(self.raw, 8, len(self.raw), most)

    def encode(self, order: Order) -> bytes:
        """Return the bytes of the value in this byte order: every bit of every number kept."""
        return bytes(self.raw) if order == self.order else _swapped(self.type, self.raw, self.order)


def _decode(type_: ValueType, raw: Buffer, order: Order) -> Any:
    if type_ is ValueType.STRING:
        return _text(raw, 8, len(raw))
    if type_ is ValueType.ARRAY:
        return Array(raw, order)
    (number,) = struct.unpack(order + CODES[type_], raw)
    return number != 0 if type_ is ValueType.BOOL else number


def _swapped(type_: ValueType, raw: Buffer, order: Order) -> bytes:
    """Return ``raw`` with each of its numbers in the other byte order."""
    if type_ in CODES:
        return bytes(raw)[::-1]
    if type_ is ValueType.STRING:
        return bytes(raw[:8])[::-1] + bytes(raw[8:])
    number, count = struct.unpack_from(order + "IQ", raw)
    element_type = ValueType(number)
    head = bytes(raw[:4])[::-1] + bytes(raw[4:ARRAY_HEAD])[::-1]
    if element_type in CODES:
        unsigned = np.dtype(f"u{SIZES[element_type]}")
        return head + np.frombuffer(raw, unsigned, count, ARRAY_HEAD).byteswap().tobytes()
    return head + b"".join(_swapped(element_type, part, order) for part in _elements(raw, order))


def _elements(raw: Buffer, order: Order) -> Iterator[Buffer]:
    """Return the bytes of each string or array of an array."""
    number, count = struct.unpack_from(order + "IQ", raw)
    walk = Walk(None, raw, order)
    walk.position = ARRAY_HEAD
    for _ in range(count):
        start = walk.position
        walk.skip(ValueType(number), "an array item")
        yield raw[start : walk.position]
