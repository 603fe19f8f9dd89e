"""Holds a file to its reference: the reference, quantized to the file's own types, here and now.

Tensor by tensor the error of the file's weights is held to that of plain quantization.
``making.py`` says what is wrong with them.

What was quantized twice with little extra loss (F16 -> Q8_0 -> Q4_K: 0.3%) is within any factor.
There the hypothesis is tested: if the reference taken through another type first gives the very
weights of the file, that is how it was made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt

from ggufscope.arrays import Doubles, Floats, Mask
from ggufscope.blocks.codec import CODECS, through
from ggufscope.blocks.layouts import LAYOUTS
from ggufscope.container.file import GGUFFile
from ggufscope.forward.block import Heads
from ggufscope.forward.transformer import Transformer
from ggufscope.forward.weights import Matrix, StoredWeights, Weights, tile_rows
from ggufscope.measure.making import ROUNDING, Checked, Making, faults_of
from ggufscope.measure.parts import Part, parts_of
from ggufscope.model.roles import role_of
from ggufscope.pool import in_parallel

_MIDDLES: Final = (
    *("Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K"),
    *("Q5_1", "Q5_0", "Q4_1", "Q4_0", "IQ4_NL", "IQ4_XS", "MXFP4"),
)
"""What a file may have been before, the likeliest first."""


@dataclass(slots=True)
class Inspection:
    """Holds a file to its reference, a layer at a time."""

    reference: Weights
    candidate: Weights
    heads: Sequence[Heads]
    """Of each layer."""
    _checked: list[Checked] = field(default_factory=list)
    _unknown: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, reference: GGUFFile, candidate: GGUFFile) -> Inspection:
        """Return one of two files of the same model."""
        model = Transformer.of(reference)
        heads = [model.block(layer).heads for layer in range(model.n_layers)]
        return cls(StoredWeights(reference), StoredWeights(candidate), heads)

    def look_at(self, layer: int | None, held: Weights | None = None) -> None:
        """Compare a layer's tensors with what ``held`` has of it; None for those of no layer."""
        for name in self.candidate.names():
            if role_of(name).layer == layer and name in self.reference:
                self._look_at(name, layer, (held or self.reference).matrix(name))

    def _look_at(self, name: str, layer: int | None, reference: Matrix) -> None:
        type_, reference_type = self.candidate.type(name), self.reference.type(name)
        if type_ != reference_type and not CODECS[type_].makes_alone:
            self._unknown.add(type_)
            return
        matrix = self.candidate.matrix(name)
        shape = self.candidate.shape(name)
        heads = None if layer is None else self.heads[layer]
        parts = parts_of(role_of(name), shape, heads)
        plain = "" if type_ == reference_type else type_
        rows, columns = matrix.shape[0], [part for part in parts if part.columns]
        step = tile_rows(matrix.shape[1])
        work = partial(_tile, reference, matrix, plain, step, columns)
        tiles = in_parallel(work, range(0, rows, step))
        sums = np.concatenate([tile[0] for tile in tiles])
        same = np.concatenate([tile[1] for tile in tiles])
        by_part = [
            (part, sums[part.start : part.stop].sum(axis=0)) for part in parts if not columns
        ]
        by_part += zip(columns, np.sum([tile[2] for tile in tiles], axis=0), strict=True)
        found = Checked(name, type_, reference_type, rows > 1, sums, same, by_part)
        if not same.all() and reference_type in {"F32", *ROUNDING}:
            found.through = _middle(reference, matrix, type_, np.flatnonzero(~same))
        self._checked.append(found.packed())

    def result(self) -> Making:
        """Return what was found; call it when all layers were looked at."""
        in_layers = [each for each in self._checked if role_of(each.name).layer is not None]
        tensors = Counter(each.type for each in in_layers if each.matrix)
        plain = Counter(each.type for each in in_layers if each.matrix and each.same.all())
        known = {type_ for type_, count in tensors.items() if 2 * plain[type_] >= count}
        ratios = [each.ratio for each in self._checked]
        return Making(
            tensors=len(self._checked),
            identical=sum(bool(each.same.all()) for each in self._checked),
            unknown=tuple(sorted(self._unknown)),
            largest_ratio=max(ratios, default=0.0),
            faults=tuple(
                fault
                for each in self._checked
                if not each.same.all()
                for fault in faults_of(each, each.type in known or not CODECS[each.type].weighs)
            ),
        )


def _tile(
    reference: Matrix, candidate: Matrix, type_: str, step: int, columns: Sequence[Part], start: int
) -> tuple[Doubles, Mask, Doubles]:
    """Rows from ``start`` on -> sums of rows (n, 5), rows that are plain (n,), sums of columns."""
    stop = min(start + step, reference.shape[0])
    r, c = reference.rows(start, stop), candidate.rows(start, stop)
    q = through(r, type_) if type_ else r
    same = (c == q).all(axis=1)
    plain = bool(same.all())  # as nearly all are: what is summed of q is what is summed of c
    x, y, e = (part.astype(np.float64) for part in (r, c, c - r))
    z, p = (y, e) if plain else (part.astype(np.float64) for part in (q, q - r))

    def sums(how: str) -> Doubles:
        found = [np.einsum(how, *pair) for pair in ((x, x), (e, e), (x, y))]
        others = found[1:] if plain else [np.einsum(how, *pair) for pair in ((p, p), (x, z))]
        return np.stack([found[0], found[1], others[0], found[2], others[1]], axis=-1)

    by_column = sums("ij,ij->j") if columns else np.empty((0, 5))
    cut = [by_column[part.start : part.stop].sum(axis=0) for part in columns]
    return sums("ij,ij->i"), same, np.array(cut)


def _middle(
    reference: Matrix, candidate: Matrix, type_: str, other: npt.NDArray[np.intp]
) -> tuple[str, ...]:
    """Return the types that lead from the reference to the very weights; none if none do.

    Of the rows that are not plain the first and the last are tried.
    """
    at = sorted({int(other[0]), int(other[-1])})
    r = np.concatenate([reference.rows(row, row + 1) for row in at])
    c = np.concatenate([candidate.rows(row, row + 1) for row in at])
    return next(ways_between(r, c, type_), ())


def ways_between(r: Floats, c: Floats, type_: str) -> Iterator[tuple[str, ...]]:
    """r, c (n, row) -> each way on which quantizing r to a type gives c: the types in between."""
    for middle in _MIDDLES:
        if r.shape[1] % LAYOUTS[middle].block_length:
            continue
        once = through(r, middle)
        # A file between the two may have been made F16 again.
        for steps, weights in (((), once), (("F16",), through(once, "F16"))):
            if np.array_equal(c, through(weights, type_)):
                yield (middle, *steps)
