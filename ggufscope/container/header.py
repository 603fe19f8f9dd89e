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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ggufscope.blocks.layouts import Layout, layout_numbered
from ggufscope.container.foreign import HEAD, foreign_format
from ggufscope.container.tensor_info import (
    DAMAGED,
    MAX_DIMS,
    MAX_NAME,
    TensorInfo,
    check_offsets,
    check_shape,
    padded,
)
from ggufscope.container.value_types import Order, ValueType, value_type
from ggufscope.container.values import Value
from ggufscope.container.walk import CUT_SHORT, MAX_KEY, Source, Walk
from ggufscope.errors import (
    BadAlignment,
    BeyondLimit,
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
    naming,
)

MAGIC: Final = b"GGUF"
DEFAULT_ALIGNMENT: Final = 32
ALIGNMENT_KEY: Final = "general.alignment"
MAX_PAIRS: Final = 1 << 17
MAX_TENSORS: Final = 1 << 16
"""Most pairs and tensors that are read: more than the largest models have (one tensor an expert
makes 47,000), and few enough that a small file full of them cannot fill the memory."""

_SMALLEST_PAIR: Final = 8 + 1 + 4 + 1
_SHOWN_KEY: Final = 100
"""Bytes of a key's name that a message shows; the names that are used have 60 at the most."""
_SMALLEST_TENSOR: Final = 8 + 4 + 4 + 8
_USUAL_TENSOR: Final = 8 + 24 + 4 + 2 * 8 + 4 + 8


Extent = tuple[ValueType, int, int]
"""A value's type, where its bytes begin and where they end."""


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

    def __repr__(self) -> str:
        return f"Header({len(self.metadata)} keys, {len(self.tensors)} tensors)"

    @property
    def data_end(self) -> int:
        """Where the last tensor's data ends in the file, without its padding."""
        return self.data_offset + max((t.offset + t.nbytes for t in self.tensors), default=0)


def read_header(source: Source) -> Header:
    """Read the header of ``source``, asking for no more bytes than it takes.

    Raises one of the ``FormatError`` family, each naming the file, what is wrong and at which byte.
    """
    with naming(source.name):
        return _read(source)


def _read(source: Source) -> Header:
    if source.size == 0:
        raise EmptyFile("the file is empty", hint="download it again")
    walk = Walk(source)
    version = _begin(walk, source.size)
    n_tensors = _count(walk, "tensors", _SMALLEST_TENSOR, MAX_TENSORS, source.size)
    n_pairs = _count(walk, "metadata pairs", _SMALLEST_PAIR, MAX_PAIRS, source.size)
    walk.expect(n_tensors * _USUAL_TENSOR)
    extents = _read_pairs(walk, n_pairs)
    alignment = _alignment(walk, extents)
    tensors = _read_tensors(walk, n_tensors)
    data_offset = padded(walk.position, alignment)
    if tensors and data_offset > source.size:
        raise Truncated(
            f"the file ends at byte {source.size:,}, before its data section at {data_offset:,}",
            hint="the file is cut short: download it again",
        )
    placed = check_offsets(tensors, alignment, max(0, source.size - data_offset))
    raw = walk.finish()
    values = {key: Value(type_, raw[i:j], walk.order) for key, (type_, i, j) in extents.items()}
    return Header(version, walk.order, Metadata(values), placed, alignment, data_offset)


def _begin(walk: Walk, file_size: int) -> int:
    """Read magic and version, and settle the byte order."""
    walk.reach(min(len(MAGIC), file_size), "the magic")
    magic = bytes(walk.data[: len(MAGIC)])
    if magic != MAGIC:
        walk.reach(min(HEAD, file_size), "the beginning")
        known = foreign_format(bytes(walk.data[:HEAD]))
        if known is not None:
            raise NotGGUF(f"this is not a GGUF file: it is {known[0]}", hint=known[1])
        raise NotGGUF(
            f"this is not a GGUF file: it begins with {_quoted(magic)}, not {_quoted(MAGIC)}",
            hint="name a .gguf file; if this should be one, download it again",
        )
    walk.position = len(MAGIC)
    version = walk.number("I", "the version")
    if version and version & 0xFFFF == 0:  # a big-endian file, read the wrong way round
        walk.order = ">"
        version = int.from_bytes(version.to_bytes(4, "little"), "big")
    if version not in (2, 3):
        raise UnsupportedVersion(
            f"this is GGUF version {version} (at byte 4); versions 2 and 3 can be read",
            hint="convert the original model again with a current llama.cpp",
        )
    return version


def _quoted(data: bytes) -> str:
    """Return bytes as text in quotes, what is no character of ASCII escaped."""
    said = "".join(chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}" for byte in data)
    return f'"{said}"'


