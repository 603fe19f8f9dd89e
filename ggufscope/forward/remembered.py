"""A view that makes each tile of a view's weights once, and keeps it as blocks until released."""

from __future__ import annotations

from typing import Final

from ggufscope.arrays import Blocks, Floats
from ggufscope.blocks.codec import dequantize
from ggufscope.blocks.floats import first_not_finite
from ggufscope.blocks.layouts import Layout
from ggufscope.forward.held import HeldMatrix
from ggufscope.forward.weights import Matrix, View, Weights

BUDGET: Final = 1 << 30
"""Bytes of blocks that are kept at most: a layer of a 7B model takes 0.4 GB in F16."""

_Tile = tuple[str, int, int]


class RememberedWeights(View):
    """Another view's weights, kept as blocks: for many texts that go through a layer in turn.

    A pass asks for the same tiles each time, so each is read, or quantized, once. What would not
    fit into the budget is made anew each time. Several threads may ask; two that ask for a tile at
    the same moment make it twice.
    """

    def __init__(self, base: Weights, *, budget: int = BUDGET) -> None:
        super().__init__(base)
        self.budget = budget
        self._tiles: dict[_Tile, tuple[Blocks, Layout]] = {}
        self.nbytes = 0
        """Bytes of blocks that are kept now."""

    def matrix(self, name: str) -> Matrix:
        """Return a tensor by its rows. What another view keeps is not kept again."""
        matrix = self._base.matrix(name)
        return matrix if isinstance(matrix, HeldMatrix) else _RememberedMatrix(matrix, self)

    def release(self) -> None:
        """Forget all that is kept."""
        self._tiles.clear()
        self.nbytes = 0

    def tile(self, matrix: Matrix, start: int, stop: int) -> tuple[Blocks, Layout]:
        """Return rows of a matrix as blocks, made now where they are not kept."""
        key = matrix.name, start, stop
        found = self._tiles.get(key)
        if found is None:
            found = matrix.blocks(start, stop)
            if self.nbytes + found[0].nbytes <= self.budget:
                self.keep(matrix.name, start, found)
        return found

    @property
    def has_room(self) -> bool:
        """Whether a tile more may be kept."""
        return self.nbytes < self.budget

    def keep(self, name: str, start: int, tile: tuple[Blocks, Layout]) -> None:
        """Keep rows of a matrix that were made elsewhere."""
        self._tiles[name, start, start + len(tile[0])] = tile
        self.nbytes += tile[0].nbytes


class _RememberedMatrix:
    def __init__(self, base: Matrix, view: RememberedWeights) -> None:
        self.name, self.shape = base.name, base.shape
        self._base, self._view = base, view

    def rows(self, start: int, stop: int) -> Floats:
        weights = dequantize(*self._view.tile(self._base, start, stop), threads=1)
        if first_not_finite(weights) is not None:
            self._base.rows(start, stop)  # raises where it is the file that has it
        return weights

    def blocks(self, start: int, stop: int) -> tuple[Blocks, Layout]:
        return self._view.tile(self._base, start, stop)
