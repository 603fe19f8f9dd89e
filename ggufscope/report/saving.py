"""Files that hold results: complete under their name, or not there at all.

They are written beside their target under another name, made durable and renamed. A file that
exists is kept unless overwriting was asked for.
"""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ggufscope.errors import TargetExists, TargetNotAFile, TargetUnwritable


def check_target(path: Path, *, overwrite: bool) -> None:
    """Raise, before any long work, where a result cannot be written.

    ``TargetExists``, ``TargetNotAFile`` or ``TargetUnwritable``.
    """
    with _refusals(path):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            if not path.parent.is_dir():
                raise TargetUnwritable(
                    f"{path} cannot be written: there is no directory {path.parent}",
                    hint="make the directory first",
                ) from None
            if not os.access(path.parent, os.W_OK | os.X_OK):
                raise TargetUnwritable(
                    f"{path} cannot be written: the directory {path.parent} may not be changed",
                    hint="choose another place, or change the directory's permissions",
                ) from None
            return
    if not stat.S_ISREG(mode):
        raise TargetNotAFile(f"{path} is not a file", hint="name a file to write")
    if not overwrite:
        raise TargetExists(f"{path} exists", hint="--force overwrites it")


@contextmanager
def _under_way(path: Path) -> Iterator[IO[bytes]]:
    """Give a file that becomes ``path`` when all is well, and vanishes when it is not."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with _refusals(path):
        try:
            with partial.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8; raises ``TargetUnwritable``."""
    with _under_way(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


class ArraysFile:
    """An ``.npz`` file, written array by array: none has to wait in memory for the last.

    A context manager. ``numpy.load`` reads it.
    """

    def __init__(self, path: Path) -> None:
        self._context = _under_way(path)

    def __enter__(self) -> ArraysFile:
        self._zip = zipfile.ZipFile(self._context.__enter__(), "w", allowZip64=True)
        return self

    def add(self, name: str, array: npt.NDArray[Any]) -> None:
        """Write one array under its name."""
        with self._zip.open(f"{name}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)

    def __exit__(self, *failure: Any) -> None:
        try:
            self._zip.close()
        finally:
            self._context.__exit__(*failure)


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TargetUnwritable(
            f"{path} cannot be written: {error.strerror or error}",
            hint="check the directory, its permissions and the room on the disk",
        ) from None
