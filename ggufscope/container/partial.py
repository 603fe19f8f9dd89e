"""A file under way: grown under a temporary name, given its own name when it is complete.

Whoever opens the target sees the old file or the whole new one, and a reader that has the old one
mapped keeps it. The temporary name cannot be foretold, and nothing that has it already is opened:
an archive could have put a link there. A lock tells a file that another process is writing from one
that a killed process left behind; the next run for the same target removes that, or goes on with it
where a ledger says what of it is done (see ledger.py).
"""

from __future__ import annotations

import atexit
import errno
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final

from ggufscope.container.journal import settle, write_at
from ggufscope.container.ledger import Begun, Facts, Ledger, begun_of
from ggufscope.container.leftovers import (
    SAFELY,
    directory_held,
    ledger_name,
    leftovers,
    lock,
    lock_alone,
    remove_leftovers,
    require_ours,
    temporary_name,
)
from ggufscope.container.target import check_target, make_folders, refusals
from ggufscope.errors import NotResumable, TargetExists, TargetUnwritable

_NO_LINKS: Final = frozenset(
    {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.EACCES}
)
"""What file systems without hard links answer to the wish for one."""


@dataclass(frozen=True, slots=True)
class UnderWay:
    """Where a file under way can be opened, by this process or another: path, device, inode."""

    path: str
    device: int
    inode: int
    """Both are 0 where any will do: other machines number a shared disk, and its files, anew."""
    target: str
    """What to call it in a message."""

    def elsewhere(self) -> UnderWay:
        """Return where a process on another machine can open it."""
        return replace(self, device=0, inode=0)

    @contextmanager
    def opened(self, *, durable: bool = False) -> Iterator[Callable[[int, memoryview], None]]:
        """Open it, and yield what writes data at an offset; raises ``TargetUnwritable``.

        ``durable``: what was written is on the disk in the end. It is opened to be written alone:
        NFS would write a page whole that can be read too, and others write into its other half.
        """
        target = Path(self.target)
        with refusals(target):
            try:
                file = io.FileIO(os.open(self.path, os.O_WRONLY | SAFELY), "w")
            except FileNotFoundError:
                raise _gone(self.path, self.target) from None

        def write(offset: int, data: memoryview) -> None:
            with refusals(target):
                write_at(file, offset, data)

        try:
            status = os.fstat(file.fileno())
            if self.inode and (status.st_dev, status.st_ino) != (self.device, self.inode):
                raise _gone(self.path, self.target)
            yield write
            if durable:
                with refusals(target):
                    os.fsync(file.fileno())
        finally:
            with refusals(target):
                file.close()


def _gone(path: Path | str, target: Path | str) -> TargetUnwritable:
    return TargetUnwritable(
        f"{target} cannot be written: its temporary file was removed while it was written",
        hint=f"leave {Path(path).name} alone while the command runs",
    )


def _require_whole(partial: Path, target: Path, nbytes: int) -> None:
    """Raise ``NotResumable`` where what an ended run left is not as long as it made it."""
    size = partial.stat().st_size
    if size != nbytes:
        raise NotResumable(
            f"{target} cannot be resumed: {partial.name} has {size:,} bytes and had {nbytes:,}",
            hint="it was cut or copied in part: begin anew without --resume",
        )


