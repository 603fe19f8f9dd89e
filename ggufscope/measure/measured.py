"""A view of a candidate's weights that measures, against the reference, what it hands out."""

from __future__ import annotations

from ggufscope.arrays import Blocks, Floats
from ggufscope.blocks.codec import dequantize
from ggufscope.blocks.error import NO_ERROR, WeightError
from ggufscope.blocks.layouts import Layout
from ggufscope.forward.weights import Matrix, View, Weights
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
        return matrix if matrix is reference else _MeasuredMatrix(matrix, reference, self._errors)

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
    def __init__(
        self, base: Matrix, reference: Matrix, errors: dict[tuple[str, int], WeightError]
    ) -> None:
        self.name, self.shape = base.name, base.shape
        self._base, self._reference, self._errors = base, reference, errors

    def rows(self, start: int, stop: int) -> Floats:
        return dequantize(*self.blocks(start, stop), threads=1)

    def blocks(self, start: int, stop: int) -> tuple[Blocks, Layout]:
        blocks, layout = self._base.blocks(start, stop)
        # Several threads take different tiles; one tile twice gives the same numbers twice.
        if (self.name, start) not in self._errors:
            reference = self._reference.rows(start, stop)
            self._errors[self.name, start] = stored_error(reference, blocks, layout)
        return blocks, layout
