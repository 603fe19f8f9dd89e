"""A view of a candidate's weights that measures, against the reference, what it hands out."""

from __future__ import annotations

from ggufscope.arrays import Blocks, Floats
from ggufscope.blocks.error import NO_ERROR, WeightError
from ggufscope.blocks.layouts import Layout
from ggufscope.forward.weights import Matrix, View, Weights, decoded
from ggufscope.measure.differences import TensorDifference
from ggufscope.measure.metrics.tensors import stored_error


class MeasuredWeights(View):
    """A candidate's view of the weights that measures each tile it hands out, once."""

    def __init__(self, weights: Weights, reference: Weights) -> None:
        super().__init__(weights)
        self._reference = reference
        self._errors: dict[tuple[str, int], WeightError] = {}

    def matrix(self, name: str) -> Matrix:
        """Return a tensor by its rows."""
        matrix = self._base.matrix(name)
        reference = self._reference.matrix(name)
        return matrix if matrix is reference else _MeasuredMatrix(matrix, reference, self)

    def measure(self, name: str, start: int, weights: Floats, made: Blocks, layout: Layout) -> None:
        """Take what the reference's rows from ``start`` on became."""
        self._errors[name, start] = stored_error(weights, made, layout)

    def measured(self, name: str, start: int) -> bool:
        """Whether the rows from ``start`` on were measured since ``take_differences``."""
        return (name, start) in self._errors

    def take_differences(self) -> list[TensorDifference]:
        """Return the tensors measured since the last call, of which a weight or the type differs.

        Tensors whose type differs are returned even where no weight does.
        """
        totals: dict[str, WeightError] = {}
        for (name, _), error in sorted(self._errors.items()):
            totals[name] = totals.get(name, NO_ERROR) + error
        self._errors.clear()
        return [
            TensorDifference(name, self._reference.type(name), self.type(name), error)
            for name, error in totals.items()
            if error.squared_error or self._reference.type(name) != self.type(name)
        ]


class _MeasuredMatrix:
    def __init__(self, base: Matrix, reference: Matrix, view: MeasuredWeights) -> None:
        self.name, self.shape = base.name, base.shape
        self._base, self._reference, self._view = base, reference, view

    def rows(self, start: int, stop: int) -> Floats:
        self.blocks(start, stop)  # measures
        return self._base.rows(start, stop)

    def blocks(self, start: int, stop: int) -> tuple[Blocks, Layout]:
        blocks, layout = self._base.blocks(start, stop)
        # Several threads take different tiles; one tile twice gives the same numbers twice.
        if not self._view.measured(self.name, start):
            reference = decoded(*self._reference.blocks(start, stop))
            self._view.measure(self.name, start, reference, blocks, layout)
        return blocks, layout
