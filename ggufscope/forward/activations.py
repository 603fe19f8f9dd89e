"""What leaves a layer, for every run and chunk: in memory, or where it is much in a file."""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path
from typing import IO, Final, Self

import numpy as np

from ggufscope.arrays import Floats
from ggufscope.container.target import refusals
from ggufscope.errors import NoRoom
from ggufscope.machine import available_memory

_MOST: Final = 1 << 30
"""Bytes that are kept in memory at most."""
_FLOAT: Final = 4


class Activations:
    """x (T, E) of each run and chunk; a context manager, which lets go of them.

    Several threads may read and write, each a chunk of its own.
    """

    def __init__(self, runs: int, chunks: int, tokens: int, width: int, most: int = _MOST) -> None:
        """Make room. Raises ``NoRoom`` where the disk has too little, ``TargetUnwritable``.

        ``most``: bytes in memory, no more than a quarter of what is free.
        """
        self.tokens = tokens
        self._shape = runs, chunks, tokens, width
        self._memory: Floats | None = None
        self._file: IO[bytes] | None = None
        self._lock = threading.Lock()
        self._folder = Path(tempfile.gettempdir())
        nbytes = _FLOAT * runs * chunks * tokens * width
        free = available_memory()
        if nbytes <= min(most, most if free is None else free // 4):
            self._memory = np.empty(self._shape, np.float32)
            return
        with refusals(self._folder):
            room = shutil.disk_usage(self._folder).free
            if room < nbytes:
                raise NoRoom(
                    f"{self._folder} has room for {room:,} bytes, and what leaves a layer takes "
                    f"{nbytes:,} there",
                    hint="name a folder with more room in TMPDIR, or run less of the text",
                )
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # open to the end

    def write(self, run: int, chunk: int, x: Floats) -> None:
        """Keep x (T, E), of T tokens at the most. Raises ``TargetUnwritable``."""
        if self._memory is not None:
            self._memory[run, chunk, : len(x)] = x
            return
        assert self._file is not None
        data = memoryview(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data)
        with self._lock, refusals(self._folder):
            self._file.seek(self._offset(run, chunk, 0))
            while data:
                data = data[self._file.write(data) :]

    def read(self, run: int, chunk: int, first: int = 0, last: int | None = None) -> Floats:
        """Return rows [first, last) of what was kept, (R, E); not to be written to."""
        last = self._shape[2] if last is None else last
        if self._memory is not None:
            return self._memory[run, chunk, first:last]
        assert self._file is not None
        x = np.empty((last - first, self._shape[3]), np.float32)
        data = memoryview(x.reshape(-1).view(np.uint8).data)
        with self._lock, refusals(self._folder):
            self._file.seek(self._offset(run, chunk, first))
            while data:
                got = self._file.readinto(data)  # type: ignore[attr-defined]  # a raw file has it
                data = data[got:]
        return x

    def _offset(self, run: int, chunk: int, token: int) -> int:
        _, chunks, tokens, width = self._shape
        return _FLOAT * width * ((run * chunks + chunk) * tokens + token)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._memory = None
        if self._file is not None:
            self._file.close()
