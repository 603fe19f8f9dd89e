"""How long a file will be, told from what is to be written in it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ggufscope.container.header import MAGIC, alignment_of
from ggufscope.container.tensor_info import padded
from ggufscope.container.values import Value

_HEAD: Final = len(MAGIC) + struct.calcsize("<IQQ")
_PAIR: Final = struct.calcsize("<Q") + struct.calcsize("<I")
_AXIS: Final = struct.calcsize("<Q")
_TENSOR: Final = struct.calcsize("<Q") + struct.calcsize("<IIQ")
"""Bytes of the beginning of a file, of a pair and of a tensor beside their texts and axes."""


def text_bytes(text: str) -> bytes:
    """Return a text as it stands in a file: bytes that are no UTF-8 are kept."""
    return text.encode("utf-8", "surrogateescape")


def header_nbytes(metadata: Mapping[str, Value], tensors: Sequence[tuple[str, int]]) -> int:
    """Return the length of the header for tensors of these names and numbers of dimensions."""
    pairs = sum(len(text_bytes(key)) + len(value.raw) for key, value in metadata.items())
    names = sum(len(text_bytes(name)) for name, _ in tensors)
    axes = sum(dims for _, dims in tensors)
    return _HEAD + pairs + _PAIR * len(metadata) + names + _AXIS * axes + _TENSOR * len(tensors)


def file_nbytes(
    metadata: Mapping[str, Value], tensors: Sequence[tuple[str, int]], data: Iterable[int]
) -> int:
    """Return the length of a whole file; ``data``: bytes of each tensor, without padding."""
    head, alignment = header_nbytes(metadata, tensors), alignment_of(metadata)
    if not tensors:
        return head
    return padded(head, alignment) + sum(padded(nbytes, alignment) for nbytes in data)
