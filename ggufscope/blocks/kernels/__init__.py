"""The kernels: what the NumPy files of the same names do, in C++, loaded where it was compiled.

The only place that knows ``ctypes``. A shared object without Python's own interface serves every
Python; the interpreter is let go while a kernel runs.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np

from ggufscope.arrays import Array, Blocks, Floats
from ggufscope.blocks import grids
from ggufscope.blocks.error import WeightError
from ggufscope.blocks.kernels import build
from ggufscope.blocks.layouts import LAYOUTS, Layout
from ggufscope.blocks.neighbours import codebook, squares_overflow

INSTRUCTION_SETS: Final = ("avx512", "avx2", "baseline")
"""The best first. Other machines than x86-64 have the last alone."""

_DONE: Final = 0
_REFUSED: Final = 2
_POINTER, _COUNT = ctypes.c_void_p, ctypes.c_int64
_ARGUMENTS: Final[dict[str, tuple[Any, ...]]] = {
    "quantize": (ctypes.c_int, _POINTER, _POINTER, _COUNT, _COUNT, _POINTER),
    "search": (ctypes.c_int, _POINTER, _POINTER, _COUNT, _COUNT, _POINTER, _POINTER, _POINTER),
    "dequantize": (ctypes.c_int, _POINTER, _POINTER, _COUNT, _POINTER),
    "multiply": (
        *(ctypes.c_int, _POINTER, _COUNT, _COUNT, _POINTER),
        *(_POINTER, _COUNT, _POINTER, _COUNT, _POINTER),
    ),
    "errors": (ctypes.c_int, _POINTER, _COUNT, _POINTER, _POINTER, _POINTER),
    "chunk": (),
    "pitch": (),
    "tile": (),
    "block_bytes": (ctypes.c_int,),
    "makes": (ctypes.c_int,),
    "xxh64": (_POINTER, _POINTER, _COUNT),
    "searches": (ctypes.c_int,),
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


_kept = threading.local()
_LINE: Final = 16
"""Numbers in a line of the cache, of 64 bytes."""


def _room(size: int) -> Floats:
    """Return (size,) to work in, the same to a thread each time."""
    room: Floats | None = getattr(_kept, "room", None)
    if room is None or room.size != size:
        _kept.room = room = _in_lines(size)
    return room


def _in_lines(size: int) -> Floats:
    """Return room (size,) that begins where a line of the cache does: no vector lies in two."""
    room = np.empty(size + _LINE - 1, np.float32)
    start = -room.ctypes.data // room.itemsize % _LINE
    return room[start : start + size]


@dataclass(frozen=True, slots=True, eq=False)
class Kernels:
    """The kernels of one instruction set."""

    instruction_set: str
    compiler: str
    _calls: Mapping[str, Callable[..., int]]
    """Of this instruction set; see ``_ARGUMENTS``."""
    _makes: frozenset[int]
    """The numbers of the types that are made."""
    _searches: frozenset[int]
    """Of those, what needs a codebook."""
    _block_bytes: Mapping[int, int]
    """Of the types that are read, by their numbers."""
    _chunk: int
    _pitch: int
    _tile: int

    @classmethod
    def of(cls, library: ctypes.CDLL, instruction_set: str, compiler: str) -> Kernels:
        """Return what a shared object has for an instruction set."""
        calls: dict[str, Callable[..., int]] = {}
        for name, arguments in _ARGUMENTS.items():
            calls[name] = call = getattr(library, f"{instruction_set}_{name}")
            call.argtypes = arguments
        numbers = [layout.number for layout in LAYOUTS.values()]
        searches = frozenset(number for number in numbers if calls["searches"](number))
        return cls(
            instruction_set=instruction_set,
            compiler=compiler,
            _calls=calls,
            _makes=searches.union(number for number in numbers if calls["makes"](number)),
            _searches=searches,
            _block_bytes={number: calls["block_bytes"](number) for number in numbers},
            _chunk=calls["chunk"](),
            _pitch=calls["pitch"](),
            _tile=calls["tile"](),
        )

    def quantize(
        self, layout: Layout, x: Floats, out: Blocks, importance: Floats | None = None
    ) -> None:
        """x (rows, row) -> out (rows, blocks), with the importance (row,) of columns."""
        fits = x.dtype == np.float32 and x.flags.c_contiguous and out.flags.c_contiguous
        fits &= out.dtype == layout.dtype and x.size == out.size * layout.block_length
        fits &= x.ndim == 2
        if importance is not None:
            fits &= importance.shape == x.shape[1:] and importance.dtype == np.float32
            fits &= importance.flags.c_contiguous
        if not fits or not self.makes(layout):
            raise ValueError(f"no kernel makes {layout.name} of {x.dtype} {x.shape}")
        weights = None if importance is None else importance.ctypes.data
        if layout.number in self._searches:
            self._search(layout, x, out, weights)
            return
        self._calls["quantize"](layout.number, x.ctypes.data, out.ctypes.data, *x.shape, weights)

    def _search(self, layout: Layout, x: Floats, out: Blocks, importance: int | None) -> None:
        book = codebook(layout.name)
        done = self._calls["search"](
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
        grid_place = None if grid is None else grid.ctypes.data
        self._calls["dequantize"](layout.number, *places, blocks.size, grid_place)

    def cut(self, x: Floats) -> Floats:
        """x (T, row) -> (chunks, T, pitch): as ``multiply`` reads it, filled up with zeros."""
        starts = range(0, x.shape[1], self._chunk)
        shape = len(starts), len(x), self._pitch
        pieces = _in_lines(prod(shape)).reshape(shape)
        for piece, start in zip(pieces, starts, strict=True):
            part = x[:, start : start + self._chunk]
            piece[:, : part.shape[1]] = part
            piece[:, part.shape[1] :] = 0
        return pieces

    def multiply(self, layout: Layout, blocks: Blocks, pieces: Floats, out: Floats) -> None:
        """blocks (rows, n), pieces ``cut`` of x (T, row) -> x @ W.T into out (T, rows)."""
        rows, row = blocks.shape[0], blocks.shape[-1] * layout.block_length
        fits = blocks.ndim == 2 and blocks.flags.c_contiguous and blocks.dtype == layout.dtype
        fits &= pieces.dtype == out.dtype == np.float32 and pieces.flags.c_contiguous
        fits &= pieces.shape == (-(-row // self._chunk), len(out), self._pitch)
        fits &= out.shape[1:] == (rows,)
        fits &= not out.size or (out.strides[-1] == 4 and out.strides[0] % 4 == 0)
        if not fits or not self.multiplies(layout):
            raise ValueError(f"no kernel multiplies {layout.name} {blocks.shape} to {out.shape}")
        room = _room(self._tile * self._pitch)
        grid = GRIDS.get(layout.name)
        self._calls["multiply"](
            *(layout.number, blocks.ctypes.data, rows, row),
            *(None if grid is None else grid.ctypes.data, pieces.ctypes.data, len(out)),
            *(out.ctypes.data, out.strides[0] // 4, room.ctypes.data),
        )

    def error(self, layout: Layout, blocks: Blocks, reference: Floats) -> WeightError:
        """blocks, reference (rows, row) as float32 -> what the blocks' weights are off by."""
        fits = reference.dtype == np.float32 and reference.flags.c_contiguous
        fits &= blocks.dtype == layout.dtype and blocks.flags.c_contiguous
        fits &= reference.size == blocks.size * layout.block_length
        if not fits or not self.multiplies(layout):
            raise ValueError(f"no kernel compares {layout.name} {blocks.shape}")
        grid, sums = GRIDS.get(layout.name), np.zeros(3)
        self._calls["errors"](
            *(layout.number, blocks.ctypes.data, blocks.size),
            *(None if grid is None else grid.ctypes.data, reference.ctypes.data, sums.ctypes.data),
        )
        squared_error, squared_weights, largest = sums.tolist()
        return WeightError(squared_error, squared_weights, largest, reference.size)

    def multiplies(self, layout: Layout) -> bool:
        """Whether there is a kernel that multiplies with the type, and compares it."""
        return layout.name == "F32" or self.reads(layout)

    def reads(self, layout: Layout) -> bool:
        """Whether there is a kernel that dequantizes the type."""
        return self._block_bytes.get(layout.number) == layout.block_bytes

    def makes(self, layout: Layout) -> bool:
        """Whether there is a kernel that quantizes to the type."""
        return self.reads(layout) and layout.number in self._makes

    def xxh64(self, lanes: Array, stripes: Array) -> None:
        """Take the lanes (4,) uint64, changed in place, over stripes (n, 32) of data, as bytes."""
        if not (lanes.flags.c_contiguous and stripes.flags.c_contiguous and lanes.nbytes == 32):
            raise ValueError("lanes and stripes are contiguous, and there are four lanes")
        self._calls["xxh64"](lanes.ctypes.data, stripes.ctypes.data, stripes.nbytes // lanes.nbytes)


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
        return {}, "they were compiled from other sources"
    compiler = library.kernels_compiler().decode().strip()
    runs = [name for name in INSTRUCTION_SETS if library.kernels_run(name.encode())]
    return {name: Kernels.of(library, name, compiler) for name in runs}, ""
