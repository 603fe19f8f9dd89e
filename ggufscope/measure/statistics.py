"""The weights of one tensor in numbers: range, spread, histogram, norms of rows and columns.

They are read twice, a tile at a time, in threads. Sums are in float64; those of tiles are joined as
in Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
variances", 1979. What is no finite number is counted, and left out of all else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import inf, prod, sqrt
from typing import Final

import numpy as np

from ggufscope.arrays import Doubles, Floats, Places
from ggufscope.container.file import Tensor
from ggufscope.errors import BadUsage
from ggufscope.machine import processors
from ggufscope.measure import reading
from ggufscope.threads import side_by_side

FAR: Final = 6.0
"""Deviations from the mean from which on a weight is an outlier (as in LLM.int8, 2022)."""
BINS: Final = 40
_REACH: Final = 4.0
"""Deviations on either side of the mean that the histogram covers."""
_MOST_NORMS: Final = 1 << 22
"""Rows or columns beyond which no norms are kept: no matrix has as many."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Part:
    """Whole rows of a tensor."""

    tensor: Tensor
    start: int
    """The first row, counted over all axes but the last."""
    stop: int

    @property
    def row(self) -> int:
        """Weights of a row; all of a vector is one row."""
        return self.tensor.shape[-1] if self.tensor.shape else 1

    @property
    def rows(self) -> int:
        """How many rows."""
        return self.stop - self.start

    @property
    def n(self) -> int:
        """How many weights."""
        return self.rows * self.row

    @property
    def first(self) -> int:
        """The index of the first weight in the flat tensor."""
        return self.start * self.row

    def index(self, place: int) -> tuple[int, ...]:
        """Return where weight ``place`` of this part is in the tensor: ``[row, column]``."""
        found = np.unravel_index(self.first + place, self.tensor.shape)
        return tuple(int(number) for number in found)


def part_of(tensor: Tensor, rows: tuple[int | None, int | None] = (None, None)) -> Part:
    """Return rows [start, stop) of a tensor; all by default. Raises ``BadUsage``."""
    count = prod(tensor.shape[:-1])
    start, stop = (0 if rows[0] is None else rows[0]), (count if rows[1] is None else rows[1])
    name = tensor.shard.source.name
    if not tensor.info.n_elements:
        raise BadUsage(
            f"tensor {tensor.name!r} of {name} has no weights: its shape is {tensor.shape}",
            hint="there is nothing to look at; `ggufscope list` shows its shape",
        )
    if not 0 <= start < stop <= count:
        raise BadUsage(
            f"tensor {tensor.name!r} of {name} has no rows {start}:{stop}",
            hint=f"they are counted from 0, and it has {count}; the last one named is left out",
        )
    return Part(tensor, start, stop)


@dataclass(frozen=True, slots=True)
class Norms:
    """The lengths of rows, or of columns."""

    values: Doubles
    """(k,)."""

    @property
    def largest(self) -> list[tuple[int, float]]:
        """The five longest: which, and how long."""
        order = np.argsort(-self.values, kind="stable")[:5]
        return [(int(at), float(self.values[at])) for at in order]


@dataclass(frozen=True, slots=True)
class Statistics:
    """What is said of some weights; numbers are over those that are finite."""

    n: int
    finite: int
    zeros: int
    smallest: float
    smallest_at: int
    """Its place among these weights, flat."""
    largest: float
    largest_at: int
    mean_weight: float
    deviation: float
    """The root of the mean square of the distance from the mean."""
    root_mean_square: float
    kurtosis: float
    """The fourth moment over the squared second: 3 of a normal distribution, more with outliers."""
    outliers: int
    """Weights further than ``FAR`` deviations from the mean."""
    edges: tuple[float, float]
    """Where the histogram begins and ends."""
    counts: tuple[int, ...]
    """Weights in each of its bins, which are of one width."""
    below: int
    above: int
    """Weights beyond the edges."""
    row_norms: Norms | None
    column_norms: Norms | None


@dataclass(frozen=True, slots=True)
class _Sums:
    finite: int = 0
    zeros: int = 0
    smallest: float = inf
    smallest_at: int = 0
    largest: float = -inf
    largest_at: int = 0
    mean: float = 0.0
    squared: float = 0.0
    """``sum (x - mean)^2``."""

    def joined(self, other: _Sums) -> _Sums:
        n = self.finite + other.finite
        if not other.finite:
            return self
        gap = other.mean - self.mean
        low = other if other.smallest < self.smallest else self
        high = other if other.largest > self.largest else self
        return _Sums(
            n,
            self.zeros + other.zeros,
            *(low.smallest, low.smallest_at, high.largest, high.largest_at),
            self.mean + gap * other.finite / n,
            self.squared + other.squared + gap * gap * self.finite * other.finite / n,
        )


