"""A GGUF model on disk: its metadata, its tensors, and their blocks as a zero-copy view."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ggufscope.blocks.layouts import ForeignType, Layout
from ggufscope.container.header import Header, Metadata, read_header
from ggufscope.container.journal import require_settled
from ggufscope.container.places import name_of, place_of
from ggufscope.container.shards import check_shards, shard_count, sibling_names, sibling_paths
from ggufscope.container.source import LocalFile, NoFile, read_into
from ggufscope.container.tensor_info import TensorInfo, padded
from ggufscope.errors import NotInModel, TensorOutOfFile, UnknownType
from ggufscope.spelling import did_you_mean
from ggufscope.threads import side_by_side

if TYPE_CHECKING:
    from ggufscope.container.remote.source import RemoteFile

_CONNECTIONS: Final = 8
"""Shards of one model that are asked for at once."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of a model."""

    source: LocalFile
    header: Header

    def __repr__(self) -> str:
        return f"Shard({self.source.name!r}, {len(self.header.tensors)} tensors)"


@dataclass(frozen=True, slots=True)
class Tensor:
    """A stored tensor: what the header says of it, and where its bytes are.

    ``numpy.asarray(tensor)`` returns its weights.
    """

    info: TensorInfo
    shard: Shard

    @property
    def name(self) -> str:
        """GGUF name, such as ``blk.7.attn_v.weight``."""
        return self.info.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents as NumPy has them: ``[out, in]`` for a matrix."""
        return self.info.shape

    @property
    def type(self) -> Layout | ForeignType:
        """Its ggml type."""
        return self.info.type

    @property
    def nbytes(self) -> int:
        """Bytes of data."""
        return self.info.nbytes

    @property
    def offset(self) -> int:
        """Where its data begins in its file."""
        return self.shard.header.data_offset + self.info.offset

    def data(self) -> memoryview:
        """Return its bytes, zero-copy, as they stand in the file."""
        return self.shard.source.view(self.offset, self.offset + self.nbytes)

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fill a buffer with its bytes from ``start`` on; raises what ``source.read_into`` does."""
        source, what = self.shard.source, f"tensor {self.name!r}"
        read_into(source.path, source.identity, self.offset + start, buffer, what)

    def blocks(self) -> np.ndarray[Any, Any]:
        """(..., row) weights -> (..., row / block_length) blocks: a read-only, zero-copy view.

        Each block is a record with the fields of its ``Layout``, in the file's byte order.
        Raises ``UnknownType`` for a type that ggml does not define.
        """
        layout = self.info.type
        if isinstance(layout, ForeignType):
            raise UnknownType(
                f"tensor {self.name!r} is of {layout.name}, whose blocks are not known",
                hint="it can be listed, not decoded",
            )
        dtype = layout.dtype.newbyteorder(self.shard.header.order)
        row = self.info.dims[0] // layout.block_length if self.info.dims else 1
        shape = (*self.shape[:-1], row) if self.info.dims else ()
        return np.frombuffer(self.data(), dtype).reshape(shape)

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> np.ndarray[Any, Any]:
        """Its weights in its shape: float32, as ggml dequantizes them, then to ``dtype``.

        Raises ``UnknownType`` as ``blocks`` does, and ``ValueError`` for ``copy=False``.
        """
        # The one place where this floor decodes, and only when somebody asks for the weights.
        from ggufscope.blocks.codec import dequantize

        if copy is False:
            raise ValueError(f"the weights of {self.name!r} are decoded: they are always a copy")
        blocks = self.blocks().reshape(-1)
        weights = dequantize(blocks, self.type.name).reshape(self.shape)
        return weights if dtype is None else weights.astype(dtype, copy=False)

    def __repr__(self) -> str:
        return f"Tensor({self.name!r}, {self.type.name}, shape={self.shape})"