class PartialFile:
    """A file under its temporary name. ``commit`` or ``discard`` ends it."""

    def __init__(
        self,
        target: Path,
        nbytes: int = 0,
        *,
        overwrite: bool = False,
        facts: Facts | None = None,
    ) -> None:
        """Create it, all zeros, or go on with what an ended run left.

        That is done where ``facts`` say of what run it is. It has a ledger then, and both are kept
        where anything of it is done. Raises what ``check_target`` raises, ``TargetBusy`` and
        ``NotResumable``.
        """
        self.target = check_target(target, overwrite=overwrite)
        self._overwrite = overwrite
        self._file: io.FileIO | None = None
        self._ledger: Ledger | None = None
        begun = None if facts is None else begun_of(self.target)
        left = {path.name: path for path in leftovers(self.target)}
        self._old = left.get(begun.partial) if begun else None
        self.path = self._old or temporary_name(self.target)
        self._made: list[Path] = []
        if self._old is None:
            _LIVE[self.path] = os.getpid(), self.target, self._made
        with self._refusals():
            for folder in make_folders(self.target.parent):
                self._made.append(folder)
            with directory_held(self.target.parent):
                if begun is not None and self._old is not None and facts is not None:
                    self._file = _reopen(self._old, self.target)
                    begun.require(facts, self.target)
                    _require_whole(self._old, self.target, nbytes)
                    self._ledger = Ledger(self.target)
                else:
                    remove_leftovers(self.target)
                    settle(self.target)
                    self._file = _create(self.path, self.target)
                    # The full length at once: what is not written, the padding, reads as zeros.
                    self._file.truncate(nbytes)
                    if facts is not None:
                        begun = Begun(self.path.name, self.under_way.inode, facts)
                        self._ledger = Ledger(self.target, begun)

    @property
    def under_way(self) -> UnderWay:
        """Where others can write into it."""
        status = os.fstat(self._open_file().fileno())
        return UnderWay(str(self.path), status.st_dev, status.st_ino, str(self.target))

    def write_at(self, position: int, data: memoryview) -> None:
        """Write ``data`` at a position; raises ``TargetUnwritable``, and nothing is left then."""
        with self._refusals():
            write_at(self._open_file(), position, data)

    @contextmanager
    def writing(self) -> Iterator[io.FileIO]:
        """Yield it as an open file; what the system refuses is raised as ``TargetUnwritable``."""
        with self._refusals():
            yield self._open_file()

    def note(self, piece: Any) -> None:
        """Have the ledger name a piece as done, from the next ``secure`` on."""
        if self._ledger is not None:
            self._ledger.add(piece)

    def secure(self) -> None:
        """Have on the disk what was written, and after that what was noted of it.

        Raises ``TargetUnwritable``.
        """
        with self._refusals():
            os.fsync(self._open_file().fileno())
            if self._ledger is not None:
                self._ledger.flush()
                if self._keeps:
                    _LIVE.pop(self.path, None)

    @property
    def _keeps(self) -> bool:
        """Whether anything in it is worth keeping for another run."""
        return self._old is not None or (self._ledger is not None and self._ledger.pieces > 0)

    def commit(self) -> None:
        """Make it durable and give it its name.

        Raises ``TargetExists`` where a file of that name appeared meanwhile and overwriting was not
        asked for. On a file system without hard links (FAT) a file that appears in the very last
        moment is not noticed.
        """
        with self._refusals():
            os.fsync(self._open_file().fileno())
            if not self._is_there():
                raise _gone(self.path, self.target)
            if self._overwrite:
                self.path.replace(self.target)
            else:
                self._place()
            self._made.clear()
            self._close()
            _sync_directory(self.target.parent)

    def discard(self) -> None:
        """Remove it, and the folders made for it, if it has not been committed, nor is kept."""
        if self._file is not None and self._is_there():
            if self._keeps:
                KEPT.append(self.target)
            else:
                self.path.unlink(missing_ok=True)
                if self._ledger is not None:
                    ledger_name(self.target).unlink(missing_ok=True)
                REMOVED.append(self.target)
        _remove_folders(self._made)
        self._close()

    def _place(self) -> None:
        """Return it its name, unless there is a file of that name."""
        try:
            if os.name == "nt":
                self.path.rename(self.target)  # which refuses there
                return
            os.link(self.path, self.target)
        except FileExistsError:
            raise TargetExists(
                f"{self.target} appeared while it was written; it was left as it is",
                hint="remove it, or overwrite it with --force",
            ) from None
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if os.path.lexists(self.target):
                raise TargetExists(f"{self.target} exists", hint="remove it first") from None
            self.path.rename(self.target)
        else:
            self.path.unlink()

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._open_file().fileno()), self.path.lstat())
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
        if self._ledger is not None:
            self._ledger.close()
        _LIVE.pop(self.path, None)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            with refusals(self.target):
                yield
        except BaseException as error:
            if self._file is None and self._old is None and not isinstance(error, Exception):
                # A signal, which may have come when the file was made and not yet known here.
                _remove_unopened(self.path, self.target)
            self.discard()
            raise


@contextmanager
def replacing(target: Path, *, overwrite: bool) -> Iterator[IO[bytes]]:
    """Open a file to be written from its beginning; it becomes ``target`` when all is well.

    Raises what ``PartialFile`` raises.
    """
    partial = PartialFile(target, overwrite=overwrite)
    try:
        with partial.writing() as file:
            stream = io.BufferedRandom(file)
            yield stream
            stream.flush()
            stream.detach()
        partial.commit()
    finally:
        partial.discard()


REMOVED: Final[list[Path]] = []
"""The targets whose temporary files were removed: what an interrupted command has to say."""
KEPT: Final[list[Path]] = []
"""The targets that another run can go on with."""
_LIVE: Final[dict[Path, tuple[int, Path, list[Path]]]] = {}
"""Files under way, noted before they are created: by which process, for what, with what folders."""


@atexit.register
def remove_live() -> None:
    """Remove what a signal, between two instructions, kept from being removed where it was made."""
    for path, (process, target, folders) in _LIVE.items():
        if process == os.getpid():  # and not a child of it
            _remove_unopened(path, target)
            _remove_folders(folders)


def _remove_unopened(path: Path, target: Path) -> None:
    with suppress(OSError):
        path.unlink()
        REMOVED.append(target)


def _remove_folders(made: list[Path]) -> None:
    """Remove folders, the inmost first; one that something was put into stays."""
    while made:
        with suppress(OSError):
            made.pop().rmdir()


def _create(path: Path, target: Path) -> io.FileIO:
    """Open a new file that no one else can have prepared, and lock it."""
    # The umask decides the mode, as for any new file.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | SAFELY, 0o666)
    file = io.FileIO(descriptor, "r+")
    try:
        lock(file)
        if hasattr(os, "fchmod"):
            with suppress(FileNotFoundError):  # what is replaced stays as private as it was
                os.fchmod(descriptor, stat.S_IMODE(target.stat().st_mode) & 0o777)
    except BaseException:
        file.close()
        raise
    return file


def _reopen(path: Path, target: Path) -> io.FileIO:
    """Open a file that an ended run left, as the only one that does; raises ``TargetBusy``."""
    file = io.FileIO(os.open(path, os.O_RDWR | SAFELY), "r+")
    try:
        require_ours(file.fileno(), target)
        lock_alone(file.fileno(), path, target)
    except BaseException:
        file.close()
        raise
    return file


def _sync_directory(directory: Path) -> None:
    """Make the rename itself durable, where directories can be synced."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
