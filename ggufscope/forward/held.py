"""One layer's weights, read once and kept while several passes go through it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import numpy as np

from ggufscope.arrays import Blocks, Floats
from ggufscope.blocks.codec import engine
from ggufscope.blocks.floats import first_not_finite
from ggufscope.blocks.layouts import LAYOUTS, Layout
from ggufscope.forward.weights import F32, Matrix, View, Weights, decoded

Follower = Callable[[str, int, Floats], bool]
"""Told a matrix, the first of its rows that were read, and these as float32 (rows, row). Returns
whether it took from them all that it needs."""

BUDGET: Final = 1 << 30
"""Bytes that are kept at most: in NumPy, a layer of a 7B model takes 0.8 GB."""


class LayerWeights(View):
    """Another view's weights, of which those in use are kept until ``release()``.

    A reference and its candidates go through the layers side by side, each layer's weights are read
    once. Take a ``PlannedWeights`` of this view for each candidate, and release it after each
    layer. What would not fit into the budget is read again each time it is asked for.

    They are kept as they are stored, for kernels decode as fast as they are read from memory; in
    NumPy as float32. Rows that it gave are good until ``release()``: the next layer's go into the
    same memory. What all ``followers`` took what they need of is not kept.
    """

    def __init__(self, base: Weights, *, budget: int = BUDGET) -> None:
        super().__init__(base)
        self._budget = budget
        self._held: dict[str, HeldMatrix] = {}
        self._spare: list[Blocks] = []
        self._lock = threading.Lock()
        self.followers: list[Follower] = []
        """Called with what is read of a matrix, by the thread that reads it; not of a stack."""

    def vector(self, name: str) -> Floats:
        """Return a small tensor whole, flat."""
        return self._base.vector(name)

    def matrix(self, name: str) -> Matrix:
        """Return a tensor by its rows; what is read of it is kept, if there is room."""
        with self._lock:  # several passes may ask for their first matrix, each another one
            held = self._held.get(name)
            if held is not None:
                return held
            matrix = self._base.matrix(name)
            layout, kernels = LAYOUTS[self._base.type(name)], engine().kernels
            if kernels is None or not kernels.multiplies(layout):
                layout = F32
            followers = self.followers if len(self._base.shape(name)) == 2 else ()
            room = partial(self._room, matrix.shape, layout)
            self._held[name] = held = HeldMatrix(matrix, layout, followers, room)
            return held

    @property
    def nbytes(self) -> int:
        """Bytes of weights that are kept now."""
        return sum(held.array.nbytes for held in self._held.values() if held.array is not None)

    def release(self) -> None:
        """Forget all that is kept: call it when every pass is through a layer."""
        self._spare += [held.array for held in self._held.values() if held.array is not None]
        self._held = {}

    def _room(self, shape: tuple[int, int], layout: Layout) -> Blocks | None:
        """Return memory for a matrix: that of a layer before, where one is of this shape."""
        rows, blocks = shape[0], shape[1] // layout.block_length
        with self._lock:
            for index, spare in enumerate(self._spare):
                if spare.shape == (rows, blocks) and spare.dtype == layout.dtype:
                    return self._spare.pop(index)
            needed = self.nbytes + rows * blocks * layout.block_bytes
            if needed > self._budget:
                return None
            if needed + sum(spare.nbytes for spare in self._spare) > self._budget:
                self._spare = []
            return np.empty((rows, blocks), layout.dtype)


class HeldMatrix:
    """Rows are read when they are first asked for; those of an expert never chosen never are.

    Who asks first has the followers take what they need, and then keeps the rows, if any of those
    may come back. Until they are there, whoever else asks reads them, too. A row alone is not kept.
    """

    def __init__(
        self,
        base: Matrix,
        layout: Layout,
        followers: Sequence[Follower],
        room: Callable[[], Blocks | None],
    ) -> None:
        """Take how rows are kept, and what returns memory for all of them, if there is any."""
        self.name, self.shape = base.name, base.shape
        self._base, self._layout, self._followers, self._room = base, layout, followers, room
        self.array: Blocks | None = None
        self._begun, self._there = np.zeros((2, base.shape[0]), bool)
        self._lock = threading.Lock()

    def rows(self, start: int, stop: int) -> Floats:
        """Return rows as float32. Raises ``NonFiniteWeight`` where the file has what is none."""
        blocks, layout = self.blocks(start, stop)
        weights = decoded(blocks, layout)
        if layout is not F32 and first_not_finite(weights) is not None:
            self._base.rows(start, stop)  # raises where it is the file that has it
        return weights

    def blocks(self, start: int, stop: int) -> tuple[Blocks, Layout]:
        """Return rows as they are kept."""
        if self.array is not None and self._there[start:stop].all():
            return _kept(self.array, start, stop), self._layout
        with self._lock:  # another thread may be reading some of them, or have them in use
            first = not self._begun[start:stop].any()
            self._begun[start:stop] |= first
        blocks = self._read(start, stop)
        if not first or self._taken(start, blocks):
            return blocks, self._layout
        if stop - start == 1 and self.shape[0] > 1:  # of an embedding: memory for all is no gain
            return blocks, self._layout
        with self._lock:
            if self.array is None:
                self.array = self._room()
        if self.array is not None:
            self.array[start:stop].view(np.uint8)[...] = blocks.view(np.uint8)
            self._there[start:stop] = True
            blocks = _kept(self.array, start, stop)
        return blocks, self._layout

    def _taken(self, start: int, blocks: Blocks) -> bool:
        """Have all followers take what they need; return whether none will ask again."""
        if not self._followers:
            return False
        weights = decoded(blocks, self._layout)
        took = [follow(self.name, start, weights) for follow in self._followers]
        return all(took)

    def _read(self, start: int, stop: int) -> Blocks:
        if self._layout is F32:
            return self._base.rows(start, stop)
        return self._base.blocks(start, stop)[0]


def _kept(array: Blocks, start: int, stop: int) -> Blocks:
    view = array[start:stop]
    view.flags.writeable = False
    return view
