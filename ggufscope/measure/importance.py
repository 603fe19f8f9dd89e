"""What an importance matrix says: of each matrix, each layer and single columns.

The statistics are those of ``llama-imatrix --show-statistics`` (``compute_statistics`` and
``compute_cossim`` in llama.cpp's ``tools/imatrix/imatrix.cpp``), summed in float64.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ggufscope.arrays import Doubles, Integers
from ggufscope.recipes.importance import Entry, ImportanceMatrix

_IDLE: Final = 1e-5
"""A mean square up to which a column counts as not active."""
_LAYER: Final = re.compile(r"blk\.(\d+)\.")
BINS: Final = 9
"""Of the histogram: factors of 4 around the mean, the first and the last without an end."""
MOST_UNEVEN: Final = 10


@dataclass(frozen=True, slots=True)
class Statistics:
    """What is known of one matrix. A column's number is the mean square of what entered it."""

    name: str
    layer: int | None
    total: float
    """Of all columns: Σ(Act²) of llama-imatrix."""
    per_column: float
    largest: float
    smallest: float
    deviation: float
    """σ."""
    columns: int
    """Of all experts that were reached: N."""
    active: float
    """The share of columns above 1e-5."""
    entropy: float
    """Of the columns' shares, in bits."""
    z_density: float
    """The share of columns more than one σ above the mean: ZD."""
    cosine: float | None
    """With the same matrix one layer below: CosSim; None where there is none."""

    @property
    def evenness(self) -> float:
        """The entropy over that of equal columns: 1 where all count the same."""
        return self.entropy / math.log2(self.columns) if self.columns > 1 else 0.0


@dataclass(frozen=True, slots=True)
class LayerStatistics:
    """Means over the matrices of a layer, weighted by their columns."""

    layer: int
    total: float
    z_density: float
    cosine: float
    """Of a matrix without one below it counts as 0, as llama-imatrix has it."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many vectors reached a matrix, or each expert of a stack."""

    name: str
    counts: Integers
    unreached: tuple[int, ...]
    """Experts without any."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column that counts far more than the others of its matrix."""

    name: str
    expert: int | None
    """None where the matrix is no stack."""
    column: int
    mean_square: float
    times: float
    """Over the mean of the matrix."""


@dataclass(frozen=True, slots=True)
class Findings:
    """All of it."""

    tensors: tuple[Statistics, ...]
    layers: tuple[LayerStatistics, ...]
    coverage: tuple[Coverage, ...]
    uneven: tuple[Column, ...]
    histogram: tuple[int, ...]
    """Columns by their number over the mean of their matrix: the first bin is below 4**-3.5, each
    is four times the one before, the last from 4**3.5 on."""


def findings_of(matrix: ImportanceMatrix) -> Findings:
    """Work out the statistics of an importance matrix; entries without any data have none."""
    tensors, uneven = [], list[Column]()
    bins = np.zeros(BINS, np.int64)
    for name, entry in matrix.entries.items():
        columns = entry.means().astype(np.float64)
        if not columns.size:
            continue
        tensors.append(_statistics(name, columns, _cosine(matrix.entries, name)))
        with np.errstate(all="ignore"):
            times = columns / columns.mean()
            places = np.floor(np.log2(times) / 2 + BINS / 2)
        bins += np.bincount(
            np.clip(np.nan_to_num(places, nan=0.0), 0, BINS - 1).astype(np.int64).reshape(-1),
            minlength=BINS,
        )
        uneven += _uneven(name, entry, columns, times)
    uneven.sort(key=lambda column: -column.times)
    return Findings(
        tuple(tensors),
        _layers(tensors),
        coverage_of(matrix),
        tuple(uneven[:MOST_UNEVEN]),
        tuple(bins.tolist()),
    )


def coverage_of(matrix: ImportanceMatrix) -> tuple[Coverage, ...]:
    """Return how many vectors reached each matrix."""
    return tuple(
        Coverage(name, entry.counts, tuple(map(int, np.flatnonzero(entry.counts <= 0))))
        for name, entry in matrix.entries.items()
    )


def _statistics(name: str, columns: Doubles, cosine: float | None) -> Statistics:
    """columns (experts, columns) -> their statistics."""
    flat = columns.reshape(-1)
    total, mean, deviation = float(flat.sum()), float(flat.mean()), float(flat.std())
    entropy = 0.0
    if total > 0:
        shares = flat[flat > 0] / total
        entropy = -float((shares * np.log2(shares)).sum())
    found = _LAYER.search(name)
    return Statistics(
        name,
        int(found[1]) if found else None,
        total,
        mean,
        float(flat.max()),
        float(flat.min()),
        deviation,
        flat.size,
        float((np.abs(flat) > _IDLE).mean()),
        entropy,
        float((flat - mean > deviation).mean()) if deviation > 0 else 0.0,
        cosine,
    )


def _cosine(entries: Mapping[str, Entry], name: str) -> float | None:
    """Return how alike the sums of a matrix are to those of the layer below."""
    found = _LAYER.search(name)
    if not found:
        return None
    below = entries.get(f"{name[: found.start(1)]}{int(found[1]) - 1}{name[found.end(1) :]}")
    if below is None or below.sums.size != entries[name].sums.size:
        return None
    one, other = (each.sums.reshape(-1).astype(np.float64) for each in (entries[name], below))
    sizes = math.sqrt(float(one @ one)) * math.sqrt(float(other @ other))
    return float(one @ other) / sizes if sizes else None


def _layers(tensors: Sequence[Statistics]) -> tuple[LayerStatistics, ...]:
    found = []
    for layer in sorted({each.layer for each in tensors if each.layer is not None}):
        mine = [each for each in tensors if each.layer == layer]
        weights = np.array([each.columns for each in mine], np.float64)
        weights /= weights.sum()
        rows = np.array([(each.total, each.z_density, each.cosine or 0.0) for each in mine])
        found.append(LayerStatistics(layer, *map(float, weights @ rows)))
    return tuple(found)


def _uneven(name: str, entry: Entry, columns: Doubles, times: Doubles) -> list[Column]:
    """Return the columns of a matrix that are furthest above its mean."""
    flat = np.nan_to_num(times, nan=0.0).reshape(-1)
    most = np.argsort(-flat, kind="stable")[:MOST_UNEVEN]
    stacked, width = len(entry.counts) > 1, columns.shape[1]
    return [
        Column(
            name,
            int(entry.reached[place // width]) if stacked else None,
            int(place % width),
            float(columns.reshape(-1)[place]),
            float(flat[place]),
        )
        for place in most
    ]
