"""A file with another header before the same data: in place, or written anew.

In place where the data can stay where it is: the new header, padded, is as long as the old one.
Only the bytes that differ are written then, under a journal (see journal.py). Otherwise a new file
grows under a temporary name. Its data is copied by the operating system, which a file system that
shares blocks does without copying anything.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ggufscope.container.copying import Copied, copy_range
from ggufscope.container.file import Shard
from ggufscope.container.header import alignment_of, read_header
from ggufscope.container.journal import MOST, Change, opened_to_change, settle_held, write_at
from ggufscope.container.leftovers import journal_name, remove_leftovers
from ggufscope.container.partial import PartialFile
from ggufscope.container.source import LocalFile
from ggufscope.container.target import refusals
from ggufscope.container.tensor_info import padded
from ggufscope.container.values import Value
from ggufscope.container.writer import TensorSpec, encode_header
from ggufscope.errors import BadAlignment, BadEdit, SourceChanged
from ggufscope.threads import signals_held

_PAGE: Final = 4096
"""Bytes that are compared at a time."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One file, and the header that it gets."""

    shard: Shard
    header: bytes
    """With the padding behind it."""
    change: Change | None
    """What differs from the header there, if the data can stay where it is; else None."""

    @classmethod
    def of(cls, shard: Shard, metadata: Mapping[str, Value]) -> Rewrite:
        """Encode a header of these metadata and the file's own tensors, and read it back.

        Raises ``BadEdit`` for another alignment, and what reading such a file would raise.
        """
        old = shard.header
        try:
            alignment = alignment_of(metadata)
        except BadAlignment as error:  # as it was asked for: no file is damaged
            raise BadEdit(error.message, hint="leave it as it is: no tensor can move") from None
        if alignment != old.alignment:
            raise BadEdit(
                "another 'general.alignment' moves every tensor",
                hint="`ggufscope quantize MODEL COPY` with --override-kv lays the file out anew",
            )
        specs = [TensorSpec(each.name, each.shape, each.type, each.nbytes) for each in old.tensors]
        offsets = {each.name: each.offset for each in old.tensors}
        header = encode_header(metadata, specs, offsets, old.version, old.order)
        if old.tensors:
            header = header.ljust(padded(len(header), old.alignment), b"\0")
        change = None
        if old.tensors and len(header) == old.data_offset:
            change = _change(bytes(shard.source.read(0, len(header))), header)
            if len(change.new) > MOST:
                change = None
        rewrite = cls(shard, header, change)
        read_header(_Planned(shard.source.name, rewrite.nbytes, header))
        return rewrite

    @property
    def nbytes(self) -> int:
        """Bytes of the whole file afterwards."""
        header = self.shard.header
        return len(self.header) + (self.shard.source.size - header.data_offset) * bool(
            header.tensors
        )


def _change(old: bytes, new: bytes) -> Change:
    begin, end = 0, len(old)
    for step in (_PAGE, 1):
        while end - begin >= step and old[begin : begin + step] == new[begin : begin + step]:
            begin += step
        while end - begin >= step and old[end - step : end] == new[end - step : end]:
            end -= step
    return Change(begin, old[begin:end], new[begin:end])


@dataclass(frozen=True, slots=True)
class _Planned:
    """A file that is not written yet, as far as its header goes."""

    name: str
    size: int
    header: bytes

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes of ``[start, stop)``; data reads as zeros."""
        return self.header[start:stop].ljust(stop - start, b"\0")


def write_over(rewrite: Rewrite, copied: Copied = lambda _: None) -> None:
    """Give a file its new header, in place or by a new file under its name.

    Raises what ``write_in_place`` and ``write_anew`` raise.
    """
    if rewrite.change is not None:
        write_in_place(rewrite, rewrite.change)
        return
    path = rewrite.shard.source.path
    # Nobody else changes it meanwhile; Windows has no such lock, and replaces no file that is open.
    alone: AbstractContextManager[object] = (
        nullcontext() if os.name == "nt" else opened_to_change(path.resolve())
    )
    with refusals(path), alone:
        partial = write_anew(rewrite, path, overwrite=True, copied=copied)
        try:
            partial.commit()
        finally:
            partial.discard()


def write_in_place(rewrite: Rewrite, change: Change) -> None:
    """Put the new header over the old one; all is old, or all is new, when this returns or raises.

    Raises ``TargetBusy``, ``SourceChanged`` and ``TargetUnwritable``.
    """
    source = rewrite.shard.source
    path = source.path.resolve()
    with refusals(source.path), opened_to_change(path) as file:
        remove_leftovers(path)
        source.require_unchanged()
        journal = PartialFile(journal_name(path))

        def finish() -> None:
            with signals_held():
                journal.discard()
                settle_held(path, file, back=True)

        try:
            try:
                if hasattr(os, "fchmod"):  # it is as private as the file
                    journal.path.chmod(stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o777)
                journal.write_at(0, memoryview(change.encode()))
                journal.commit()
                write_at(file, change.offset, change.new)
                os.fsync(file.fileno())
            finally:
                finish()
        finally:  # again: the first call is lost where a signal comes before it holds them
            finish()
        if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
            raise SourceChanged(
                f"{source.path} was replaced while it was changed", hint="look at it, and try again"
            )


def write_anew(
    rewrite: Rewrite, target: Path, *, overwrite: bool, copied: Copied = lambda _: None
) -> PartialFile:
    """Return a new file under way, complete; the caller commits or discards it.

    Raises what ``PartialFile`` raises, ``SourceChanged`` and ``SourceUnreadable``.
    """
    source = rewrite.shard.source
    partial = PartialFile(target, rewrite.nbytes, overwrite=overwrite)
    try:
        partial.write_at(0, memoryview(rewrite.header))
        start = rewrite.shard.header.data_offset
        count = rewrite.nbytes - len(rewrite.header)
        with partial.writing() as file:
            copy_range(source, start, count, file, len(rewrite.header), copied)
        read_header(LocalFile(partial.path))
        source.require_unchanged()
    except BaseException:
        partial.discard()
        raise
    return partial
