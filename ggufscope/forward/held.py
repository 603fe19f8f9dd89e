"""One layer's weights, dequantized once and kept while several passes go through it."""

from __future__ import annotations

import threading
from typing import Final

import numpy as np

from ggufscope.arrays import Blocks, Floats
from ggufscope.blocks.codec import dequantize
from ggufscope.blocks.floats import first_not_finite
from ggufscope.blocks.layouts import Layout
from ggufscope.forward.weights import F32, Matrix, View, Weights

BUDGET: Final = 1 << 30
"""Bytes of float32 that are kept at most: a layer of a 7B model takes 0.8 GB."""


class LayerWeights(View):
    """Another view's weights, of which those in use are kept as float32 until ``release()``.

    A reference and its candidates go through the layers side by side, each layer's weights are read
    and dequantized once. Take a ``PlannedWeights`` of this view for each candidate, and release it
    after each layer. What would not fit into the budget is read again each time it is asked for.

    Rows that it gave are good until ``release()``: the next layer's go into the same memory.
    """

    def __init__(self, base: Weights, *, budget: int = BUDGET) -> None:
        super().__init__(base)
        self._budget = budget
        self._held: dict[str, _HeldMatrix] = {}
        self._spare: list[Floats] = []
        self._lock = threading.Lock()

    def vector(self, name: str) -> Floats:
        """Return a small tensor whole, flat."""
        return self._base.vector(name)

    def matrix(self, name: str) -> Matrix:
        """Return a tensor by its rows; kept from now on, if there is room."""
        with self._lock:  # several passes may ask for their first matrix, each another one
            held = self._held.get(name)
            if held is not None:
                return held
            matrix = self._base.matrix(name)
            room = self._room(matrix.shape)
            if room is None:
                return matrix
            self._held[name] = held = _HeldMatrix(matrix, room)
            return held

    @property
    def nbytes(self) -> int:
        """Bytes of weights that are kept now."""
        return sum(held.array.nbytes for held in self._held.values())

    def release(self) -> None:
        """Forget all that is kept: call it when every pass is through a layer."""
        self._spare += [held.array for held in self._held.values()]
        self._held = {}

    def _room(self, shape: tuple[int, int]) -> Floats | None:
        """Return memory for a matrix: that of a layer before, where one is of this shape."""
        for index, spare in enumerate(self._spare):
            if spare.shape == shape:
                return self._spare.pop(index)
        needed = self.nbytes + 4 * shape[0] * shape[1]
        if needed > self._budget:
            return None
        if needed + sum(spare.nbytes for spare in self._spare) > self._budget:
            self._spare = []
        return np.empty(shape, np.float32)


class _HeldMatrix:
    """Rows are read when they are first asked for; those of an expert never chosen never are."""

    def __init__(self, base: Matrix, room: Floats) -> None:
        self.name, self.shape = base.name, base.shape
        self._base = base
        self.array = room
        self._begun, self._there = np.zeros((2, base.shape[0]), bool)
        self._lock = threading.Lock()

    def rows(self, start: int, stop: int) -> Floats:
        if not self._there[start:stop].all():
            with self._lock:  # another thread may be reading some of them, or have them in use
                mine = not self._begun[start:stop].any()
                self._begun[start:stop] |= mine
            if not mine:
                return self._base.rows(start, stop)
            self._read(start, stop)
            self._there[start:stop] = True
        view = self.array[start:stop]
        view.flags.writeable = False
        return view

    def _read(self, start: int, stop: int) -> None:
        blocks, layout = self._base.blocks(start, stop)
        weights = dequantize(blocks, layout, out=self.array[start:stop], threads=1)
        if first_not_finite(weights) is not None:
            self._base.rows(start, stop)  # raises where it is the file that has it

    def blocks(self, start: int, stop: int) -> tuple[Blocks, Layout]:
        return self.rows(start, stop), F32
