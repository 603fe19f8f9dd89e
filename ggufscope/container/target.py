"""What may be written to: nothing that is read, no device, and nothing that was not offered."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ggufscope.errors import TargetExists, TargetIsSource, TargetNotAFile, TargetUnwritable


def check_target(path: Path, *, overwrite: bool, sources: Iterable[Path] = ()) -> Path:
    """Return the file that a target stands for, links followed, before any long work.

    ``sources`` are files that are read: none of them may be the target, by whatever path or link.
    Raises ``TargetNotAFile``, ``TargetIsSource``, ``TargetExists`` or ``TargetUnwritable``.
    """
    with refusals(path):
        try:
            status = path.stat()
        except FileNotFoundError:
            return _new_target(path)
        if stat.S_ISDIR(status.st_mode):
            raise TargetNotAFile(f"{path} is a directory", hint="name a file in it to write")
        if not stat.S_ISREG(status.st_mode):
            raise TargetNotAFile(f"{path} is not a regular file", hint="name a file to write")
        for source in sources:
            with suppress(FileNotFoundError):
                if os.path.samestat(status, source.stat()):
                    raise TargetIsSource(
                        f"{path} is a file that is read, {source}",
                        hint="the source is never written to: name another target",
                    )
        if not overwrite:
            raise TargetExists(f"{path} exists", hint="remove it, or overwrite it with --force")
        return path.resolve()


def _new_target(path: Path) -> Path:
    if path.is_symlink():
        raise TargetNotAFile(
            f"{path} is a link to a file that is not there", hint="remove the link, or name a file"
        )
    folder = nearest_folder(path.parent)
    if not folder.is_dir():
        raise TargetUnwritable(
            f"{path} cannot be written: {folder} is not a directory", hint="choose another place"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise TargetUnwritable(
            f"{path} cannot be written: the directory {folder} may not be changed",
            hint="choose another place, or change the directory's permissions",
        )
    return path.parent.resolve() / path.name


def nearest_folder(path: Path) -> Path:
    """Return a folder, or where it is not there, the nearest above it that is."""
    return next(each for each in (path, *path.parents) if os.path.lexists(each) or not each.name)


def make_folders(path: Path) -> Iterator[Path]:
    """Make a folder and those above it that are not there; yield each that was made, in order."""
    there = nearest_folder(path)
    for folder in reversed([path, *path.parents]):
        if folder != there and folder.is_relative_to(there):
            with suppress(FileExistsError):  # another run made it meanwhile
                folder.mkdir()
                yield folder


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses into ``TargetUnwritable``."""
    try:
        yield
    except OSError as error:
        raise TargetUnwritable(
            f"{path} cannot be written: {error.strerror or error}",
            hint="check the directory, its permissions and the room on the disk",
        ) from None