def _count(walk: Walk, of: str, smallest: int, limit: int, file_size: int) -> int:
    at = walk.position
    count = walk.number("Q", f"the number of {of}")
    if count * smallest > file_size:
        raise ImpossibleCount(
            f"the header claims {count:,} {of} (at byte {at:,}), for which a file of "
            f"{file_size:,} bytes has no room",
            hint=CUT_SHORT,
        )
    if count > limit:
        raise BeyondLimit(
            f"the header has {count:,} {of} (at byte {at:,}); this program reads "
            f"{limit:,} at the most",
            hint="no known model has so many: if yours is sound, please report it",
        )
    return count


def _read_pairs(walk: Walk, count: int) -> dict[str, Extent]:
    """Read where each value of the metadata is; while bytes are held no more can be read."""
    extents: dict[str, Extent] = {}
    for index in range(count):
        at = walk.position
        key = walk.text(f"key {index} of {count}", MAX_KEY)
        if not key:
            raise EmptyKey(f"key {index} of {count} has no name (at byte {at:,})", hint=DAMAGED)
        length = walk.position - at - 8
        where = (
            f"key {key!r}"
            if length <= _SHOWN_KEY  # a longer one ran into what follows it
            else f"key {index} of {count} (its name has {length:,} bytes)"
        )
        if key in extents:
            raise DuplicateKey(f"{where} comes twice (again at byte {at:,})", hint=DAMAGED)
        type_ = value_type(walk.number("I", where), where)
        start = walk.position
        walk.skip(type_, where)
        extents[key] = type_, start, walk.position
    return extents


def _alignment(walk: Walk, extents: Mapping[str, Extent]) -> int:
    if ALIGNMENT_KEY not in extents:
        return DEFAULT_ALIGNMENT
    type_, start, stop = extents[ALIGNMENT_KEY]
    value = Value(type_, bytes(walk.data[start:stop]), walk.order)
    return alignment_of({ALIGNMENT_KEY: value})


def alignment_of(values: Mapping[str, Value]) -> int:
    """Return the alignment of the data section; raises ``BadAlignment``."""
    value = values.get(ALIGNMENT_KEY)
    if value is None:
        return DEFAULT_ALIGNMENT
    if value.type is not ValueType.UINT32:
        raise BadAlignment(
            f"key '{ALIGNMENT_KEY}' is of type {value.type.name}, not UINT32", hint=DAMAGED
        )
    alignment = int(value.data)
    if alignment == 0 or alignment & (alignment - 1):
        raise BadAlignment(
            f"key '{ALIGNMENT_KEY}' is {alignment}, not a power of two", hint=DAMAGED
        )
    return alignment


def _read_tensors(walk: Walk, count: int) -> list[TensorInfo]:
    tensors: dict[str, TensorInfo] = {}
    for index in range(count):
        at = walk.position
        name = walk.text(f"the name of tensor {index} of {count}", MAX_KEY)
        length = walk.position - at - 8
        if length >= MAX_NAME:
            raise TensorNameTooLong(
                f"tensor {index} ({name[:MAX_NAME]!r}...) has a name of {length} bytes "
                f"(at byte {at:,}); the limit is {MAX_NAME - 1}",
                hint="rename the tensor: llama.cpp cannot load the file either",
            )
        if name in tensors:
            raise DuplicateTensor(
                f"tensor {name!r} comes twice (again at byte {at:,})", hint=DAMAGED
            )
        tensors[name] = _read_tensor(walk, name)
    return list(tensors.values())


def _read_tensor(walk: Walk, name: str) -> TensorInfo:
    at = walk.position
    n_dims = walk.number("I", f"tensor {name!r}")
    if n_dims > MAX_DIMS:
        raise TooManyDimensions(
            f"tensor {name!r} has {n_dims} dimensions (at byte {at:,}); the limit is {MAX_DIMS}",
            hint=DAMAGED,
        )
    dims = tuple(walk.number("q", f"tensor {name!r}") for _ in range(n_dims))
    if any(extent < 0 for extent in dims):
        raise NegativeDimension(
            f"tensor {name!r} has dimensions {dims} (at byte {at:,}): none can be negative",
            hint=DAMAGED,
        )
    type_ = layout_numbered(walk.number("I", f"tensor {name!r}"))
    check_shape(name, dims, type_, f" (at byte {at:,})")
    offset = walk.number("Q", f"tensor {name!r}")
    nbytes = type_.row_bytes(math.prod(dims)) if isinstance(type_, Layout) else 0
    return TensorInfo(name, dims, type_, offset, nbytes)
