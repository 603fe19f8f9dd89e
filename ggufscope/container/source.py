"""Where bytes come from: a file on this machine, read piece by piece, or mapped into memory.

A model is read in many small pieces, by threads and processes that each open it anew. What they
must all find is one file in one state, so an ``Identity`` is taken when it is first opened and
held against every opening after that.
"""

from __future__ import annotations

import mmap
import os
import stat
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from time import perf_counter
from typing import Final, Self

from ggufscope.container.foreign import hint_for_folder
from ggufscope.errors import FileClosed, NotAFile, SourceChanged, SourceNotFound, SourceUnreadable

_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a pipe that took the file's place must not make us wait
)
AHEAD: Final = 32 << 20
"""Bytes between what is read and what the system is asked to have ready."""
_MEMORY: Final = 2 << 30
"""Bytes a second that memory gives at least; what comes slower comes from a disk."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which file it is, and which state of it."""

    device: int
    inode: int
    """Both are 0 where any will do: other machines number a shared disk, and its files, anew."""
    size: int
    modified: int
    """Nanoseconds."""

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Take it from what the operating system says of a file."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def elsewhere(self) -> Self:
        """Return what can be held against the same file on another machine.

        Some file servers keep no fractions of a second.
        """
        return replace(self, device=0, inode=0, modified=self.modified // 10**9 * 10**9)

    def is_of(self, status: os.stat_result) -> bool:
        """Whether the operating system speaks of this file, in this state."""
        found = self.of(status)
        return self == (found if self.inode else found.elsewhere())


class LocalFile:
    """A local file that is read, never written. Implements ``walk.Source``."""

    def __init__(self, path: Path) -> None:
        """Look at ``path``.

        Raises ``SourceNotFound``, ``NotAFile`` or ``SourceUnreadable``.
        """
        self.path = path
        self._map: mmap.mmap | None = None
        self.closed = False
        with _open(path) as file:
            self.identity = Identity.of(os.fstat(file.fileno()))

    @property
    def name(self) -> str:
        """The path, as it was given."""
        return str(self.path)

    @property
    def size(self) -> int:
        """Bytes in the file when it was first opened."""
        return self.identity.size

    def read(self, start: int, stop: int) -> bytearray:
        """Return the bytes of ``[start, stop)``; raises ``SourceChanged``."""
        data = bytearray(stop - start)
        read_into(self.path, self.identity, start, memoryview(data), "the header")
        return data

    def view(self, start: int, stop: int) -> memoryview:
        """Return the bytes of ``[start, stop)``, zero-copy, and valid while the view is held.

        The file is mapped for it. Whoever cuts the file while a view is read ends the process; what
        reads whole models here uses ``reading``. Raises ``SourceChanged`` or ``FileClosed``.
        """
        self.require_open()
        if start == stop:  # an empty file cannot be mapped
            return memoryview(b"")
        if self._map is None:
            with opened_unchanged(self.path, self.identity) as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return memoryview(self._map)[start:stop]

    def close(self) -> None:
        """Unmap the file; where views of it are held, it stays mapped until the last is gone."""
        self.closed = True
        if self._map is not None:
            with suppress(BufferError):
                self._map.close()
            self._map = None

    def require_open(self) -> None:
        """Raise ``FileClosed`` after ``close``."""
        if self.closed:
            raise FileClosed(f"{self.path} is closed", hint="use it inside its `with` block")

    def notes(self) -> list[str]:
        """Return what is to be said of how it is read; nothing here."""
        return []

    def __repr__(self) -> str:
        return f"LocalFile({self.name!r})"

    def require_unchanged(self) -> None:
        """Raise ``SourceChanged`` where the path no longer leads to the file as it was."""
        with opened_unchanged(self.path, self.identity):
            pass


class NoFile(LocalFile):
    """What stands for the file of a model that is known by its shape alone."""

    def __init__(self, name: str, size: int, assumes: str = "") -> None:
        """Take the model's name, what its file would have in bytes, and what was settled for it."""
        self.path = Path(name)
        self._map = None
        self.closed = False
        self.identity = Identity(0, 0, size, 0)
        self.assumes = assumes

    def view(self, start: int, stop: int) -> memoryview:
        """Raise ``SourceNotFound``: there are no bytes."""
        raise SourceNotFound(
            f"{self.name} is a known shape, and has no weights here", hint="give a GGUF file"
        )


def read_into(
    path: Path | str, identity: Identity, offset: int, buffer: memoryview, what: str
) -> None:
    """Fill one buffer from a file; ``reading`` says how."""
    with reading(path, identity, offset, what) as fill:
        fill(buffer)


class KeptOpen:
    """A file that threads read in thousands of pieces: opened once, and held to its identity.

    Where it comes from a disk, what lies further on is asked for, to be there when it is wanted.
    The file is closed when nothing refers to this any more.
    """

    def __init__(self, path: Path, identity: Identity) -> None:
        """Open the file; raises ``SourceChanged``."""
        self._path, self._identity = path, identity
        self._file = -1
        if hasattr(os, "preadv"):  # else it is opened for each piece, which has its own position
            with opened_unchanged(path, identity) as file:
                self._file = os.dup(file.fileno())
            weakref.finalize(self, os.close, self._file)

    def read_into(self, offset: int, buffer: memoryview, what: str, *, ahead: bool = True) -> None:
        """Fill a buffer, as ``read_into`` does; ``ahead``: what follows will be wanted, too."""
        start = perf_counter()
        if not self._fill(offset, buffer):
            read_into(self._path, self._identity, offset, buffer, what)  # or it says what is wrong
            return
        slow = (perf_counter() - start) * _MEMORY > len(buffer)
        if ahead and slow and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file, offset + AHEAD, len(buffer), os.POSIX_FADV_WILLNEED)

    def _fill(self, offset: int, buffer: memoryview) -> bool:
        """Whether the path still leads to the file as it was, and the buffer could be filled."""
        try:
            same = self._file >= 0 and Identity.of(self._path.stat()) == self._identity
            return same and os.preadv(self._file, [buffer], offset) == len(buffer)
        except OSError:
            return False


