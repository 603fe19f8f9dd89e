"""The journal of a change in place: what stood there, and what is to stand there.

A header is rewritten in place in four steps: the journal is written beside the file and made
durable, the bytes are written, they are made durable, the journal is removed. Whoever is killed in
between leaves the old bytes, the new ones, or some of both and the journal. Of the journal of a
killed run this is made: where all is old, or all is new, it is removed; where it is some of both,
the rest is written. A file that is neither has been replaced since, and is left alone.

The journal of ``model.gguf`` is ``.model.gguf.journal``::

    "GGUFEDIT"   u64 offset   u64 length   old bytes   new bytes   SHA-256 of all before

A disk may write any sector of a change before any other, and a write that is cut off may end within
one, so old and new are told apart by sector, and within a sector by where they meet.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from ggufscope.container.leftovers import SAFELY, held, is_ours, journal_name, remove_leftovers
from ggufscope.errors import HalfEdited

MOST: Final = 1 << 26
"""Bytes that are changed in place at the most; a file is written anew for more."""

_MAGIC: Final = b"GGUFEDIT"
_HEAD: Final = struct.Struct("<8sQQ")
_DIGEST: Final = 32
"""Bytes of a SHA-256."""
_SECTOR: Final = 512
"""What a disk writes whole or not at all."""


@dataclass(frozen=True, slots=True)
class Change:
    """Bytes of a file that are replaced by as many others."""

    offset: int
    old: bytes
    new: bytes

    def encode(self) -> bytes:
        """Return the journal of it."""
        body = _HEAD.pack(_MAGIC, self.offset, len(self.old)) + self.old + self.new
        return body + _sha256(body)

    @classmethod
    def decode(cls, data: bytes) -> Self | None:
        """Return what a journal says; None for one that is not whole."""
        body, digest = data[:-_DIGEST], data[-_DIGEST:]
        if len(body) < _HEAD.size or _sha256(body) != digest:
            return None
        magic, offset, length = _HEAD.unpack_from(body)
        if magic != _MAGIC or len(body) != _HEAD.size + 2 * length:
            return None
        return cls(offset, body[_HEAD.size : -length or None], body[len(body) - length :])

    def is_torn(self, found: bytes) -> bool:
        """Whether a file has some of both, sector by sector; not where it has something else."""
        if found in (self.old, self.new) or len(found) != len(self.old):
            return False
        return all(
            _is_mixed(found[begin:end], self.old[begin:end], self.new[begin:end])
            for begin, end in self._sectors()
        )

    def _sectors(self) -> Iterator[tuple[int, int]]:
        begin = 0
        while begin < len(self.old):
            end = begin + _SECTOR - (self.offset + begin) % _SECTOR
            yield begin, end
            begin = end


def _sha256(body: bytes) -> bytes:
    from hashlib import sha256  # every file is asked for a journal, and few have one

    return sha256(body).digest()


def _is_mixed(found: bytes, old: bytes, new: bytes) -> bool:
    """Whether a sector is old, or new, or was written up to some byte, one way or the other."""
    if found in (old, new):
        return True
    written, taken_back = _in_common(found, new), _in_common(found, old)
    return found[written:] == old[written:] or found[taken_back:] == new[taken_back:]


def _in_common(one: bytes, other: bytes) -> int:
    """Return how many bytes two begin with."""
    pairs = zip(one, other, strict=True)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), len(one))


def require_settled(path: Path) -> None:
    """Raise ``HalfEdited`` where a killed run left a file with some of both."""
    real = path.resolve()
    if (change := _read_journal(real)) is None:
        return
    with suppress(OSError), real.open("rb", buffering=0) as file:
        if change.is_torn(read_at(file, change.offset, len(change.old))):
            raise HalfEdited(
                f"{path} has part of its old header and part of a new one: an edit was killed",
                hint="`ggufscope edit` with this file finishes it, from the journal beside it",
            )


def settle(path: Path) -> bool:
    """Finish what a killed run began to change in a file; return whether something was written.

    Raises ``TargetBusy`` while another process changes the file, and ``OSError``.
    """
    path = path.resolve()
    journal = journal_name(path)
    remove_leftovers(journal, of=path)
    if not os.path.lexists(journal):
        return False
    with suppress(FileNotFoundError), opened_to_change(path) as file:
        return settle_held(path, file)
    return False


def settle_held(path: Path, file: io.FileIO, *, back: bool = False) -> bool:
    """Do what ``settle`` does with a file that is open and held; ``back``: to the old bytes."""
    journal = journal_name(path)
    remove_leftovers(journal, of=path)
    if (change := _read_journal(path)) is None:
        return False
    torn = change.is_torn(read_at(file, change.offset, len(change.old)))
    if torn:
        write_at(file, change.offset, change.old if back else change.new)
        os.fsync(file.fileno())
    with suppress(FileNotFoundError):
        journal.unlink()
    return torn


@contextmanager
def opened_to_change(path: Path) -> Iterator[io.FileIO]:
    """Open a file to be changed, as the only one who does; raises ``TargetBusy``, ``OSError``."""
    with io.FileIO(os.open(path, os.O_RDWR | SAFELY), "r+") as file, held(file, path):
        yield file


def read_at(file: io.FileIO, offset: int, count: int) -> bytes:
    """Return the bytes at an offset, fewer where the file ends."""
    file.seek(offset)
    found = b""
    while len(found) < count and (part := file.read(count - len(found))):
        found += part
    return found


def write_at(file: io.FileIO, offset: int, data: bytes | memoryview) -> None:
    """Write all of ``data`` at an offset; a raw file may take less than it is given."""
    file.seek(offset)
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _read_journal(path: Path) -> Change | None:
    """Return the change that the journal of a file is about, if there is one of this program."""
    journal = journal_name(path)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | SAFELY
    with suppress(OSError), io.FileIO(os.open(journal, flags), "r") as file:
        status = os.fstat(file.fileno())
        if is_ours(status, path) and status.st_size <= 2 * MOST + _HEAD.size + _DIGEST:
            return Change.decode(file.read())
    return None
