"""The files of importance matrices: GGUF, and the ``.dat`` of before, read and written.

GGUF: ``general.type`` is ``imatrix``, and each matrix has two float32 tensors, ``NAME.in_sum2``
(experts, columns) and ``NAME.counts`` (experts, 1). The legacy file, little-endian::

    i32 entries
    each     i32 length, name, i32 chunks, i32 values, f32 each: mean square times chunks
    i32 chunks, i32 length, name of the text                     (both may be missing)

Follows llama.cpp's ``common/imatrix-loader.cpp``, and ``save_imatrix`` and ``save_imatrix_legacy``
of its ``tools/imatrix/imatrix.cpp``.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from ggufscope.arrays import Floats
from ggufscope.blocks.layouts import LAYOUTS
from ggufscope.container.file import GGUFFile, Tensor, open_gguf
from ggufscope.container.foreign import HEAD, foreign_format
from ggufscope.container.header import MAGIC
from ggufscope.container.partial import replacing
from ggufscope.container.places import names_another_place
from ggufscope.container.source import LocalFile, read_into
from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Array, Value
from ggufscope.container.writer import GGUFWriter, TensorSpec
from ggufscope.errors import BadImportance, naming
from ggufscope.machine import require_memory
from ggufscope.recipes.importance import USUAL_CHUNK, Entry, ImportanceMatrix, in_order

DATASETS: Final = "imatrix.datasets"
CHUNK_COUNT: Final = "imatrix.chunk_count"
CHUNK_SIZE: Final = "imatrix.chunk_size"
UNFINISHED: Final = "ggufscope.imatrix.unfinished"
"""In a checkpoint alone: which run it is of. llama.cpp reads no such key."""

_KIND: Final = "general.type"
_SUMS, _COUNTS = ".in_sum2", ".counts"
_MOST: Final = 1 << 53
"""Vectors that entered a matrix: what is more is no count."""
_AGAIN: Final = "make it anew with `ggufscope imatrix`, or download it again"
_SMALLEST: Final = 4 + 4 + 4 + 4
"""Bytes of a legacy entry: three numbers, no name, one value."""


def is_imatrix(path: str | os.PathLike[str]) -> bool:
    """Whether a file is to be read as an importance matrix rather than as a model.

    Raises a ``SourceError``, and what ``open_gguf`` raises.
    """
    head = _head_of(path)
    if head.startswith(MAGIC):
        with open_gguf(path) as file:
            return file.metadata.get(_KIND) == "imatrix" or any(
                name.endswith(_SUMS) for name in file.tensors
            )
    return bool(head) and foreign_format(head) is None and Path(path).suffix != ".gguf"


def read_imatrix(path: str | os.PathLike[str]) -> ImportanceMatrix:
    """Read an importance matrix, GGUF or legacy.

    Raises ``BadImportance``, a ``SourceError``, ``TooMuchMemory``, and what ``open_gguf`` raises.
    """
    with naming(path):
        head = _head_of(path)
        if head.startswith(MAGIC):
            with open_gguf(path) as file:
                return _of_gguf(file, Path(path))
        foreign = foreign_format(head)
        if foreign:
            raise BadImportance(
                f"{path} is no importance matrix: it is {foreign[0]}", hint=foreign[1]
            )
        if not head:
            raise BadImportance(f"{path} is empty", hint=_AGAIN)
        return _Legacy(LocalFile(Path(path))).read()


def _head_of(path: str | os.PathLike[str]) -> bytes:
    """Return the first bytes of a file; of one that has its name elsewhere, what GGUF begins with.

    Nothing but GGUF has a name elsewhere: a legacy file has a path.
    """
    if Path(path).suffix != ".dat" and names_another_place(path):
        return MAGIC
    source = LocalFile(Path(path))
    return bytes(source.read(0, min(HEAD, source.size)))


def _of_gguf(file: GGUFFile, path: Path) -> ImportanceMatrix:
    tensors = file.tensors
    names = [name.removesuffix(_SUMS) for name in tensors if name.endswith(_SUMS)]
    names += [name.removesuffix(_COUNTS) for name in tensors if name.endswith(_COUNTS)]
    if not names:
        kind = "a model" if file.metadata.get("general.architecture") else "a GGUF file"
        raise BadImportance(
            f"{path} is no importance matrix: it is {kind}",
            hint="`ggufscope imatrix MODEL --text FILE` makes one of a model",
        )
    metadata = file.metadata
    datasets = metadata.get(DATASETS)
    _require_room(sum(tensor.nbytes for tensor in tensors.values()), path)
    named = isinstance(datasets, Array) and datasets.element_type is ValueType.STRING
    return ImportanceMatrix(
        path,
        in_order({name: _entry(tensors, name) for name in names}),
        tuple(datasets or ()) if named else (),
        _number(metadata, CHUNK_COUNT),
        _number(metadata, CHUNK_SIZE),
        lacks=tuple(key for key in (DATASETS, CHUNK_COUNT, CHUNK_SIZE) if key not in metadata),
        unfinished=str(metadata.get(UNFINISHED, "")),
    )


def _require_room(nbytes: int, path: Path) -> None:
    require_memory(nbytes, f"reading {path}", "use a machine with more memory")


def _number(metadata: Mapping[str, Any], key: str) -> int:
    number = metadata.get(key, 0)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 1 << 32:
        raise BadImportance(f"key {key!r} is {number!r:.60}, not a number of 32 bits", hint=_AGAIN)
    return number


def _entry(tensors: Mapping[str, Tensor], name: str) -> Entry:
    found = []
    for suffix in (_SUMS, _COUNTS):
        tensor = tensors.get(name + suffix)
        if tensor is None:
            raise BadImportance(f"it has no tensor '{name}{suffix}'", hint=_AGAIN)
        if tensor.type is not LAYOUTS["F32"]:
            raise BadImportance(
                f"tensor '{name}{suffix}' is {tensor.type.name}, not F32", hint=_AGAIN
            )
        found.append(_floats(tensor))
    sums, counts = found
    if not counts.size or sums.size % counts.size or not sums.size:
        raise BadImportance(
            f"{name!r} has {sums.size} sums and {counts.size} counts, which do not divide",
            hint=_AGAIN,
        )
    if not ((counts >= 0) & (counts < _MOST)).all():
        at = int(np.flatnonzero(~((counts >= 0) & (counts < _MOST)))[0])
        raise BadImportance(f"count {at} of {name!r} is {counts[at]}", hint=_AGAIN)
    # lround goes away from zero where rint goes to the even one.
    whole = np.floor(counts.astype(np.float64) + 0.5).astype(np.int64)
    return Entry(sums.reshape(counts.size, -1), whole)


def _floats(tensor: Tensor) -> Floats:
    raw = bytearray(tensor.nbytes)
    source = tensor.shard.source
    read_into(source.path, source.identity, tensor.offset, memoryview(raw), repr(tensor.name))
    return np.frombuffer(raw, f"{tensor.shard.header.order}f4").astype(np.float32, copy=False)


class _Legacy:
    """A file of the format before GGUF, from its beginning to its end."""

    def __init__(self, source: LocalFile) -> None:
        self._source, self._at = source, 0

    def read(self) -> ImportanceMatrix:
        """Read it; what follows the entries may be missing."""
        count = self._number("the number of entries")
        if not 0 < count <= self._left // _SMALLEST:
            raise BadImportance(
                f"{self._source.name} is no importance matrix: it is neither GGUF nor a .dat",
                hint="name a file of llama-imatrix or `ggufscope imatrix`",
            )
        _require_room(self._source.size, self._source.path)
        entries = dict(self._entry(index) for index in range(count))
        chunks = 0
        datasets: tuple[str, ...] = ()
        if self._left >= 4:
            chunks = self._number("the number of chunks")
            length = self._number("a length") if self._left >= 4 else 0
            if 0 < length <= self._left:
                datasets = (_text(self._bytes(length, "the text's name")),)
        return ImportanceMatrix(self._source.path, in_order(entries), datasets, chunks, legacy=True)

    def _entry(self, index: int) -> tuple[str, Entry]:
        what = f"entry {index + 1}"
        name = _text(self._bytes(self._number(f"a length in {what}"), f"the name of {what}"))
        chunks, values = (self._number(f"{part} in {what}") for part in ("chunks", "values"))
        if values < 1 or not name:
            raise BadImportance(f"{what}, {name!r}, has {values} values", hint=_AGAIN)
        sums = np.frombuffer(self._bytes(4 * values, f"the values of {name!r}"), "<f4")
        return name, Entry(sums.astype(np.float32).reshape(1, -1), np.array([chunks], np.int64))

    @property
    def _left(self) -> int:
        return self._source.size - self._at

    def _number(self, what: str) -> int:
        return int(struct.unpack("<i", self._bytes(4, what))[0])

    def _bytes(self, count: int, what: str) -> bytes:
        if not 0 <= count <= self._left:
            raise BadImportance(
                f"{what} would take {count} bytes at {self._at}, and {self._left} are left: no "
                "importance matrix, or one that was cut off",
                hint=_AGAIN,
            )
        self._at += count
        return bytes(self._source.read(self._at - count, self._at))


def _text(data: bytes) -> str:
    return data.split(b"\0")[0].decode("utf-8", "surrogateescape")


def write_imatrix(
    matrix: ImportanceMatrix,
    path: str | os.PathLike[str],
    *,
    legacy: bool = False,
    overwrite: bool = False,
) -> None:
    """Write an importance matrix of raw sums, byte for byte as llama-imatrix does.

    Raises what ``GGUFWriter`` raises.
    """
    path = Path(path)
    if legacy:
        with replacing(path, overwrite=overwrite) as file:
            file.writelines(_legacy_parts(matrix))
        return
    metadata = {
        _KIND: Value.of(ValueType.STRING, "imatrix"),
        DATASETS: Value.array(ValueType.STRING, matrix.datasets),
        CHUNK_COUNT: Value.of(ValueType.UINT32, matrix.chunk_count),
        CHUNK_SIZE: Value.of(ValueType.UINT32, matrix.chunk_size),
    }
    if matrix.unfinished:
        metadata[UNFINISHED] = Value.of(ValueType.STRING, matrix.unfinished)
    arrays: dict[str, Floats] = {}
    for name, entry in matrix.entries.items():
        counts = entry.counts.astype(np.float32)[:, None]
        for suffix, array in ((_SUMS, entry.sums), (_COUNTS, counts)):
            arrays[name + suffix] = array[0] if len(array) == 1 else array
    specs = [TensorSpec(name, array.shape, LAYOUTS["F32"]) for name, array in arrays.items()]
    with GGUFWriter(path, metadata, specs, overwrite=overwrite) as writer:
        for name, array in arrays.items():
            writer.write(name, array.astype("<f4", copy=False))


def _legacy_parts(matrix: ImportanceMatrix) -> Iterator[bytes]:
    """Yield a legacy file; an expert without data counts 1, an entry without any is left out."""
    size = matrix.chunk_size or USUAL_CHUNK
    stored = {name: each for name, each in matrix.entries.items() if each.counts.any()}
    yield struct.pack("<i", len(stored))
    for name, entry in stored.items():
        chunks = (int(entry.counts.max()) + size - 1) // size
        counts = entry.counts[:, None].astype(np.float32)
        with np.errstate(all="ignore"):
            means = np.where(counts == 0, np.float32(1), entry.sums / counts)
        yield _pack_text(name)
        yield struct.pack("<ii", chunks, means.size)
        yield (means * np.float32(chunks)).astype("<f4").tobytes()
    yield struct.pack("<i", matrix.chunk_count)
    yield _pack_text(matrix.datasets[-1] if matrix.datasets else "")


def _pack_text(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return struct.pack("<i", len(data)) + data
