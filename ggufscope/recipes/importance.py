"""An importance matrix: how strongly each column of each matrix was used on some text.

Of every matrix it has the sum of the squares of what entered each column, and of how many vectors;
of a stack of experts one such row for each expert. A quantizer weighs errors by their mean. Which
tensor gets what follows ``load_imatrix`` and ``prepare_imatrix`` of llama.cpp's
``tools/quantize/quantize.cpp``, merging ``IMatrixCollector::load_imatrix`` of its
``tools/imatrix/imatrix.cpp``. ``imatrix_file.py`` reads and writes the files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from ggufscope.arrays import Floats, Integers
from ggufscope.container.values import Value
from ggufscope.errors import BadImportance, ImportanceMismatch, ImportanceNeeded
from ggufscope.recipes.categories import Category, category_of
from ggufscope.recipes.metadata import importance_keys
from ggufscope.recipes.plan import HOW_TO_GET_ONE, Plan, PlannedTensor

USUAL_CHUNK: Final = 512
"""Tokens of a chunk where nothing else is said."""
_LONGEST_NAMED: Final = 127
"""Bytes of the names of matrix and text that a quantized file keeps."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """What is known of one matrix; n is the number of experts in a stack, else 1."""

    sums: Floats
    """(n, columns): of squares. In a legacy file the mean square times the count, (1, n * columns)
    of a stack."""
    counts: Integers
    """(n,): of the vectors that entered. In a legacy file of the chunks, one for all experts."""

    @property
    def reached(self) -> Integers:
        """The experts that any vector entered, ascending."""
        return np.flatnonzero(self.counts > 0)

    def means(self) -> Floats:
        """Return the mean square of what entered each column, (reached, columns)."""
        with np.errstate(all="ignore"):
            return np.divide(
                self.sums[self.reached], self.counts[self.reached, None], dtype=np.float32
            )


@dataclass(frozen=True, slots=True, eq=False)
class ImportanceMatrix:
    """What one file says, or several merged."""

    path: Path
    """Where it is from, as it was given; it is named so in what is quantized with it."""
    entries: Mapping[str, Entry]
    """By the name of the matrix, in the order of the names' bytes."""
    datasets: tuple[str, ...] = ()
    """The texts that it was made of."""
    chunk_count: int = 0
    chunk_size: int = 0
    """Tokens of a chunk; 0 where the file does not say, as legacy ones never do."""
    legacy: bool = False
    lacks: tuple[str, ...] = ()
    """Keys that llama-quantize wants, and the file does not have."""
    unfinished: str = ""
    """The run that it is a checkpoint of; empty where it is complete."""

    def selected(
        self, include: Iterable[str] = (), exclude: Iterable[str] = ()
    ) -> ImportanceMatrix:
        """Return what is left of it: entries with a name that has one of these parts, or none."""
        include, exclude = tuple(include), tuple(exclude)
        kept = {
            name: entry
            for name, entry in self.entries.items()
            if not any(part in name for part in exclude)
            and (not include or any(part in name for part in include))
        }
        return replace(self, entries=kept)

    def require_usable(self) -> None:
        """Raise ``BadImportance`` for what llama-quantize refuses, and for what is no square."""
        if self.lacks:
            raise BadImportance(
                f"{self.path} does not say {' and '.join(self.lacks)}: llama-quantize refuses such "
                "an importance matrix",
                hint="make it anew with `ggufscope imatrix`",
            )
        self.require_numbers()

    def require_numbers(self) -> None:
        """Raise ``BadImportance`` for the first number that is no sum of squares."""
        for name, entry in self.entries.items():
            wrong = ~(np.isfinite(entry.sums) & (entry.sums >= 0))
            if wrong.any():
                expert, column = (int(at[0]) for at in np.nonzero(wrong))
                where = f"expert {expert}, " if len(wrong) > 1 else ""
                raise BadImportance(
                    f"{self.path} has {entry.sums[expert, column]} for {name!r}, {where}column "
                    f"{column}: no sum of squares",
                    hint="the model overflowed, or the file is damaged: make it anew",
                )

    def of(self, tensor: PlannedTensor) -> Floats | None:
        """Return the importance of a tensor's columns, (slices, row); None where it has none.

        A matrix of a stack has a row of its own. Where a count is 0 every column counts 1. Raises
        ``ImportanceMismatch``; embeddings of another size count as unknown, as in llama-quantize.
        """
        entry = self.entries.get(tensor.source_name)
        if entry is None:
            return None
        slices, row = (tensor.shape[-3] if len(tensor.shape) > 2 else 1), tensor.shape[-1]
        if entry.sums.size == slices * row:
            return self._weights(entry).reshape(slices, row)
        if category_of(tensor.source_name) is Category.TOKEN_EMBD:
            return None
        raise ImportanceMismatch(
            f"{self.path} has {entry.sums.size} numbers for {tensor.source_name!r}, which has "
            f"{slices * row} columns",
            hint="it was made for another model, or for this one before its experts were stacked",
        )

    def keys(self) -> dict[str, Value]:
        """Return what a file that is quantized with it says of it."""
        return importance_keys(
            _named(str(self.path)),
            _named(self.datasets[0]) if self.datasets else None,
            len(self.entries),
            self.chunk_count if 0 < self.chunk_count < 1 << 31 else None,
        )

    def raw(self, chunk_size: int) -> ImportanceMatrix:
        """Return it with sums and counts of vectors, which a legacy file has only by the chunk."""
        if not self.legacy:
            return self
        times = np.float32(chunk_size)
        entries = {
            name: Entry(entry.sums * times, entry.counts * chunk_size)
            for name, entry in self.entries.items()
        }
        return replace(self, entries=entries, legacy=False, chunk_size=chunk_size)

    def _weights(self, entry: Entry) -> Floats:
        counts = entry.counts[:, None].astype(np.float32)
        with np.errstate(all="ignore"):
            if self.legacy:
                return entry.sums / counts if counts[0, 0] > 0 else entry.sums
            return np.where(counts > 0, entry.sums / counts, np.float32(1))


