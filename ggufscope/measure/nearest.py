"""The rows of the embedding table that point most like a given one: neighbours, analogies.

The measure is the cosine of the angle between two rows, 1 for the same direction. The table is read
a tile at a time, from whatever type it is stored in, and no more than a few tiles are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ggufscope.arrays import Doubles
from ggufscope.errors import BadUsage, NotInModel
from ggufscope.forward.weights import Matrix, Weights, tile_rows
from ggufscope.model.tokenizer.words import Term
from ggufscope.pool import in_parallel, one_pass

TABLE: Final = "token_embd.weight"
_NOTHING: Final = 1e-9
"""The length of a sum of words of length 1 that is zero but for rounding."""
_TOGETHER: Final = 16
"""Tiles between two reports of how far it is."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A row of the table."""

    id: int
    cosine: float
    asked: bool
    """Whether it belongs to a word that was asked for."""


def nearest(
    weights: Weights,
    terms: Sequence[Term],
    most: int,
    progress: Callable[[int, int], object] = lambda *_: None,
) -> list[Neighbour]:
    """Return the ``most`` rows nearest to a sum of words, and those of the words themselves.

    Of a word of several tokens the mean of their rows is taken. Words are brought to length 1
    before they are added up, so that none outweighs the others. Sorted, the nearest first; of rows
    equally near the first comes first, and rows of zeros, which point nowhere, are left out.
    Raises ``BadUsage`` for a sum that is zero, ``NotInModel`` for a token that the table has no row
    for, ``NonFiniteWeight``.
    """
    matrix = weights.matrix(TABLE)
    target, asked = _target(matrix, terms), {id_ for term in terms for id_ in term.ids}
    rows, step = matrix.shape[0], tile_rows(matrix.shape[1])
    starts = range(0, rows, step)
    found: list[tuple[float, int]] = []

    def best_of(start: int) -> list[tuple[float, int]]:
        cosines = _cosines(matrix.rows(start, min(start + step, rows)), target)
        order = np.argsort(-cosines, kind="stable")[: most + len(asked)]
        own = [id_ - start for id_ in asked if start <= id_ < start + len(cosines)]
        return [
            (-float(cosines[n]), start + int(n))
            for n in {*order.tolist(), *own}
            if np.isfinite(cosines[n])
        ]

    with one_pass():
        for first in range(0, len(starts), _TOGETHER):
            for part in in_parallel(best_of, starts[first : first + _TOGETHER]):
                found += part
            progress(min(first + _TOGETHER, len(starts)), len(starts))
    ordered = [Neighbour(id_, -cosine, id_ in asked) for cosine, id_ in sorted(found)]
    others = {each.id for each in [each for each in ordered if not each.asked][:most]}
    return [each for each in ordered if each.asked or each.id in others]


def _target(matrix: Matrix, terms: Sequence[Term]) -> Doubles:
    """Return the sum of the words (E,), each of length 1."""
    total = np.zeros(matrix.shape[1])
    for term in terms:
        for id_ in term.ids:
            if id_ >= matrix.shape[0]:
                raise NotInModel(
                    f"token {id_} of {term.word!r} has no row in '{TABLE}' of {matrix.shape[0]}",
                    hint="the vocabulary is longer than the table: see `ggufscope check`",
                )
        rows = np.concatenate([matrix.rows(id_, id_ + 1) for id_ in term.ids])
        word = rows.mean(axis=0, dtype=np.float64)
        length = float(np.sqrt(word @ word))
        total += term.sign * (word / length if length else word)
    if np.sqrt(total @ total) < _NOTHING:
        alone = len(terms) == 1
        what = f"the row of {terms[0].word!r} is zero" if alone else "the sum of the words is zero"
        raise BadUsage(
            f"{what}: it points nowhere, and nothing is near it",
            hint="ask for another word" if alone else "leave out what cancels out",
        )
    return total


def _cosines(rows: np.ndarray[tuple[int, ...], np.dtype[np.float32]], target: Doubles) -> Doubles:
    """Rows (n, E), target (E,) -> (n,); NaN where either is of zeros."""
    wide = rows.astype(np.float64)
    with np.errstate(all="ignore"):
        lengths = np.sqrt(np.square(wide).sum(axis=1)) * np.sqrt(target @ target)
        found: Doubles = (wide @ target) / lengths
    return found
