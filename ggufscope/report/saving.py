"""Files that hold results: text, and arrays. Each is complete, or not there at all."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ggufscope.arrays import Floats
from ggufscope.container.partial import replacing


def write_text(path: Path, text: str, *, overwrite: bool) -> None:
    """Write a text file, UTF-8; raises a ``WriteError``."""
    with replacing(path, overwrite=overwrite) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


class ArraysFile:
    """An ``.npz`` file, written array by array: none has to wait in memory for the last.

    A context manager; raises a ``WriteError``. ``numpy.load`` reads it.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self._context = replacing(path, overwrite=overwrite)

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


def write_floats(
    path: Path, shape: tuple[int, ...], pieces: Iterable[Floats], *, overwrite: bool
) -> None:
    """Write an ``.npy`` file of float32, piece by piece in order; raises a ``WriteError``."""
    head = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with replacing(path, overwrite=overwrite) as file:
        np.lib.format.write_array_header_1_0(file, head)
        for piece in pieces:
            file.write(np.ascontiguousarray(piece, "<f4").data)
