"""Writing a GGUF file: offsets first, then a stream of tensors, then fsync and rename.

The file grows under a temporary name beside the target and takes the target's name only when it is
complete, so whoever opens the target sees the old file or the whole new one, and a reader that has
the old one mapped keeps it. An error, or leaving early, removes the temporary file.
"""

from __future__ import annotations

import io
import math
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ggufscope.blocks.layouts import ForeignType, Layout
from ggufscope.container.file import GGUFFile, Tensor
from ggufscope.container.header import MAGIC, alignment_of
from ggufscope.container.tensor_info import MAX_DIMS, MAX_NAME, check_shape, padded
from ggufscope.container.values import Order, Value, ValueType
from ggufscope.errors import (
    DuplicateTensor,
    EmptyKey,
    IncompleteTensor,
    TargetExists,
    TargetUnwritable,
    TensorNameTooLong,
    TooManyDimensions,
)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor to be written: its name, its NumPy shape (``[out, in]``), its type."""

    name: str
    shape: tuple[int, ...]
    type: Layout | ForeignType
    foreign_bytes: int = 0
    """Bytes of data where the type is foreign and cannot tell."""

    @classmethod
    def like(cls, tensor: Tensor) -> TensorSpec:
        """Give the spec of an exact copy of ``tensor``."""
        foreign = tensor.nbytes if isinstance(tensor.type, ForeignType) else 0
        return cls(tensor.name, tensor.shape, tensor.type, foreign)

    @property
    def nbytes(self) -> int:
        """Bytes of data."""
        if isinstance(self.type, ForeignType):
            return self.foreign_bytes
        return self.type.row_bytes(math.prod(self.shape))


class GGUFWriter:
    """Writes one GGUF file; a context manager.

    ::

        with GGUFWriter(path, metadata, [TensorSpec("w", (2, 32), layout_named("Q8_0"))]) as writer:
            writer.write("w", blocks)          # in as many slabs as you like, each in row order

    Leaving the block without an error checks that each tensor is complete, then puts the file in
    its place. Raises a ``WriteError``, or the ``FormatError`` that reading such a file would raise.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        metadata: Mapping[str, Value],
        tensors: Sequence[TensorSpec],
        *,
        version: int = 3,
        order: Order = "<",
        overwrite: bool = False,
    ) -> None:
        """Lay the file out; nothing is created until the ``with`` block begins."""
        self.path = Path(path)
        self._overwrite = overwrite
        _check_names(metadata, tensors)
        alignment = alignment_of(metadata)
        self._specs = {spec.name: spec for spec in tensors}
        offsets: dict[str, int] = {}
        end = 0
        for spec in tensors:
            offsets[spec.name] = end
            end += padded(spec.nbytes, alignment)
        head = _encode_header(metadata, tensors, offsets, version, order)
        data_offset = padded(len(head), alignment) if tensors else len(head)
        self._head = head
        self._starts = {name: data_offset + offset for name, offset in offsets.items()}
        self._written = dict.fromkeys(offsets, 0)
        self.nbytes = data_offset + end
        """Bytes of the whole file, known before the first tensor is written."""
        self._partial = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.partial")
        self._file: io.FileIO | None = None

    @classmethod
    def copy_of(
        cls, source: GGUFFile, path: str | os.PathLike[str], *, overwrite: bool = False
    ) -> GGUFWriter:
        """Give a writer for the same metadata and tensors, in the same version and byte order.

        Handed each tensor's ``data()``, it writes a file identical to ``source``. A model over
        several shards is not taken: each shard is a file of its own.
        """
        if len(source.shards) > 1:
            raise ValueError("a copy is made of one file; open each shard by itself")
        header = source.header
        return cls(
            path,
            header.metadata.typed,
            [TensorSpec.like(tensor) for tensor in source.tensors.values()],
            version=header.version,
            order=header.order,
            overwrite=overwrite,
        )

    def write(self, name: str, slab: bytes | memoryview | np.ndarray[Any, Any]) -> None:
        """Append ``slab`` to the data of tensor ``name``; tensors may be written in any order.

        Raises ``IncompleteTensor`` for more bytes than the tensor has, ``TargetUnwritable`` where
        the disk refuses.
        """
        if isinstance(slab, np.ndarray):
            slab = np.ascontiguousarray(slab).reshape(-1).view(np.uint8).data
        data = memoryview(slab).cast("B")
        spec, done = self._specs[name], self._written[name]
        if done + len(data) > spec.nbytes:
            raise IncompleteTensor(
                f"tensor {name!r} takes {spec.nbytes} bytes, and was handed {done + len(data)}",
                hint="hand over the rows of its shape, encoded as its type",
            )
        with self._refusals():
            self._write_at(self._starts[name] + done, data)
        self._written[name] = done + len(data)

    def __enter__(self) -> GGUFWriter:
        if self.path.exists() and not self._overwrite:
            raise TargetExists(f"{self.path} exists", hint="remove it, or ask to overwrite it")
        with self._refusals():
            self._file = io.FileIO(self._partial, "x")
            # The full length at once: what is not written, the padding, reads as zeros.
            self._file.truncate(self.nbytes)
            self._write_at(0, memoryview(self._head))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._check_complete()
                with self._refusals():
                    self._sync()
                    self._partial.replace(self.path)
                    _sync_directory(self.path.parent)
        finally:
            self._close()
            self._partial.unlink(missing_ok=True)

    def _check_complete(self) -> None:
        for name, done in self._written.items():
            if done != self._specs[name].nbytes:
                raise IncompleteTensor(
                    f"tensor {name!r} takes {self._specs[name].nbytes} bytes, was handed {done}",
                    hint="write every row of every tensor before leaving the block",
                )

    def _write_at(self, position: int, data: memoryview) -> None:
        if self._file is None:
            raise ValueError("a GGUFWriter writes only inside its `with` block")
        self._file.seek(position)
        while data:  # a raw file may take less than it is given
            data = data[self._file.write(data) :]

    def _sync(self) -> None:
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Turn what the operating system refuses into ``TargetUnwritable``, leaving nothing."""
        try:
            yield
        except OSError as error:
            self._close()
            self._partial.unlink(missing_ok=True)
            raise TargetUnwritable(
                f"{self.path} cannot be written: {error.strerror}",
                hint="check the directory, its permissions and the room on the disk",
            ) from None


def _check_names(metadata: Mapping[str, Value], tensors: Sequence[TensorSpec]) -> None:
    if "" in metadata:
        raise EmptyKey("a metadata key has no name", hint="give it one")
    seen: set[str] = set()
    for spec in tensors:
        if len(spec.name.encode("utf-8", "surrogateescape")) >= MAX_NAME:
            raise TensorNameTooLong(
                f"tensor {spec.name!r} has a name of {MAX_NAME} bytes or more", hint="shorten it"
            )
        if spec.name in seen:
            raise DuplicateTensor(f"tensor {spec.name!r} comes twice", hint="name each once")
        if len(spec.shape) > MAX_DIMS:
            raise TooManyDimensions(
                f"tensor {spec.name!r} has {len(spec.shape)} dimensions; the limit is {MAX_DIMS}",
                hint="fold some of them into one",
            )
        check_shape(spec.name, spec.shape[::-1], spec.type)
        seen.add(spec.name)


def _encode_header(
    metadata: Mapping[str, Value],
    tensors: Sequence[TensorSpec],
    offsets: Mapping[str, int],
    version: int,
    order: Order,
) -> bytes:
    def number(type_: ValueType, data: int) -> bytes:
        return Value.of(type_, data).encode(order)

    def text(data: str) -> bytes:
        return Value.of(ValueType.STRING, data).encode(order)

    parts = [
        MAGIC,
        number(ValueType.UINT32, version),
        number(ValueType.UINT64, len(tensors)),
        number(ValueType.UINT64, len(metadata)),
    ]
    for key, value in metadata.items():
        parts += [text(key), number(ValueType.UINT32, value.type), value.encode(order)]
    for spec in tensors:
        parts += [text(spec.name), number(ValueType.UINT32, len(spec.shape))]
        parts += [number(ValueType.UINT64, extent) for extent in reversed(spec.shape)]
        parts.append(number(ValueType.UINT32, spec.type.number))
        parts.append(number(ValueType.UINT64, offsets[spec.name]))
    return b"".join(parts)


def _sync_directory(directory: Path) -> None:
    """Make the rename itself durable, where directories can be synced."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
