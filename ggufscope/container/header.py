"""Bytes to ``Header``: every count checked before it is trusted.

A GGUF file in one screen::

    "GGUF"   u32 version   u64 tensors   u64 metadata pairs
    pairs    string key, u32 type, value                      (see values.py)
    tensors  string name, u32 dims, u64 each dim, u32 type, u64 offset
    zeros    up to the next multiple of general.alignment (32 where absent)
    data     each tensor at its offset from here, padded to the alignment

Rules and limits follow ``gguf_init_from_reader`` in llama.cpp's ``ggml/src/gguf.cpp``, which
refuses a file that breaks one of them. It also refuses a tensor type it does not know; here that
tensor is kept as a ``ForeignType``, so that the rest of the file can be seen.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ggufscope.blocks.layouts import Layout, layout_numbered
from ggufscope.container.tensor_info import (
    MAX_DIMS,
    MAX_NAME,
    TensorInfo,
    check_offsets,
    check_shape,
    padded,
)
from ggufscope.container.values import Buffer, Order, Value, ValueType, skip, value_type
from ggufscope.errors import (
    BadAlignment,
    DuplicateKey,
    DuplicateTensor,
    EmptyFile,
    EmptyKey,
    ImpossibleCount,
    NegativeDimension,
    NotGGUF,
    TensorNameTooLong,
    TooManyDimensions,
    Truncated,
    UnsupportedVersion,
)

MAGIC: Final = b"GGUF"
DEFAULT_ALIGNMENT: Final = 32
ALIGNMENT_KEY: Final = "general.alignment"
MAX_ENTRIES: Final = 65_536
"""Most pairs, and most tensors, that are read: ten times what the largest models have, and few
enough that a small file full of them cannot fill the memory."""

_DAMAGED: Final = "the header is damaged: download the file again, or ask whoever made it"
_SMALLEST_PAIR: Final = 8 + 1 + 4 + 1
_SMALLEST_TENSOR: Final = 8 + 4 + 4 + 8


class Source(Protocol):
    """Where bytes come from. A header needs no more than this, so a remote file can be one."""

    @property
    def name(self) -> str:
        """What to call it in a message."""

    @property
    def size(self) -> int:
        """Bytes in all."""

    @property
    def first_read(self) -> int:
        """How much to ask for at first: all where that is free, a few megabytes where it is not."""

    def view(self, start: int, stop: int) -> memoryview:
        """Give the bytes of ``[start, stop)``."""


class Metadata(Mapping[str, Any]):
    """The metadata of a file, in file order; ``metadata[key]`` decodes that one value.

    A value is an int, float, bool, str or ``values.Array``.
    """

    def __init__(self, values: dict[str, Value]) -> None:
        self.typed: Final = values
        """The same, with each value's type and bytes."""

    def __getitem__(self, key: str) -> Any:
        return self.typed[key].data

    def __iter__(self) -> Iterator[str]:
        return iter(self.typed)

    def __len__(self) -> int:
        return len(self.typed)

    def __repr__(self) -> str:
        return f"Metadata({len(self)} keys)"


@dataclass(frozen=True, slots=True)
class Header:
    """Everything a file says before its data."""

    version: int
    order: Order
    metadata: Metadata
    tensors: tuple[TensorInfo, ...]
    alignment: int
    data_offset: int
    """Where the data section begins in the file."""

    @property
    def data_end(self) -> int:
        """Where the last tensor's data ends in the file, without its padding."""
        return self.data_offset + max((t.offset + t.nbytes for t in self.tensors), default=0)


def read_header(source: Source) -> Header:
    """Read the header of ``source``, asking for no more bytes than it takes.

    Raises one of the ``FormatError`` family, each naming what is wrong and at which byte.
    """
    if source.size == 0:
        raise EmptyFile(f"{source.name} is empty", hint="download it again")
    take = min(source.first_read, source.size)
    while True:
        try:
            return _parse(source.view(0, take), source.size, source.name)
        except Truncated:
            if take == source.size:
                raise
            take = min(2 * take, source.size)


class _Cursor:
    """A position in the header, and the reads that move it."""

    def __init__(self, data: Buffer, order: Order) -> None:
        self.data = data
        self.order: Order = order
        self.position = 0

    def number(self, code: str, where: str) -> int:
        try:
            (number,) = struct.unpack_from(self.order + code, self.data, self.position)
        except struct.error:
            raise Truncated(
                f"the file ends at byte {len(self.data)}, inside {where}",
                hint="the file is cut short: download it again",
            ) from None
        self.position += struct.calcsize("<" + code)
        return int(number)

    def text(self, where: str) -> str:
        start = self.position
        self.position = skip(self.data, start, ValueType.STRING, self.order, where)
        # surrogateescape: a name that is not UTF-8 is shown, and written back, as it is.
        return str(self.data[start + 8 : self.position], "utf-8", "surrogateescape")

    def value(self, where: str) -> Value:
        type_ = value_type(self.number("I", where), where)
        start = self.position
        self.position = skip(self.data, start, type_, self.order, where)
        return Value(type_, self.data[start : self.position], self.order)

    def count(self, of: str, smallest: int, file_size: int) -> int:
        at = self.position
        count = self.number("Q", f"the number of {of}")
        if count > MAX_ENTRIES or count * smallest > file_size:
            raise ImpossibleCount(
                f"the header claims {count} {of} (at byte {at}) in a file of {file_size} bytes; "
                f"the limit is {MAX_ENTRIES}",
                hint=_DAMAGED,
            )
        return count