class GGUFFile:
    """One model, in one file or over several shards; open it with ``open_gguf``.

    Once it is closed it has a path and nothing more: all else raises ``FileClosed``.
    """

    def __init__(self, shards: tuple[Shard, ...], stem: Path | None = None) -> None:
        """Take checked shards, in order; ``stem`` where the path is not to name what is made."""
        self._shards = shards
        self._stem = stem
        self._tensors = {
            info.name: Tensor(info, shard) for shard in shards for info in shard.header.tensors
        }

    @property
    def shards(self) -> tuple[Shard, ...]:
        """Its files, in order."""
        self._shards[0].source.require_open()
        return self._shards

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by name, in file order."""
        self._shards[0].source.require_open()
        return self._tensors

    @property
    def header(self) -> Header:
        """The header of the first file, which speaks for the model."""
        return self.shards[0].header

    @property
    def metadata(self) -> Metadata:
        """The metadata of the model."""
        return self.header.metadata

    @property
    def path(self) -> Path:
        """The path of the first file."""
        return self._shards[0].source.path

    @property
    def stem(self) -> Path:
        """What files made of it are named after: its path.

        Of a model in another tool's store, or elsewhere, a name in the working folder.
        """
        return self._stem or self.path

    @property
    def no_file(self) -> NoFile | None:
        """What stands for the file where there is none: the model is a known shape."""
        source = self._shards[0].source
        return source if isinstance(source, NoFile) else None

    @property
    def nbytes(self) -> int:
        """Bytes of all its files."""
        return sum(shard.source.size for shard in self.shards)

    def tensor(self, name: str) -> Tensor:
        """Return the tensor of this name, or raise ``NotInModel``."""
        tensor = self.tensors.get(name)
        if tensor is None:
            raise NotInModel(
                f"{self.path} has no tensor {name!r:.100}",
                hint=did_you_mean(name, self.tensors, "`ggufscope list` shows their names"),
            )
        return tensor

    def require_unchanged(self) -> None:
        """Raise ``SourceChanged`` where one of its files is no longer what it was when opened."""
        for shard in self.shards:
            shard.source.require_unchanged()

    def warnings(self) -> list[str]:
        """Say what is odd about the model, though llama.cpp, or at least a lister, can go on."""
        return [line for shard in self.shards for line in _warnings(shard)]

    def close(self) -> None:
        """Close the files. Views that were handed out stay valid; what is read after raises."""
        for shard in self._shards:
            shard.source.close()

    def __enter__(self) -> GGUFFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        closed, tensors = self._shards[0].source.closed, len(self._tensors)
        return f"GGUFFile({str(self.path)!r}, {'closed' if closed else f'{tensors} tensors'})"


def open_gguf(path: str | os.PathLike[str]) -> GGUFFile:
    """Open a model by the path of its file, or of any of its shards. Reads headers only.

    ``path`` may be elsewhere, too: ``owner/repo:Q4_K_M``, ``hf:owner/repo/FILE``, ``https://...``
    (see ``remote/addresses.py``); a path that is here comes first. Raises a ``SourceError``,
    ``FormatError`` or ``ShardError``.
    """
    place = place_of(path)
    if not isinstance(place, Path):
        return _open_remote(place)
    stem = None if place == Path(path) else name_of(path, place)
    first = _open_here(place)
    count = shard_count(first.header.metadata)
    if count == 1:
        return GGUFFile((first,), stem)
    paths = sibling_paths(place, count)
    shards = tuple(first if p == place else _open_here(p) for p in paths)
    check_shards(paths, [shard.header for shard in shards])
    return GGUFFile(shards, stem)


def _open_remote(source: RemoteFile) -> GGUFFile:
    """Open a model elsewhere by one of its files; its other shards are read side by side."""
    with ExitStack() as stack:
        stack.callback(source.close)
        given = _open_shard(source)
        count = shard_count(given.header.metadata)
        shards: tuple[Shard, ...] = (given,)
        if count > 1:
            names = sibling_names(source.path, count)

            def opened(name: str) -> Shard:
                if name == source.path.name:
                    return given
                sibling = source.sibling(name)
                stack.callback(sibling.close)
                return _open_shard(sibling)

            shards = tuple(side_by_side(opened, names, _CONNECTIONS))
            check_shards([shard.source.path for shard in shards], [s.header for s in shards])
        stack.pop_all()  # whoever opens a model closes it
        return GGUFFile(shards)


def _open_here(path: Path) -> Shard:
    source = LocalFile(path)
    require_settled(path)
    return _open_shard(source)


def _open_shard(source: LocalFile) -> Shard:
    shard = Shard(source, read_header(source))
    _check_extents(shard)
    return shard


def _check_extents(shard: Shard) -> None:
    """Raise ``TensorOutOfFile`` where data would lie beyond the file's end (a broken download)."""
    size, start = shard.source.size, shard.header.data_offset
    beyond = [t for t in shard.header.tensors if start + t.offset + t.nbytes > size]
    if beyond:
        tensor = beyond[0]
        end = start + tensor.offset + tensor.nbytes
        others = f"; so do {len(beyond) - 1} tensors after it" if len(beyond) > 1 else ""
        raise TensorOutOfFile(
            f"tensor {tensor.name!r} ends at byte {end:,}, beyond "
            f"the end of {shard.source.name} at {size:,}{others}",
            hint=f"the file should have {shard.header.data_end:,} bytes: download it again",
        )


class Oddity(NamedTuple):
    """What is odd about a file, though its header can be true."""

    kind: Literal["foreign", "short", "trailing"]
    words: str


def oddities(shard: Shard) -> list[Oddity]:
    """Return tensors of foreign types, missing padding, and bytes that belong to no tensor."""
    header = shard.header
    found = []
    foreign = [t for t in header.tensors if isinstance(t.type, ForeignType)]
    if foreign:
        kinds = ", ".join(sorted({f"{t.type.name} (number {t.type.number})" for t in foreign}))
        words = (
            f"{len(foreign)} tensors, the first {foreign[0].name!r}, are of a type that "
            f"ggml does not define: {kinds}. llama.cpp will not load this file"
        )
        found.append(Oddity("foreign", words))
    end, size = header.data_end, shard.source.size
    expected = header.data_offset + padded(end - header.data_offset, header.alignment)
    if header.tensors and size < expected:
        words = f"{expected - size:,} bytes of padding are missing at the end; harmless"
        found.append(Oddity("short", words))
    elif header.tensors and size > expected:
        words = f"{size - expected:,} bytes after the last tensor belong to none"
        found.append(Oddity("trailing", words))
    return found


def _warnings(shard: Shard) -> list[str]:
    odd = [f"{shard.source.name}: {odd.words}" for odd in oddities(shard)]
    return [*shard.source.notes(), *odd]
