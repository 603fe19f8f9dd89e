"""A file under way: grown under a temporary name, renamed when it is complete.

Whoever opens the target sees the old file or the whole new one, and a reader that has the old one
mapped keeps it. The temporary name follows from the target's, and a lock on it tells a file that
another process is writing from one that a killed process left behind: the next run takes that over.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ggufscope.errors import TargetBusy, TargetUnwritable

try:
    import fcntl
except ImportError:  # Windows: an open file cannot be opened for writing twice there
    fcntl = None  # type: ignore[assignment]  # a module elsewhere

_LONGEST_NAME: Final = 200


def partial_path(target: Path) -> Path:
    """Give the temporary name of a target: beside it, hidden, always the same."""
    name = target.name
    if len(os.fsencode(name)) > _LONGEST_NAME:  # with what is added it might be too long
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return target.with_name(f".{name}.partial")


class PartialFile:
    """A file of known length under its temporary name. ``commit`` or ``discard`` ends it."""

    def __init__(self, target: Path, nbytes: int) -> None:
        """Create it, all zeros; raises ``TargetBusy`` or ``TargetUnwritable``."""
        self.target = target
        self.path = partial_path(target)
        self._file: io.FileIO | None = None
        with self._refusals():
            self._file = self._locked()
            # To nothing first: what a killed run left must not show through. Then the full length
            # at once: what is not written, the padding, reads as zeros.
            self._file.truncate(0)
            self._file.truncate(nbytes)

    def write_at(self, position: int, data: memoryview) -> None:
        """Write ``data`` at a position; raises ``TargetUnwritable``, and nothing is left then."""
        with self._refusals():
            file = self._open_file()
            file.seek(position)
            while data:  # a raw file may take less than it is given
                data = data[file.write(data) :]

    def commit(self) -> None:
        """Make it durable and give it its name."""
        with self._refusals():
            os.fsync(self._open_file().fileno())
            self.path.replace(self.target)
            self._close()
            _sync_directory(self.target.parent)

    def discard(self) -> None:
        """Remove it, if it has not been committed."""
        if self._file is not None:
            self.path.unlink(missing_ok=True)
            self._close()

    def _locked(self) -> io.FileIO:
        while True:
            # The umask decides the mode, as for any new file.
            file = io.FileIO(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+")
            if fcntl is None:
                return file
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise TargetBusy(
                    f"{self.target} is being written by another process",
                    hint=f"wait for it to end (it holds {self.path.name})",
                ) from None
            if self._is(file):
                return file
            file.close()  # its owner finished between our opening and locking it: try again

    def _is(self, file: io.FileIO) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False

    def _open_file(self) -> io.FileIO:
        if self._file is None:
            raise ValueError("this file is not, or no longer, under way")
        return self._file

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
            self.discard()
            raise TargetUnwritable(
                f"{self.target} cannot be written: {error.strerror}",
                hint="check the directory, its permissions and the room on the disk",
            ) from None


def _sync_directory(directory: Path) -> None:
    """Make the rename itself durable, where directories can be synced."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
