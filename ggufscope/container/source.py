"""Where bytes come from: a file on this machine, mapped into memory or read."""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path

from ggufscope.errors import NotAFile, SourceChanged, SourceNotFound, SourceUnreadable


class LocalFile:
    """A local file, mapped read-only: a view costs nothing until its bytes are touched.

    Implements ``header.Source``. The file is never opened for writing.
    """

    def __init__(self, path: Path) -> None:
        """Open and map ``path``.

        Raises ``SourceNotFound``, ``NotAFile`` or ``SourceUnreadable``.
        """
        self.path = path
        try:
            # Looked at before it is opened: opening a pipe would wait for somebody to write to it.
            _check_regular(path, path.stat())
            with path.open("rb") as file:
                self._size = os.fstat(file.fileno()).st_size
                # An empty file cannot be mapped; the header will say that it is empty.
                self._map = (
                    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self._size else None
                )
        except (FileNotFoundError, NotADirectoryError):
            raise SourceNotFound(f"{path}: no such file", hint="check the path") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SourceUnreadable(
                f"{path} cannot be read: {reason}", hint="check the path and its permissions"
            ) from None

    @property
    def name(self) -> str:
        """The path, as it was given."""
        return str(self.path)

    @property
    def size(self) -> int:
        """Bytes in the file when it was opened."""
        return self._size

    @property
    def first_read(self) -> int:
        """All of it: a mapping reads only what is touched."""
        return self._size

    def view(self, start: int, stop: int) -> memoryview:
        """Give the bytes of ``[start, stop)``, zero-copy; valid while the view is held."""
        return memoryview(self._map or b"")[start:stop]


def read_into(path: Path | str, offset: int, buffer: memoryview, what: str) -> None:
    """Fill a buffer from a file, with a position of its own: no seek that a thread could disturb.

    Nothing is mapped, so what was read does not stay in this process's memory.
    Raises ``SourceChanged``, naming ``what``, where the file ends before the buffer is full.
    """
    left = buffer
    with Path(path).open("rb", buffering=0) as file:
        file.seek(offset)
        while left:
            got = file.readinto(left)
            if not got:
                raise SourceChanged(
                    f"{path} ends inside {what}, at byte {offset + len(buffer) - len(left)}",
                    hint="the file was changed while it was read: try again when it is at rest",
                )
            left = left[got:]


def _check_regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        models = sorted(path.glob("*.gguf"))
        hint = f"name one of its files, such as {models[0]}" if models else "name a .gguf file"
        raise NotAFile(f"{path} is a directory", hint=hint)
    if not stat.S_ISREG(status.st_mode):
        raise NotAFile(
            f"{path} is not a regular file", hint="save the stream to a file and name that"
        )