@contextmanager
def reading(
    path: Path | str, identity: Identity, offset: int, what: str
) -> Iterator[Callable[[memoryview], None]]:
    """Open a file at an offset; yield what fills buffers from it, one after another.

    It has a position of its own: no seek that a thread could disturb. Nothing is mapped, so what
    was read does not stay in this process's memory.
    Raises ``SourceChanged``, naming ``what`` where the file ends before a buffer is full.
    """
    with opened_unchanged(path, identity) as file:
        file.seek(offset)

        def fill(buffer: memoryview) -> None:
            while buffer:
                try:
                    got = file.readinto(buffer)
                except OSError as error:
                    raise SourceUnreadable(
                        f"{path} cannot be read at byte {file.tell():,}, inside {what}: "
                        f"{error.strerror}",
                        hint="the disk, or the network that it is on, is at fault",
                    ) from None
                if not got:
                    raise SourceChanged(
                        f"{path} ends inside {what}, at byte {file.tell():,}",
                        hint="the file was changed while it was read: try again when it is at rest",
                    )
                buffer = buffer[got:]

        yield fill


@contextmanager
def opened_unchanged(path: Path | str, identity: Identity) -> Iterator[FileIO]:
    """Open a file again; raises ``SourceChanged`` where it is not the one it was, as it was."""
    try:
        file = _open(Path(path))
    except (SourceNotFound, NotAFile):
        raise SourceChanged(
            f"{path} is no longer there: it was removed or replaced while it was read",
            hint="put it back and try again",
        ) from None
    with file:
        if not identity.is_of(os.fstat(file.fileno())):
            raise SourceChanged(
                f"{path} was replaced or changed while it was read",
                hint="try again when it is at rest",
            )
        yield file


def _open(path: Path) -> FileIO:
    try:
        # Looked at before it is opened: opening a device can do something.
        _require_regular(path, path.stat())
        file = FileIO(os.open(path, _FLAGS), "r")
    except (FileNotFoundError, NotADirectoryError):
        raise SourceNotFound(f"{path}: no such file", hint="check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SourceUnreadable(
            f"{path} cannot be read: {reason}", hint="check the path and its permissions"
        ) from None
    try:
        _require_regular(path, os.fstat(file.fileno()))
    except NotAFile:
        file.close()
        raise
    return file


def _require_regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise NotAFile(f"{path} is a directory", hint=hint_for_folder(path))
    if not stat.S_ISREG(status.st_mode):
        raise NotAFile(
            f"{path} is not a regular file", hint="save the stream to a file and name that"
        )