def importance_of(
    plan: Plan, tensor: PlannedTensor, imatrix: ImportanceMatrix | None
) -> Floats | None:
    """Return what a plan's tensor is weighed by, (slices, row), or None.

    Raises ``ImportanceNeeded`` where it has to be weighed and nothing is known of it, and
    ``ImportanceMismatch``.
    """
    found = imatrix.of(tensor) if imatrix is not None else None
    if tensor.needs_importance and found is None:
        raise ImportanceNeeded(
            f"{plan.preset} makes {tensor.name!r} {tensor.target.name}, for which "
            f"{imatrix.path if imatrix else 'no importance matrix'} has nothing: the result would "
            "be garbage",
            hint=HOW_TO_GET_ONE,
        )
    return found


def merged(parts: Iterable[ImportanceMatrix], chunk_size: int, path: Path) -> ImportanceMatrix:
    """Add matrices up, in order, as llama-imatrix does with several ``--in-file``.

    Raises ``ImportanceMismatch`` where two say something of matrices of different sizes.
    """
    entries: dict[str, Entry] = {}
    datasets: list[str] = []
    for part in parts:
        datasets += part.datasets
        for name, entry in part.raw(chunk_size).entries.items():
            there = entries.get(name)
            entries[name] = entry if there is None else _sum(there, entry, name, part.path)
    most = max((int(entry.counts.max(initial=0)) for entry in entries.values()), default=0)
    return ImportanceMatrix(
        path, in_order(entries), tuple(datasets), most // max(1, chunk_size), chunk_size
    )


def in_order(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return entries in the order of their names' bytes."""
    names = sorted(entries, key=lambda name: name.encode("utf-8", "surrogateescape"))
    return {name: entries[name] for name in names}


def _sum(one: Entry, other: Entry, name: str, path: Path) -> Entry:
    """Add two entries; a single count of a stack, of a legacy file, is that of every expert."""
    experts = max(len(one.counts), len(other.counts))
    same = one.sums.size == other.sums.size
    if not same or min(len(one.counts), len(other.counts)) not in (1, experts):
        shapes = " and ".join(f"{each.sums.size} of {len(each.counts)}" for each in (one, other))
        raise ImportanceMismatch(
            f"{path} does not fit what is before it: numbers and experts of {name!r} are {shapes}",
            hint="only matrices of one model can be merged",
        )
    sums = one.sums.reshape(experts, -1) + other.sums.reshape(experts, -1)
    counts = np.broadcast_to(one.counts, experts) + np.broadcast_to(other.counts, experts)
    return Entry(sums, counts)


def _named(text: str) -> str:
    """Return a name as llama-quantize keeps it: up to a NUL, 127 bytes at the most."""
    data = re.split(b"\0", text.encode("utf-8", "surrogateescape"), maxsplit=1)[0]
    return data[:_LONGEST_NAMED].decode("utf-8", "surrogateescape")
