"""The kernels: what the NumPy files of the same names do, in C++, loaded where it was compiled.

The only place that knows ``ctypes``. A shared object without Python's own interface serves every
Python; the interpreter is let go while a kernel runs.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from ggufscope.arrays import Blocks, Floats
from ggufscope.blocks import grids
from ggufscope.blocks.kernels import build
from ggufscope.blocks.layouts import Layout
from ggufscope.blocks.neighbours import codebook, squares_overflow

INSTRUCTION_SETS: Final = ("avx512", "avx2", "baseline")
"""The best first. Other machines than x86-64 have the last alone."""

_DONE: Final = 0
_REFUSED: Final = 3
_POINTER, _COUNT = ctypes.c_void_p, ctypes.c_int64
_ARGUMENTS: Final[dict[str, tuple[Any, ...]]] = {
    "quantize": (ctypes.c_int, _POINTER, _POINTER, _COUNT, _COUNT, _POINTER),
    "search": (ctypes.c_int, _POINTER, _POINTER, _COUNT, _COUNT, _POINTER, _POINTER, _POINTER),
    "dequantize": (ctypes.c_int, _POINTER, _POINTER, _COUNT, _POINTER),
    "block_bytes": (ctypes.c_int,),
    "makes": (ctypes.c_int,),
    "searches": (ctypes.c_int,),
    "weighs": (ctypes.c_int,),
}

GRIDS: Final = {
    "IQ2_XXS": grids.IQ2_XXS,
    "IQ2_XS": grids.IQ2_XS,
    "IQ3_XXS": grids.IQ3_XXS,
    "IQ1_S": grids.IQ1_S,
    "IQ3_S": grids.IQ3_S,
    "IQ2_S": grids.IQ2_S,
    "IQ1_M": grids.IQ1_S,
}
"""The codebooks of the types that have one, each C-contiguous."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """The kernels of one instruction set."""

    instruction_set: str
    compiler: str
    _library: ctypes.CDLL

    def quantize(
        self, layout: Layout, x: Floats, out: Blocks, importance: Floats | None = None
    ) -> None:
        """x (rows, row) -> out (rows, blocks), with the importance (row,) of columns."""
        fits = x.dtype == np.float32 and x.flags.c_contiguous and out.flags.c_contiguous
        fits &= out.dtype == layout.dtype and x.size == out.size * layout.block_length
        fits &= x.ndim == 2 and (importance is None or importance.shape == x.shape[1:])
        if not fits or not self.makes(layout):
            raise ValueError(f"no kernel makes {layout.name} of {x.dtype} {x.shape}")
        weights = None if importance is None else importance.ctypes.data
        if self._searches(layout):
            self._search(layout, x, out, weights)
            return
        call = self._function("quantize")
        if call(layout.number, x.ctypes.data, out.ctypes.data, *x.shape, weights) != _DONE:
            raise ValueError(f"no kernel makes {layout.name} by importance yet")

    def _search(self, layout: Layout, x: Floats, out: Blocks, importance: int | None) -> None:
        book = codebook(layout.name)
        done = self._function("search")(
            *(layout.number, x.ctypes.data, out.ctypes.data, *x.shape, importance),
            *(book.place.ctypes.data, book.near.ctypes.data),
        )
        if done == _REFUSED:
            raise squares_overflow("a block")
        if done != _DONE:
            raise ValueError(f"no kernel makes {layout.name} without an importance")

    def dequantize(self, layout: Layout, blocks: Blocks, out: Floats) -> None:
        """blocks (n,) -> out (n, block_length)."""
        blocks = np.ascontiguousarray(blocks)
        fits = out.dtype == np.float32 and out.flags.c_contiguous and blocks.dtype == layout.dtype
        if not fits or out.size != blocks.size * layout.block_length or not self.reads(layout):
            raise ValueError(f"no kernel reads {layout.name} to {out.dtype} {out.shape}")
        grid = GRIDS.get(layout.name)
        places = (array.ctypes.data for array in (blocks, out))
        call = self._function("dequantize")
        call(layout.number, *places, blocks.size, None if grid is None else grid.ctypes.data)

    def reads(self, layout: Layout) -> bool:
        """Whether there is a kernel that dequantizes the type."""
        return bool(self._function("block_bytes")(layout.number) == layout.block_bytes)

    def makes(self, layout: Layout) -> bool:
        """Whether there is a kernel that quantizes to the type."""
        made = self._function("makes")(layout.number) or self._searches(layout)
        return self.reads(layout) and bool(made)

    def _searches(self, layout: Layout) -> bool:
        return bool(self._function("searches")(layout.number))

    def weighs(self, layout: Layout) -> bool:
        """Whether the type would be made by importance: what no kernel does yet."""
        return bool(self._function("weighs")(layout.number))

    def _function(self, name: str) -> Callable[..., int]:
        function = getattr(self._library, f"{self.instruction_set}_{name}")
        function.argtypes = _ARGUMENTS[name]
        return function  # type: ignore[no-any-return]  # ctypes does not say


@cache
def load(folder: Path = build.SOURCES) -> tuple[dict[str, Kernels], str]:
    """Return the kernels that this processor runs, the best first; and why there are none."""
    path = folder / build.library_name()
    if sys.byteorder != "little":
        return {}, "blocks are little-endian, and this machine is not"
    if not path.exists():
        return {}, "they were not compiled when ggufscope was installed"
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return {}, f"they cannot be loaded: {error}"
    for name in ("kernels_sources", "kernels_compiler"):
        getattr(library, name).restype = ctypes.c_char_p
    if library.kernels_sources().decode() != build.digest():
        return {}, "they were compiled from other sources: install ggufscope again"
    compiler = library.kernels_compiler().decode().strip()
    runs = [name for name in INSTRUCTION_SETS if library.kernels_run(name.encode())]
    return {name: Kernels(name, compiler, library) for name in runs}, ""
