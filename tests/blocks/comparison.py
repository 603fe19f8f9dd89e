"""Blocks against blocks: which differ, and how many were compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Tally:
    """Blocks compared, and those that differed, for each type and each way of trying it."""

    counts: defaultdict[tuple[str, str], list[int]]

    def compare(
        self, type: str, way: str, ours: npt.NDArray[Any], theirs: npt.NDArray[Any], width: int
    ) -> list[int]:
        """Compare by runs of ``width`` bytes; gives the first numbers of those that differ."""
        assert ours.nbytes == theirs.nbytes > 0
        first, second = (
            np.ascontiguousarray(a).reshape(-1).view(np.uint8).reshape(-1, width)
            for a in (ours, theirs)
        )
        differing = np.flatnonzero((first != second).any(axis=1))
        counts = self.counts[type, way]
        counts[0] += len(first)
        counts[1] += differing.size
        return [int(i) for i in differing[:5]]

    def rows(self) -> list[tuple[str, str, int, int]]:
        """All counts as plain data, for another process to add."""
        return [(*key, made, differing) for key, (made, differing) in self.counts.items()]

    def add(self, rows: Iterable[tuple[str, str, int, int]]) -> None:
        """Add what another process counted."""
        for type, way, compared, differing in rows:
            counts = self.counts[type, way]
            counts[0] += compared
            counts[1] += differing

    def lines(self) -> list[str]:
        """A table: a type a line, a way of trying it a column; blocks compared / differing."""
        ways = sorted({way for _, way in self.counts})
        table = ["".join([f"{'':8}", *(f"{way:>18}" for way in ways)])]
        for type in dict.fromkeys(type for type, _ in self.counts):
            cells = [self.counts.get((type, way)) for way in ways]
            shown = [f"{cell[0]:,} / {cell[1]}" if cell else "" for cell in cells]
            table.append("".join([f"{type:8}", *(f"{cell:>18}" for cell in shown)]))
        compared, differing = map(sum, zip(*self.counts.values(), strict=True))
        return [*table, f"blocks compared: {compared:,}; blocks that differ: {differing}"]


TALLY: Final = Tally(defaultdict(lambda: [0, 0]))
"""The one of this process; it is printed at the end of a run."""