def _parse(data: memoryview, file_size: int, name: str) -> Header:
    if bytes(data[:4]) != MAGIC:
        raise NotGGUF(
            f"{name} is not a GGUF file: it begins with {bytes(data[:4])!r}, not {MAGIC!r}",
            hint="llama.cpp's convert_hf_to_gguf.py makes one from a safetensors model",
        )
    cursor = _Cursor(data, "<")
    cursor.position = len(MAGIC)
    version = cursor.number("I", "the version")
    if version and version & 0xFFFF == 0:  # a big-endian file, read the wrong way round
        cursor.order = ">"
        version = int.from_bytes(version.to_bytes(4, "little"), "big")
    if version not in (2, 3):
        raise UnsupportedVersion(
            f"{name} is GGUF version {version} (at byte 4); versions 2 and 3 can be read",
            hint="convert the original model again with a current llama.cpp",
        )
    n_tensors = cursor.count("tensors", _SMALLEST_TENSOR, file_size)
    n_pairs = cursor.count("metadata pairs", _SMALLEST_PAIR, file_size)
    metadata = Metadata(_read_pairs(cursor, n_pairs))
    alignment = alignment_of(metadata.typed)
    tensors = _read_tensors(cursor, n_tensors)
    data_offset = padded(cursor.position, alignment)
    if tensors and data_offset > file_size:
        raise Truncated(
            f"the file ends at byte {file_size}, before its data section at {data_offset}",
            hint="the file is cut short: download it again",
        )
    placed = check_offsets(tensors, alignment, max(0, file_size - data_offset))
    return Header(version, cursor.order, metadata, placed, alignment, data_offset)


def _read_pairs(cursor: _Cursor, count: int) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for index in range(count):
        at = cursor.position
        key = cursor.text(f"key {index} of {count}")
        if not key:
            raise EmptyKey(f"key {index} of {count} has no name (at byte {at})", hint=_DAMAGED)
        if key in values:
            raise DuplicateKey(f"key {key!r} comes twice (again at byte {at})", hint=_DAMAGED)
        values[key] = cursor.value(f"key {key!r}")
    return values


def alignment_of(values: Mapping[str, Value]) -> int:
    """Give the alignment of the data section; raises ``BadAlignment``."""
    value = values.get(ALIGNMENT_KEY)
    if value is None:
        return DEFAULT_ALIGNMENT
    if value.type is not ValueType.UINT32:
        raise BadAlignment(
            f"key '{ALIGNMENT_KEY}' is of type {value.type.name}, not UINT32", hint=_DAMAGED
        )
    alignment = int(value.data)
    if alignment == 0 or alignment & (alignment - 1):
        raise BadAlignment(
            f"key '{ALIGNMENT_KEY}' is {alignment}, not a power of two", hint=_DAMAGED
        )
    return alignment


def _read_tensors(cursor: _Cursor, count: int) -> list[TensorInfo]:
    tensors: dict[str, TensorInfo] = {}
    for index in range(count):
        at = cursor.position
        name = cursor.text(f"the name of tensor {index} of {count}")
        length = cursor.position - at - 8
        if length >= MAX_NAME:
            raise TensorNameTooLong(
                f"tensor {index} ({name[:MAX_NAME]!r}...) has a name of {length} bytes "
                f"(at byte {at}); the limit is {MAX_NAME - 1}",
                hint="rename the tensor: llama.cpp cannot load the file either",
            )
        if name in tensors:
            raise DuplicateTensor(
                f"tensor {name!r} comes twice (again at byte {at})", hint=_DAMAGED
            )
        tensors[name] = _read_tensor(cursor, name)
    return list(tensors.values())


def _read_tensor(cursor: _Cursor, name: str) -> TensorInfo:
    at = cursor.position
    n_dims = cursor.number("I", f"tensor {name!r}")
    if n_dims > MAX_DIMS:
        raise TooManyDimensions(
            f"tensor {name!r} has {n_dims} dimensions (at byte {at}); the limit is {MAX_DIMS}",
            hint=_DAMAGED,
        )
    dims = tuple(cursor.number("q", f"tensor {name!r}") for _ in range(n_dims))
    if any(extent < 0 for extent in dims):
        raise NegativeDimension(
            f"tensor {name!r} has dimensions {dims} (at byte {at}): none can be negative",
            hint=_DAMAGED,
        )
    type_ = layout_numbered(cursor.number("I", f"tensor {name!r}"))
    check_shape(name, dims, type_, f" (at byte {at})")
    offset = cursor.number("Q", f"tensor {name!r}")
    nbytes = type_.row_bytes(math.prod(dims)) if isinstance(type_, Layout) else 0
    return TensorInfo(name, dims, type_, offset, nbytes)
