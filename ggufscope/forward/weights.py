"""The weights of a model as float32, a tile of rows at a time: as stored, or as a plan leaves them.

A pass asks for ``matrix(name).blocks(start, stop)`` and multiplies what it gets; ``rows`` are the
same as float32. Where the numbers come from is this file's business: ``StoredWeights`` reads them,
``PlannedWeights`` quantizes another view's, ``LayerWeights`` (in ``held.py``) keeps those of one
layer for several passes that go side by side. No view holds a whole model.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from ggufscope.arrays import Blocks, Floats
from ggufscope.blocks.codec import dequantize, quantize, require_makeable
from ggufscope.blocks.floats import require_finite
from ggufscope.blocks.layouts import LAYOUTS, ForeignType, Layout, layout_named
from ggufscope.container.file import GGUFFile, Tensor
from ggufscope.container.source import KeptOpen
from ggufscope.container.unfinished import require_finished
from ggufscope.errors import NotConvertible, NotInModel, TypeDoesNotFit

if TYPE_CHECKING:
    from ggufscope.recipes.plan import Plan

TILE: Final = 1 << 18
"""Weights in a tile: 1 MiB as float32, which stays in a core's cache until it is multiplied."""
F32: Final = LAYOUTS["F32"]


def tile_rows(row_length: int, tile: int = TILE) -> int:
    """Return the rows of a tile. It depends on nothing else, so that sums have the same order."""
    return max(1, tile // max(1, row_length))


class Matrix(Protocol):
    """A stored matrix ``[out, in]``; of a stack ``[n, out, in]`` the rows of all, one by one."""

    @property
    def name(self) -> str:
        """GGUF name."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, row length)."""

    def rows(self, start: int, stop: int) -> Floats:
        """Return rows ``[start, stop)`` as float32 (stop - start, in); not to be written to.

        Raises ``NonFiniteWeight`` for a number in a file that is none.
        """

    def blocks(self, start: int, stop: int) -> tuple[Blocks, Layout]:
        """Return rows ``[start, stop)`` as blocks (stop - start, n), and the type of these.

        They stand for what ``rows`` returns; whether it is all numbers is not looked at.
        """


class Weights(Protocol):
    """A view of all the weights of a model."""

    def __contains__(self, name: str) -> bool:
        """Whether there is a tensor of this name."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Return its NumPy shape."""

    def type(self, name: str) -> str:
        """Return the ggml type that its numbers come from; its blocks are of it."""

    def vector(self, name: str) -> Floats:
        """Return a small tensor whole, flat; not to be written to."""

    def matrix(self, name: str) -> Matrix:
        """Return a tensor by its rows."""

    def names(self) -> list[str]:
        """Return the names of all tensors."""


class View:
    """A view of another view's weights: all that a subclass does not change is as it is there."""

    def __init__(self, base: Weights) -> None:
        self._base = base

    def __contains__(self, name: str) -> bool:
        return name in self._base

    def names(self) -> list[str]:
        """Return the names of all tensors."""
        return self._base.names()

    def shape(self, name: str) -> tuple[int, ...]:
        """Return its NumPy shape."""
        return self._base.shape(name)

    def type(self, name: str) -> str:
        """Return the type that its numbers come from."""
        return self._base.type(name)

    def vector(self, name: str) -> Floats:
        """Return a small tensor whole, flat."""
        return whole(self.matrix(name))

    def matrix(self, name: str) -> Matrix:
        """Return a tensor by its rows."""
        return self._base.matrix(name)


def decoded(blocks: Blocks, layout: Layout) -> Floats:
    """blocks (rows, n) -> weights (rows, row), in this thread; those of F32 are not copied."""
    return blocks if layout is F32 else dequantize(blocks, layout, threads=1)


def whole(matrix: Matrix) -> Floats:
    """Return all rows of a matrix, flat."""
    return matrix.rows(0, matrix.shape[0]).reshape(-1)


class StoredWeights:
    """The weights of a file as they are.

    Its bytes are read, not mapped, so a pass does not fill the memory with the file.
    """

    def __init__(self, file: GGUFFile) -> None:
        """Take an open file; raises ``UnfinishedFile`` where its end is zeros."""
        require_finished(file)
        self._tensors = dict(file.tensors)
        self._path = file.path
        self._open: dict[Path, KeptOpen] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def names(self) -> list[str]:
        """Return the names of all tensors, in file order."""
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return its NumPy shape."""
        return self._tensor(name).shape

    def type(self, name: str) -> str:
        """Return the ggml type it is stored in."""
        return self._tensor(name).type.name

    def vector(self, name: str) -> Floats:
        """Return a small tensor whole, flat."""
        return whole(self.matrix(name))

    def matrix(self, name: str) -> Matrix:
        """Return a tensor by its rows.

        Raises ``NotInModel``, and ``NotConvertible`` for a type that is not decoded.
        """
        tensor = self._tensor(name)
        source = tensor.shard.source
        if source.path not in self._open:  # two threads may both open it: the first one's is closed
            self._open[source.path] = KeptOpen(source.path, source.identity)
        return _StoredMatrix(tensor, self._open[source.path])

    def _tensor(self, name: str) -> Tensor:
        try:
            return self._tensors[name]
        except KeyError:
            raise NotInModel(
                f"{self._path} has no tensor {name!r}", hint="`ggufscope list` shows their names"
            ) from None


class _StoredMatrix:
    def __init__(self, tensor: Tensor, file: KeptOpen) -> None:
        if isinstance(tensor.type, ForeignType):
            raise NotConvertible(
                f"tensor {tensor.name!r} is of {tensor.type.name}, which ggml does not define",
                hint="only weights in ggml's own types can be run",
            )
        self.name = tensor.name
        self.shape = _flat(tensor.shape)
        self._layout: Layout = tensor.type
        self._tensor = tensor
        self._file = file
        self._ahead = len(tensor.shape) < 3  # of experts, others may be wanted than the next ones

    def rows(self, start: int, stop: int) -> Floats:
        weights = dequantize(*self.blocks(start, stop), threads=1)
        require_finite(weights, self.name, start)
        return weights

    def blocks(self, start: int, stop: int) -> tuple[Blocks, Layout]:
        tensor, layout = self._tensor, self._layout
        row_bytes = layout.row_bytes(self.shape[1])
        raw = np.empty((stop - start) * row_bytes, np.uint8)
        offset = tensor.offset + start * row_bytes
        self._file.read_into(offset, raw.data, f"tensor {self.name!r}", ahead=self._ahead)
        stored = raw.view(layout.dtype.newbyteorder(tensor.shard.header.order))
        return stored.astype(layout.dtype, copy=False).reshape(stop - start, -1), layout


class PlannedWeights(View):
    """The weights of another view as a file would have them once they are quantized.

    ``types``: tensor name -> the type it becomes; those not named stay as they are. ``importance``:
    tensor name -> how much an error in each column counts, (slices, row), a row for each matrix of
    a stack. Blocks lie within rows, so quantizing a tile gives the bits that quantizing the whole
    tensor gives.
    """

    def __init__(
        self,
        base: Weights,
        types: Mapping[str, str],
        importance: Mapping[str, Floats] | None = None,
    ) -> None:
        """Take the types, and ``importance``: tensor name -> (slices, row), to weigh errors by.

        Raises ``NotInModel``, ``UnknownType``, ``NotConvertible`` or ``TypeDoesNotFit``.
        """
        super().__init__(base)
        self._importance = importance or {}
        # A tensor that has the type already is copied by a quantizer, not made again.
        self._types = {
            name: layout_named(type_).name
            for name, type_ in types.items()
            if base.type(name) != layout_named(type_).name
        }
        for name, type_ in self._types.items():
            _check_makeable(name, base.shape(name), type_, weighed=name in self._importance)

    @classmethod
    def of(
        cls, base: Weights, plan: Plan, importance: Mapping[str, Floats] | None = None
    ) -> PlannedWeights:
        """Return the weights as a plan leaves them; a plan that prunes layers has no such view."""
        types = {t.source_name: t.target.name for t in plan.tensors if t.converted}
        return cls(base, types, importance)

    def type(self, name: str) -> str:
        """Return the type it is left in."""
        return self._types.get(name) or self._base.type(name)

    def matrix(self, name: str) -> Matrix:
        """Return a tensor by its rows."""
        matrix = self._base.matrix(name)
        type_ = self._types.get(name)
        return _PlannedMatrix(matrix, type_, self._importance.get(name)) if type_ else matrix

    def made(self, name: str, start: int, weights: Floats) -> tuple[Blocks, Layout] | None:
        """Rows of a matrix from ``start`` on -> what they become; None where they stay."""
        matrix = self.matrix(name)
        return matrix.made(weights, start) if isinstance(matrix, _PlannedMatrix) else None


class _PlannedMatrix:
    def __init__(self, base: Matrix, type_: str, importance: Floats | None) -> None:
        self.name = base.name
        self.shape = base.shape
        self._base, self._layout, self._importance = base, LAYOUTS[type_], importance

    def rows(self, start: int, stop: int) -> Floats:
        return decoded(*self.made(self._base.rows(start, stop), start))

    def blocks(self, start: int, stop: int) -> tuple[Blocks, Layout]:
        return self.made(self._base.rows(start, stop), start)  # quantized, a NaN may not show

    def made(self, weights: Floats, start: int) -> tuple[Blocks, Layout]:
        """Rows from ``start`` on -> what they become."""
        layout, stop = self._layout, start + len(weights)
        if self._importance is None:
            return quantize(weights, layout, threads=1, check_finite=False), layout
        in_slice = self.shape[0] // len(self._importance)
        parts = []
        for at in range(start // in_slice, -(-stop // in_slice)):
            first, last = max(start, at * in_slice), min(stop, (at + 1) * in_slice)
            x, importance = weights[first - start : last - start], self._importance[at]
            parts.append(quantize(x, layout, importance=importance, threads=1, check_finite=False))
        return parts[0] if len(parts) == 1 else np.concatenate(parts), layout


def _check_makeable(name: str, shape: tuple[int, ...], type_: str, *, weighed: bool) -> None:
    require_makeable(type_, f"tensor {name!r}", importance=weighed)
    if _flat(shape)[1] % LAYOUTS[type_].block_length:
        raise TypeDoesNotFit(
            f"tensor {name!r} has rows of {_flat(shape)[1]} weights, which do not divide into "
            f"{type_} blocks of {LAYOUTS[type_].block_length}",
            hint="a plan falls back to a type with smaller blocks: see `ggufscope quantize`",
        )


def _flat(shape: tuple[int, ...]) -> tuple[int, int]:
    """(..., row) -> (rows, row): a vector is one row."""
    return (prod(shape[:-1]), shape[-1]) if shape else (1, 1)
