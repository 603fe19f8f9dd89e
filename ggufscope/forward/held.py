"""One layer's weights, dequantized once and kept while several passes go through it."""

from __future__ import annotations

import threading
from typing import Final

import numpy as np

from ggufscope.forward.weights import Floats, Matrix, Weights

BUDGET: Final = 1 << 30
"""Bytes of float32 that are kept at most: a layer of a 7B model takes 0.8 GB."""


class LayerWeights:
    """Another view's weights, of which those in use are kept as float32 until ``release()``.

    A reference and its candidates go through the layers side by side, each layer's weights are read
    and dequantized once. Take a ``PlannedWeights`` of this view for each candidate, and release it
    after each layer. What would not fit into the budget is read again each time it is asked for.
    """

    def __init__(self, base: Weights, *, budget: int = BUDGET) -> None:
        self._base = base
        self._budget = budget
        self._held: dict[str, _HeldMatrix] = {}
        self._bytes = 0

    def __contains__(self, name: str) -> bool:
        return name in self._base

    def names(self) -> list[str]:
        """Give the names of all tensors."""
        return self._base.names()

    def shape(self, name: str) -> tuple[int, ...]:
        """Give its NumPy shape."""
        return self._base.shape(name)

    def type(self, name: str) -> str:
        """Give the type that its numbers come from."""
        return self._base.type(name)

    def vector(self, name: str) -> Floats:
        """Give a small tensor whole, flat."""
        return self._base.vector(name)

    def matrix(self, name: str) -> Matrix:
        """Give a tensor by its rows; kept from now on, if there is room."""
        held = self._held.get(name)
        if held is not None:
            return held
        matrix = self._base.matrix(name)
        nbytes = 4 * matrix.shape[0] * matrix.shape[1]
        if self._bytes + nbytes > self._budget:
            return matrix
        self._bytes += nbytes
        self._held[name] = held = _HeldMatrix(matrix)
        return held

    @property
    def nbytes(self) -> int:
        """Bytes that are kept now."""
        return self._bytes

    def release(self) -> None:
        """Forget all that is kept: call it when every pass is through a layer."""
        self._held = {}
        self._bytes = 0


class _HeldMatrix:
    """Rows are read when they are first asked for; those of an expert never chosen never are."""

    def __init__(self, base: Matrix) -> None:
        self.name, self.shape = base.name, base.shape
        self._base = base
        self._array = np.empty(base.shape, np.float32)
        self._there = np.zeros(base.shape[0], bool)
        self._lock = threading.Lock()

    def rows(self, start: int, stop: int) -> Floats:
        if not self._there[start:stop].all():
            weights = self._base.rows(start, stop)
            with self._lock:  # another thread may have a part of them in use: it stays the same
                missing = np.flatnonzero(~self._there[start:stop])
                self._array[start + missing] = weights[missing]
                self._there[start:stop] = True
        view = self._array[start:stop]
        view.flags.writeable = False
        return view
