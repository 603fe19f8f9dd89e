"""Weights that are arrays already: a view that needs no file."""

from __future__ import annotations

from math import prod

import numpy as np
import numpy.typing as npt

from ggufscope.blocks.layouts import LAYOUTS, Layout

Floats = npt.NDArray[np.float32]


class ArrayMatrix:
    """Rows of an array, of its leading axes taken together."""

    def __init__(self, name: str, array: Floats) -> None:
        self.name = name
        self.shape = (prod(array.shape[:-1]), array.shape[-1])
        self._rows = array.reshape(self.shape)

    def rows(self, start: int, stop: int) -> Floats:
        return self._rows[start:stop]

    def blocks(self, start: int, stop: int) -> tuple[Floats, Layout]:
        return np.ascontiguousarray(self.rows(start, stop)), LAYOUTS["F32"]


class Arrays:
    """`forward.weights.Weights` over arrays by name."""

    def __init__(self, arrays: dict[str, Floats]) -> None:
        self.arrays = arrays

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def names(self) -> list[str]:
        return list(self.arrays)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.arrays[name].shape

    def type(self, name: str) -> str:
        assert name in self.arrays
        return "F32"

    def vector(self, name: str) -> Floats:
        return self.arrays[name].reshape(-1)

    def matrix(self, name: str) -> ArrayMatrix:
        return ArrayMatrix(name, self.arrays[name])
