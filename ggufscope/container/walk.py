"""The walk through a header: past every value without decoding it, reading on as it needs more.

This walk is the whole cost of opening a file with a large vocabulary. Every length is held against
the size of the file before it is used, and what takes time or memory by its count alone has a limit
of its own, far above what any model has.
"""

from __future__ import annotations

import struct
from typing import Final, Protocol

from ggufscope.container.value_types import CODES, SIZES, Buffer, Order, ValueType, value_type
from ggufscope.errors import BeyondLimit, NestedTooDeep, Truncated

MAX_NESTING: Final = 16
"""Arrays within arrays beyond this depth are refused; llama.cpp reads no nested array at all."""
MAX_STRING: Final = 1 << 28
"""Bytes of a text that stands by itself. The longest there are, whole tokenizers, have 33 MB."""
MAX_KEY: Final = (1 << 16) - 1
"""Bytes of a key, as the specification of GGUF has it."""
MAX_STRINGS: Final = 1 << 23
"""Strings in all arrays of a header: the largest vocabularies have 800,000 with their merges."""
MAX_ARRAYS: Final = 1 << 18
"""Arrays within arrays, in a whole header."""

ARRAY_HEAD: Final = struct.calcsize("<IQ")
"""Bytes of an array's element type and count."""

_FIRST_READ: Final = 1 << 18
_LARGEST_READ: Final = 1 << 24
_SHARE: Final = 6
"""What is read beyond what is known to come: one part in so many of what was read."""
_OF_A_TOKEN: Final = 8
"""The first long list of strings is the vocabulary; a score and a type of each token may follow,
and then, of a part of all vocabularies, merges."""
CUT_SHORT: Final = "the file is cut short or damaged: download it again"


class Source(Protocol):
    """Where bytes come from. A header needs no more than this, so a remote file can be one."""

    @property
    def name(self) -> str:
        """What to call it in a message."""

    @property
    def size(self) -> int:
        """Bytes in all."""

    def read(self, start: int, stop: int) -> Buffer:
        """Return the bytes of ``[start, stop)``."""


