"""Writing a GGUF file: offsets first, then a stream of tensors, then fsync and rename.

The file grows under a temporary name (see partial.py) and takes the target's name only when it is
complete. An error, or leaving early, removes it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ggufscope.blocks.layouts import ForeignType, Layout
from ggufscope.container.file import GGUFFile, Tensor
from ggufscope.container.header import MAGIC, alignment_of, read_header
from ggufscope.container.ledger import Facts
from ggufscope.container.lengths import header_nbytes, text_bytes
from ggufscope.container.partial import PartialFile, UnderWay
from ggufscope.container.source import LocalFile
from ggufscope.container.tensor_info import MAX_DIMS, MAX_NAME, check_shape, padded
from ggufscope.container.value_types import Order, ValueType
from ggufscope.container.values import Value
from ggufscope.errors import (
    DuplicateTensor,
    EmptyKey,
    IncompleteTensor,
    TargetCorrupt,
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
        """Return the spec of an exact copy of ``tensor``."""
        foreign = tensor.nbytes if isinstance(tensor.type, ForeignType) else 0
        return cls(tensor.name, tensor.shape, tensor.type, foreign)

    @property
    def nbytes(self) -> int:
        """Bytes of data."""
        if isinstance(self.type, ForeignType):
            return self.foreign_bytes
        return self.type.row_bytes(math.prod(self.shape))


@dataclass(frozen=True, slots=True)
class Region:
    """Where the data of a tensor belongs."""

    file: UnderWay
    offset: int
    nbytes: int


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
        facts: Facts | None = None,
    ) -> None:
        """Lay the file out; nothing is created until the ``with`` block begins.

        With ``facts``, that say of what run it is, what is noted as done is kept where the block is
        left early, and the next writer with the same facts goes on with it (see ledger.py).
        """
        self.path = Path(path)
        self._overwrite = overwrite
        self._facts = facts
        _check_names(metadata, tensors)
        alignment = alignment_of(metadata)
        self._specs = {spec.name: spec for spec in tensors}
        offsets: dict[str, int] = {}
        end = 0
        for spec in tensors:
            offsets[spec.name] = end
            end += padded(spec.nbytes, alignment)
        head = header_nbytes(metadata, [(spec.name, len(spec.shape)) for spec in tensors])
        data_offset = padded(head, alignment) if tensors else head
        self._encode = partial(encode_header, metadata, tensors, offsets, version, order)
        self._starts = {name: data_offset + offset for name, offset in offsets.items()}
        self._written = dict.fromkeys(offsets, 0)
        self.nbytes = data_offset + end
        """Bytes of the whole file, known before the first tensor is written."""
        self._partial: PartialFile | None = None

    @classmethod
    def copy_of(
        cls, source: GGUFFile, path: str | os.PathLike[str], *, overwrite: bool = False
    ) -> GGUFWriter:
        """Return a writer for the same metadata and tensors, in the same version and byte order.

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
        done = self._written[name]
        self.mark_written(name, len(data))
        self._under_way().write_at(self._starts[name] + done, data)

    def region(self, name: str) -> Region:
        """Return the place of a tensor in the file under way, for somebody else to write.

        Whoever does, in another process perhaps, tells ``mark_written`` of it in the end.
        """
        file = self._under_way().under_way
        return Region(file, self._starts[name], self._specs[name].nbytes)

    def mark_written(self, name: str, nbytes: int) -> None:
        """Count bytes of a tensor as written; raises ``IncompleteTensor`` for too many."""
        spec, done = self._specs[name], self._written[name] + nbytes
        if done > spec.nbytes:
            raise IncompleteTensor(
                f"tensor {name!r} takes {spec.nbytes} bytes, and was handed {done}",
                hint="hand over the rows of its shape, encoded as its type",
            )
        self._written[name] = done

    def note(self, piece: object) -> None:
        """Note what another run need not write again; it is kept from the next ``secure`` on."""
        self._under_way().note(piece)

    def secure(self) -> None:
        """Have on the disk what was written, and then what was noted of it.

        Whoever lets other machines write does so before: this one has written part of a page that
        they will write to.
        """
        self._under_way().secure()

    def __enter__(self) -> GGUFWriter:
        self._partial = PartialFile(
            self.path, self.nbytes, overwrite=self._overwrite, facts=self._facts
        )
        self._partial.write_at(0, memoryview(self._encode()))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        partial = self._under_way()
        try:
            if kind is None:
                self._check_complete()
                self._check_header(partial)
                if self._facts is not None:
                    partial.secure()
                partial.commit()
            elif self._facts is not None:
                with suppress(TargetUnwritable, ValueError):  # refused, or closed for it before
                    partial.secure()
        finally:
            partial.discard()

    def _under_way(self) -> PartialFile:
        if self._partial is None:
            raise ValueError("a GGUFWriter writes only inside its `with` block")
        return self._partial

    def _check_header(self, partial: PartialFile) -> None:
        """Read the header back from the disk, before the file gets its name."""
        header = read_header(LocalFile(partial.path))
        found = [(t.name, t.shape, t.type, header.data_offset + t.offset) for t in header.tensors]
        meant = [(s.name, s.shape, s.type, self._starts[s.name]) for s in self._specs.values()]
        if found != meant:
            raise TargetCorrupt(
                f"{self.path} did not come back from the disk as it was written",
                hint="the disk, or the memory, of this machine is at fault",
            )

    def _check_complete(self) -> None:
        for name, done in self._written.items():
            if done != self._specs[name].nbytes:
                raise IncompleteTensor(
                    f"tensor {name!r} takes {self._specs[name].nbytes} bytes, was handed {done}",
                    hint="write every row of every tensor before leaving the block",
                )


def _check_names(metadata: Mapping[str, Value], tensors: Sequence[TensorSpec]) -> None:
    if "" in metadata:
        raise EmptyKey("a metadata key has no name", hint="give it one")
    seen: set[str] = set()
    for spec in tensors:
        if len(text_bytes(spec.name)) >= MAX_NAME:
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


def encode_header(
    metadata: Mapping[str, Value],
    tensors: Sequence[TensorSpec],
    offsets: Mapping[str, int],
    version: int,
    order: Order,
) -> bytes:
    """Return the header of a file, without the padding behind it."""

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