def statistics(
    part: Part, *, threads: int | None = None, progress: Progress = lambda *_: None
) -> Statistics:
    """Return what there is to say of the weights of a part.

    Raises ``NotConvertible`` for a type that is not decoded, ``SourceChanged``.
    """
    whole_rows = part.row <= reading.TILE and part.rows <= _MOST_NORMS
    norms = whole_rows and part.rows > 1 and part.row > 1
    step = max(1, reading.TILE // max(1, part.row)) * part.row if whole_rows else reading.TILE
    starts = range(0, part.n, max(1, step))
    many, sums = threads or processors(), _Sums()
    rows = np.zeros(part.rows) if norms else None
    columns = np.zeros(part.row) if norms else None
    look = partial(_look, part, step, norms=norms)
    for start, found, row_squares, column_squares in side_by_side(look, starts, many):
        sums = sums.joined(found)
        if rows is not None and columns is not None:
            first = start // part.row
            rows[first : first + row_squares.size] = row_squares
            columns += column_squares
        progress(start, 2 * part.n)
    deviation = sqrt(sums.squared / sums.finite) if sums.finite else 0.0
    edges = _edges(sums, deviation)
    counts, fourth, outliers = np.zeros(BINS + 2, np.intp), 0.0, 0
    count = partial(_count, part, step, sums.mean, deviation, edges)
    for start, bins, power, far in side_by_side(count, starts if sums.finite else (), many):
        counts += bins
        fourth, outliers = fourth + power, outliers + far
        progress(part.n + start, 2 * part.n)
    return Statistics(
        n=part.n,
        finite=sums.finite,
        zeros=sums.zeros,
        smallest=sums.smallest if sums.finite else 0.0,
        smallest_at=sums.smallest_at,
        largest=sums.largest if sums.finite else 0.0,
        largest_at=sums.largest_at,
        mean_weight=sums.mean,
        deviation=deviation,
        root_mean_square=sqrt(sums.mean**2 + deviation**2),
        # In units of the deviation, so that no fourth power over- or underflows.
        kurtosis=fourth / sums.finite if sums.finite and deviation else 0.0,
        outliers=outliers,
        edges=edges,
        counts=tuple(counts[1:-1].tolist()),
        below=int(counts[0]),
        above=int(counts[-1]),
        row_norms=None if rows is None else Norms(np.sqrt(rows)),
        column_norms=None if columns is None else Norms(np.sqrt(columns)),
    )


def weights_of(part: Part, start: int, stop: int) -> Floats:
    """Return weights [start, stop) of a part, flat."""
    return reading.read_weights(part.tensor, part.first + start, part.first + stop)


def _doubles(part: Part, start: int, stop: int) -> Doubles:
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
        return weights_of(part, start, stop).astype(np.float64)


def _look(part: Part, step: int, start: int, *, norms: bool) -> tuple[int, _Sums, Doubles, Doubles]:
    stop = min(start + step, part.n)
    x = _doubles(part, start, stop)
    finite = np.isfinite(x)
    if all_finite := bool(finite.all()):
        found = _sums(x)
    else:
        kept = np.flatnonzero(finite)
        found = _sums(x[kept])
        if kept.size:
            low, high = int(kept[found.smallest_at]), int(kept[found.largest_at])
            found = replace(found, smallest_at=low, largest_at=high)
    found = replace(
        found, smallest_at=start + found.smallest_at, largest_at=start + found.largest_at
    )
    if not norms:
        return start, found, x[:0], x[:0]
    if not all_finite:
        x[~finite] = 0.0
    table = np.square(x, out=x).reshape(-1, part.row)
    return start, found, table.sum(axis=1), table.sum(axis=0)


def _sums(x: Doubles) -> _Sums:
    if not x.size:
        return _Sums()
    mean = float(x.mean())
    low, high = int(x.argmin()), int(x.argmax())
    gap = x - mean
    zeros = x.size - int(np.count_nonzero(x))
    squared = float(np.einsum("i,i->", gap, gap))
    return _Sums(x.size, zeros, float(x[low]), low, float(x[high]), high, mean, squared)


def _edges(sums: _Sums, deviation: float) -> tuple[float, float]:
    """Return where the histogram begins and ends: no wider than the weights, nor than 4 sigma."""
    if not sums.finite:
        return 0.0, 0.0
    reach = _REACH * deviation
    return max(sums.smallest, sums.mean - reach), min(sums.largest, sums.mean + reach)


def _count(
    part: Part, step: int, mean: float, deviation: float, edges: tuple[float, float], start: int
) -> tuple[int, Places, float, int]:
    x = _doubles(part, start, min(start + step, part.n))
    finite = np.isfinite(x)
    x = x if finite.all() else x[finite]
    low, high = edges
    scale = BINS / (high - low) if high > low else 0.0
    # The last bin holds its upper edge, as numpy.histogram has it.
    places = np.floor((x - low) * scale)
    np.clip(places, 0, BINS - 1, out=places)
    places[x < low], places[x > high] = -1, BINS
    counts = np.bincount(places.astype(np.intp) + 1, minlength=BINS + 2)
    x -= mean
    if deviation:
        x /= deviation
    np.square(x, out=x)
    far = int(np.count_nonzero(x > FAR * FAR)) if deviation else 0
    return start, counts, float(np.einsum("i,i->", x, x)), far
