"""What differs between the metadata of two files, key by key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import zip_longest
from typing import Final

import numpy as np

from ggufscope.arrays import Array as AnyArray
from ggufscope.container.header import Metadata
from ggufscope.container.shards import COUNT_KEY, NUMBER_KEY, TENSORS_KEY
from ggufscope.container.value_types import CODES, SIZES, ValueType
from ggufscope.container.values import Array, Value

OF_STORAGE: Final = frozenset({NUMBER_KEY, COUNT_KEY, TENSORS_KEY})
"""Keys about how the model is cut into files: they say nothing of the model."""

_NONE: Final = object()


class Change(StrEnum):
    """What became of a key from A to B."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A key that only one file has, or that has two values."""

    key: str
    change: Change
    a: Value | None
    b: Value | None
    differing: int | None = None
    """How many items of two arrays differ; those that only one has count."""
    first: int | None = None
    """The first item of two arrays, or the first byte of two texts, that differs."""


def metadata_changes(a: Metadata, b: Metadata) -> list[KeyChange]:
    """Return what differs, in the order of A's keys, then B's. The order of keys is no change."""
    found = []
    for key, value in a.typed.items():
        if key in OF_STORAGE:
            continue
        other = b.typed.get(key)
        if other is None:
            found.append(KeyChange(key, Change.REMOVED, value, None))
        elif change := _changed(key, value, other):
            found.append(change)
    found += [
        KeyChange(key, Change.ADDED, None, value)
        for key, value in b.typed.items()
        if key not in a.typed and key not in OF_STORAGE
    ]
    return found


def _changed(key: str, a: Value, b: Value) -> KeyChange | None:
    if a.type is not b.type:
        return KeyChange(key, Change.CHANGED, a, b)
    if a.order == b.order and a.raw == b.raw:
        return None
    if a.type is ValueType.STRING:
        first = _first_byte(a, b)
        return None if first is None else KeyChange(key, Change.CHANGED, a, b, None, first)
    if a.type is not ValueType.ARRAY:
        same = a.encode("<") == b.encode("<")
        return None if same else KeyChange(key, Change.CHANGED, a, b)
    if a.data.element_type is not b.data.element_type:
        return KeyChange(key, Change.CHANGED, a, b)
    differing = first = 0
    for place in _differing_items(a.data, b.data):
        first = first if differing else place
        differing += 1
    return KeyChange(key, Change.CHANGED, a, b, differing, first) if differing else None


def _first_byte(a: Value, b: Value) -> int | None:
    """Return the first byte in which two texts differ; None where they are the same."""
    x, y = (np.frombuffer(value.raw, np.uint8, offset=8) for value in (a, b))
    both = min(x.size, y.size)
    differing = np.flatnonzero(x[:both] != y[:both])
    if differing.size:
        return int(differing[0])
    return None if x.size == y.size else both


def _differing_items(a: Array, b: Array) -> Iterator[int]:
    """Yield the place of each item that differs; two NaNs of the same bits do not."""
    if a.element_type not in CODES:
        yield from (at for at, (x, y) in enumerate(zip_longest(a, b, fillvalue=_NONE)) if x != y)
        return
    bits = np.dtype(f"<u{SIZES[a.element_type]}")
    x, y = (
        each.view(np.uint8).astype(bits) if each.dtype == np.bool_ else _little(each).view(bits)
        for each in (a.numpy(), b.numpy())
    )
    both = min(x.size, y.size)
    yield from np.flatnonzero(x[:both] != y[:both]).tolist()
    yield from range(both, max(x.size, y.size))


def _little(numbers: AnyArray) -> AnyArray:
    return np.ascontiguousarray(numbers, numbers.dtype.newbyteorder("<"))
