"""Where the entries of a grid lie among all vectors: what quantizing to an I-quant looks up.

A *point* is a vector of levels, packed into a number: with three levels two bits for each, with
eight levels three, the first weight lowest. Of the 6,561 points of eight weights a grid has 256 to
2,048, so most vectors that come from rounding are not in it. For each of these there is a list of
entries nearby, and the quantizers choose among them by what the weights count.

ggml makes the same lists when it starts (``iq2xs_init_impl``, ``iq3xs_init_impl``). Here they are
made when first needed, in a few tenths of a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from ggufscope.arrays import Floats, Grid, Integers, Ints, Words16
from ggufscope.blocks import grids
from ggufscope.errors import UnmakeableBlock

SLACK: Final = 16
"""Entries behind the last list, so that a kernel may read a whole vector from any place."""


@dataclass(frozen=True, slots=True)
class Codebook:
    """A grid, and the way to it from any point."""

    levels: int
    length: int
    """Weights in a vector."""
    place: Ints
    """(points,): the entry that a point is; or, for a point that is none, ``~start``."""
    near: Words16
    """The lists, one after the other: how many, then the points of these entries, nearest first."""

    @property
    def bits(self) -> int:
        """Bits for each weight in the number of a point."""
        return _BITS[self.levels]

    def pack(self, levels: Integers) -> Ints:
        """levels (length, ...) -> points (...)."""
        return _pack(levels, self.bits)

    def unpack(self, points: Ints) -> Floats:
        """points (...) -> levels (length, ...)."""
        shifts = self.bits * np.arange(self.length, dtype=np.int32)
        fields = points >> shifts.reshape(-1, *[1] * points.ndim)
        return (fields & (1 << self.bits) - 1).astype(np.float32)


def _pack(levels: Integers, bits: int) -> Ints:
    points: Ints = levels[0].astype(np.int32)
    for i in range(1, len(levels)):
        points |= levels[i].astype(np.int32) << bits * i
    return points


@cache
def codebook(name: str) -> Codebook:
    """Return what is needed to quantize to a type."""
    grid, reach = _GRIDS[name]
    values, number = np.unique(grid, return_inverse=True)
    levels, length = len(values), grid.shape[1]
    inside = number.reshape(grid.shape).T.astype(np.int8)
    every = np.indices((levels,) * length, np.int8).reshape(length, -1)
    entries, points = _pack(inside, _BITS[levels]), _pack(every, _BITS[levels])
    off = ~np.isin(points, entries)
    near, starts = _lists(every[:, off], inside, entries, reach)
    place = np.zeros(1 << _BITS[levels] * length, np.int32)
    place[entries] = np.arange(len(entries))
    place[points[off]] = ~starts
    return Codebook(levels, length, place, near)


def squares_overflow(where: str) -> UnmakeableBlock:
    """Return the error for weights that no entry is near to, where an assertion of ggml fails."""
    return UnmakeableBlock(
        f"{where}: squares of the weights are no finite numbers, and ggml ends there",
        hint="choose another type for it, such as Q8_0 or F16",
    )


def _lists(outside: Grid, inside: Grid, entries: Ints, reach: int) -> tuple[Words16, Ints]:
    """outside (k, n), inside (k, entries), their points -> the lists, and where each (n,) starts.

    A list has the entries at the ``reach`` smallest distances that occur, those at one distance in
    the order of the grid. Distances are squared, between numbers of levels.
    """
    distance = np.zeros((outside.shape[1], len(entries)), np.uint8)
    for from_, to in zip(outside, inside, strict=True):
        step = from_[:, None] - to
        distance += np.square(step).view(np.uint8)
    farthest = distance.min(axis=1)
    for _ in range(1, reach):
        farthest = np.where(distance > farthest[:, None], distance, 255).min(axis=1)
    of, entry = np.nonzero(distance <= farthest[:, None])
    order = np.lexsort((entry, distance[of, entry], of))
    counts = np.bincount(of)
    starts = np.add.accumulate(np.concatenate([[0], counts + 1]))
    near = np.zeros(starts[-1] + SLACK, np.uint16)
    near[starts[:-1]] = counts
    near[np.arange(len(of)) + of + 1] = entries[entry[order]]
    return near, starts[:-1].astype(np.int32)


_BITS: Final = {3: 2, 8: 3}
_GRIDS: Final[dict[str, tuple[Grid, int]]] = {
    "IQ2_XXS": (grids.IQ2_XXS, 2),
    "IQ2_XS": (grids.IQ2_XS, 2),
    "IQ2_S": (grids.IQ2_S, 1),
    "IQ3_XXS": (grids.IQ3_XXS, 2),
    "IQ3_S": (grids.IQ3_S, 3),
    "IQ1_S": (grids.IQ1_S, 3),
    "IQ1_M": (grids.IQ1_S, 3),
}
"""The grid of each type, and how many distances its lists reach."""