class Walk:
    """The bytes of a header so far, and a position that moves behind one value after the other.

    Each step takes ``where``, what it is in: the words of the error where the file ends inside.
    """

    def __init__(self, source: Source | None, data: Buffer = b"", order: Order = "<") -> None:
        """Walk through what ``source`` gives, or where there is none, through ``data``."""
        self.data: Buffer = data if source is None else bytearray()
        self.order: Order = order
        self.position = 0
        self._source = source
        self._size = len(data) if source is None else source.size
        self._strings = 0
        self._arrays = 0
        self._after = 0
        self._expected = 0
        """Where the header will end, as far as can be told: what is read at once goes to there."""

    def expect(self, nbytes: int) -> None:
        """Count on so many bytes, more or less, after all pairs."""
        self._after = nbytes

    def reach(self, end: int, where: str) -> None:
        """Have all bytes before ``end``; raises ``Truncated``."""
        if end <= len(self.data):
            return
        if end > self._size or self._source is None or not isinstance(self.data, bytearray):
            raise Truncated(
                f"{where} reaches to byte {end:,}, and the file ends at {self._size:,}",
                hint=CUT_SHORT,
            )
        step = max(len(self.data) // _SHARE, _FIRST_READ)
        stop = min(max(end, self._expected, len(self.data) + step), self._size)
        while len(self.data) < end:  # a little at a time, so that nothing large is held twice
            so_far = len(self.data)
            self.data += self._source.read(so_far, min(stop, so_far + _LARGEST_READ))

    def finish(self) -> memoryview:
        """Return the bytes that were walked through; what was read beyond them is let go."""
        if isinstance(self.data, bytearray):
            del self.data[self.position :]
        return memoryview(self.data).toreadonly()

    def number(self, code: str, where: str) -> int:
        """Read a whole number, by its ``struct`` code."""
        size = struct.calcsize("<" + code)
        self.reach(self.position + size, where)
        (number,) = struct.unpack_from(self.order + code, self.data, self.position)
        self.position += size
        return int(number)

    def text(self, where: str, most: int) -> str:
        """Read a string of no more than ``most`` bytes; raises ``BeyondLimit``."""
        start = self.position + 8
        self._skip_string(where, most)
        # surrogateescape: a name that is not UTF-8 is shown, and written back, as it is.
        return str(self.data[start : self.position], "utf-8", "surrogateescape")

    def skip(self, type_: ValueType, where: str) -> None:
        """Move behind a value.

        Raises ``Truncated``, ``UnknownValueType``, ``NestedTooDeep`` or ``BeyondLimit``.
        """
        if type_ is ValueType.STRING:
            self._skip_string(where, MAX_STRING)
        elif type_ is ValueType.ARRAY:
            self._skip_array(where, 0)
        else:
            self._move(SIZES[type_], where)

    def _move(self, nbytes: int, where: str) -> None:
        self.reach(self.position + nbytes, where)
        self.position += nbytes

    def _skip_string(self, where: str, longest: int) -> None:
        length = self.number("Q", where)
        if longest < length <= self._size - self.position:
            raise _beyond(f"{where} is a text of {length} bytes", longest)
        self._move(length, where)

    def _skip_array(self, where: str, depth: int) -> None:
        if depth == MAX_NESTING:
            raise NestedTooDeep(
                f"{where} nests arrays more than {MAX_NESTING} deep (at byte {self.position:,})",
                hint="no model does that: the header is damaged or hostile",
            )
        at = self.position
        element_type = value_type(self.number("I", where), f"{where}, an array at byte {at:,},")
        count = self.number("Q", where)
        if element_type in CODES:
            self._move(count * SIZES[element_type], where)
        elif element_type is ValueType.STRING:
            self._strings = self._counted(self._strings, count, 8, MAX_STRINGS, "strings", where)
            self._skip_strings(count, where)
        else:
            least = ARRAY_HEAD
            self._arrays = self._counted(self._arrays, count, least, MAX_ARRAYS, "arrays", where)
            for _ in range(count):
                self._skip_array(where, depth + 1)

    def _counted(
        self, before: int, count: int, least: int, limit: int, what: str, where: str
    ) -> int:
        """Add a count that the file has room for, of things of ``least`` bytes, and hold the sum.

        Raises ``Truncated`` or ``BeyondLimit``.
        """
        if self.position + count * least > self._size:
            raise Truncated(
                f"{where} claims {count:,} {what} (at byte {self.position:,}), for which a file of "
                f"{self._size:,} bytes has no room",
                hint=CUT_SHORT,
            )
        if before + count > limit:
            raise _beyond(f"{where} brings the {what} within arrays to {before + count}", limit)
        return before + count

    def _skip_strings(self, count: int, where: str) -> None:
        length_at = struct.Struct(self.order + "Q").unpack_from
        data, position = self.data, self.position
        start, done, at = position, 0, 0
        while done < count:
            try:
                for at in range(done, count):  # noqa: B007  # which one it stopped at
                    position += 8 + length_at(data, position)[0]
                done = count
            except (struct.error, OverflowError):  # no length there: more is to be read
                done = at
                last = at - 1 if position > self._size else at
                self._expect_strings(start, position, done, count)
                self.reach(position + 8, f"string {last} of {count} in {where}")
        self.reach(position, f"string {count - 1} of {count} in {where}")
        self.position = position

    def _expect_strings(self, start: int, position: int, done: int, count: int) -> None:
        """Work out where the header will end from ``done`` of ``count`` strings, of like length."""
        of_each = (position - start) / done if done else 0
        end = position + (count - done) * of_each + self._after
        if 10 * count > 9 * self._strings:  # a few tags and languages may come before
            end += count * _OF_A_TOKEN
        self._expected = int(end * (1 + 1 / _SHARE))


def _beyond(said: str, limit: int) -> BeyondLimit:
    return BeyondLimit(
        f"{said}; this program reads {limit:,} at the most",
        hint="no known model has so many: if yours is sound, please report it",
    )
