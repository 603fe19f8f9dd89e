"""XXH64, the hash that ``llama-gguf-hash`` prints by default: fast, and no proof against malice.

Follows the specification of xxHash (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md). The
interface is that of ``hashlib``. Where kernels were compiled they do the lanes; without them this
is a few megabytes a second, and ``sha256`` is the faster choice.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ggufscope.arrays import Array
from ggufscope.blocks.codec import engine

_PRIMES: Final = (
    0x9E3779B185EBCA87,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0x85EBCA77C2B2AE63,
    0x27D4EB2F165667C5,
)
_WORD: Final = (1 << 64) - 1
STRIPE: Final = 32
"""Bytes that go through the lanes at once: a word of 64 bits each."""


class XXH64:
    """A hash under way, of seed 0."""

    name: Final = "xxh64"

    def __init__(self) -> None:
        one, two = _PRIMES[:2]
        self._lanes = np.array([one + two & _WORD, two, 0, -one & _WORD], np.uint64)
        self._rest = b""
        self._length = 0

    def update(self, data: bytes | memoryview) -> None:
        """Take more bytes."""
        view = memoryview(data).cast("B")
        self._length += len(view)
        if self._rest:  # fill up the stripe that was left
            missing = min(STRIPE - len(self._rest), len(view))
            self._rest += bytes(view[:missing])
            view = view[missing:]
            if len(self._rest) < STRIPE:
                return
            self._go_over(memoryview(self._rest))
        whole = len(view) - len(view) % STRIPE
        self._go_over(view[:whole])
        self._rest = bytes(view[whole:])

    def _go_over(self, data: memoryview) -> None:
        kernels = engine().kernels
        if kernels is not None:
            kernels.xxh64(self._lanes, np.frombuffer(data, np.uint8))
        elif data:
            self._lanes[:] = lanes_over(self._lanes, np.frombuffer(data, "<u8"))

    def hexdigest(self) -> str:
        """Return the hash of all that was taken, in 16 digits."""
        one, two, three, four, five = _PRIMES
        lanes = self._lanes.tolist()
        if self._length < STRIPE:
            found = five
        else:
            found = sum(map(_rotated, lanes, (1, 7, 12, 18)))
            for lane in lanes:
                found = ((found ^ _round(0, lane)) * one + four) & _WORD
        found += self._length
        rest = self._rest
        while len(rest) >= 8:
            word = _round(0, int.from_bytes(rest[:8], "little"))
            found, rest = _rotated(found ^ word, 27) * one + four, rest[8:]
        if len(rest) >= 4:
            word = int.from_bytes(rest[:4], "little")
            found, rest = _rotated(found ^ word * one, 23) * two + three, rest[4:]
        for byte in rest:
            found = _rotated(found ^ byte * five, 11) * one
        found &= _WORD
        found = (found ^ found >> 33) * two & _WORD
        found = (found ^ found >> 29) * three & _WORD
        return f"{found ^ found >> 32:016x}"


def lanes_over(lanes: Array, words: Array) -> list[int]:
    """lanes (4,), words (4 * stripes,) uint64 -> the lanes after all stripes."""
    found = lanes.tolist()
    for at, word in enumerate(words.tolist()):
        found[at % 4] = _round(found[at % 4], word)
    return found  # type: ignore[no-any-return]  # a list of int: tolist() does not say


def _round(lane: int, word: int) -> int:
    return _rotated(lane + word * _PRIMES[1], 31) * _PRIMES[0] & _WORD


def _rotated(word: int, bits: int) -> int:
    word &= _WORD
    return (word << bits | word >> (64 - bits)) & _WORD
