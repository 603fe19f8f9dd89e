"""What killed runs left beside a target: found, told from what a living run writes, removed."""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ggufscope.errors import TargetBusy

try:
    import fcntl
except ImportError:  # Windows: a file that is open cannot be removed there
    fcntl = None  # type: ignore[assignment]  # a module elsewhere

_LONGEST_NAME: Final = 200
SAFELY: Final = (
    getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)
"""How a file of ours is opened: the bytes of itself, not of what a link in its place names."""
_TRIES, _PAUSE = 50, 0.02
"""How often, and how many seconds apart, the lock of a directory is asked for."""


def temporary_name(target: Path) -> Path:
    """Return a name beside a target that nobody can foretell, for a file under way to it."""
    return target.with_name(f"{_prefix(target)}{os.urandom(8).hex()}.partial")


def journal_name(target: Path) -> Path:
    """Return the name of the journal of a change in place (see journal.py)."""
    return target.with_name(f"{_prefix(target)}journal")


def ledger_name(target: Path) -> Path:
    """Return the name of the ledger of a file under way to a target (see ledger.py)."""
    return target.with_name(f"{_prefix(target)}resume")


@contextmanager
def held(file: io.FileIO, path: Path) -> Iterator[None]:
    """Be the only one that changes a file that is open; raises ``TargetBusy``."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TargetBusy(
                f"{path} is being changed by another process", hint="wait for it to end"
            ) from None
        except OSError:  # where a file system knows no locks, nobody waits for one
            pass
    yield  # closing the file lets it go


def lock(file: io.FileIO) -> None:
    """Mark a file as one that this process is writing."""
    if fcntl is not None:
        with suppress(OSError):  # where a file system knows no locks, nobody waits for one
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _prefix(target: Path) -> str:
    name = target.name
    if len(os.fsencode(name)) > _LONGEST_NAME:  # with what is added it might be too long
        from hashlib import sha256  # it loads OpenSSL, which few names are worth

        name = sha256(os.fsencode(name)).hexdigest()
    return f".{name}."


def leftovers(target: Path) -> list[Path]:
    """Return the files beside a target that are, or were, under way to it."""
    name = re.compile(re.escape(_prefix(target)) + r"[0-9a-f]{16}\.partial")
    with suppress(OSError):  # a directory that may be written and not be listed
        return [Path(entry) for entry in os.scandir(target.parent) if name.fullmatch(entry.name)]
    return []


def bytes_taken(target: Path) -> int:
    """Return the bytes on the disk of what killed runs left: the next one has the room of it."""
    taken = 0
    for path in leftovers(target):
        with suppress(OSError):
            if is_ours(status := path.lstat(), target):
                taken += 512 * getattr(status, "st_blocks", 0)
    return taken


def remove_leftovers(target: Path, *, of: Path | None = None) -> None:
    """Remove what killed runs left; raises ``TargetBusy`` for a run that lives.

    ``of``: the file that a message names, where the target is only the journal of it.
    """
    for path in leftovers(target):
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | SAFELY)
        except OSError:  # a link, somebody else's, or gone
            continue
        try:
            if is_ours(os.fstat(descriptor), target):
                _remove(path, descriptor, of or target)
        finally:
            os.close(descriptor)
    if leftovers(target):  # where nobody can tell whether a run lives, it may need its ledger
        return
    ledger = ledger_name(target)
    with suppress(OSError):
        if is_ours(ledger.lstat(), target):
            ledger.unlink()


def _remove(path: Path, descriptor: int, target: Path) -> None:
    with suppress(OSError):  # a file system that is read only
        if lock_alone(descriptor, path, target):
            path.unlink(missing_ok=True)


def lock_alone(descriptor: int, path: Path, target: Path) -> bool:
    """Lock a file under way to a target; return whether nobody else can have it.

    Raises ``TargetBusy`` for one that another process writes.
    """
    if fcntl is None:
        return True  # what is open cannot be removed there, nor opened twice to be written
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise TargetBusy(
            f"{target} is being written by another process",
            hint=f"wait for it to end (it holds {path.name})",
        ) from None
    except OSError:  # a file system without locks
        return False
    return True


def is_ours(status: os.stat_result, target: Path) -> bool:
    """Whether a file is such as this program leaves: regular, this user's, under one name.

    Under two if a run was killed just when it had given the target its name.
    """
    user = os.geteuid() if hasattr(os, "geteuid") else 0
    if not stat.S_ISREG(status.st_mode) or status.st_uid != user:
        return False
    if status.st_nlink == 1:
        return True
    with suppress(FileNotFoundError):
        return status.st_nlink == 2 and os.path.samestat(status, target.lstat())
    return False


def require_ours(descriptor: int, target: Path) -> None:
    """Raise ``PermissionError`` where a file that is open is not ours."""
    if not is_ours(os.fstat(descriptor), target):
        raise PermissionError(errno.EPERM, "what lies beside it is not of this program")


@contextmanager
def directory_held(directory: Path) -> Iterator[None]:
    """Let one run at a time look for others and create its file: of two that start the second sees.

    Where a directory cannot be locked, or somebody else keeps it locked, it goes without.
    """
    descriptor = None
    if fcntl is not None:
        with suppress(OSError):  # a directory that may be changed and not be read
            descriptor = os.open(directory, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            _lock_patiently(descriptor)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock_patiently(descriptor: int) -> None:
    for _ in range(_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE)
        except OSError:
            return
        else:
            return
