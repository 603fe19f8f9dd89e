"""Whether a model fits: which preset, with how much context, in so much memory.

"Fits" counts the upper end of the compute estimate; what fits by its lower end alone is "tight".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from ggufscope.model.hparams import HParams
from ggufscope.sizing.budget import Range, run_memory
from ggufscope.sizing.file_size import PresetSize
from ggufscope.sizing.settings import CELLS, RunSettings

UNTRAINED: Final = 1 << 17
"""The longest context that is looked for where the file does not say what it was made for."""


class Fit(StrEnum):
    """The answer for one preset and one context."""

    YES = "fits"
    TIGHT = "tight"
    NO = "no"


def fit(need: Range, limit: int) -> Fit:
    """Compare what is needed with what is there."""
    if need.high <= limit:
        return Fit.YES
    return Fit.TIGHT if need.low <= limit else Fit.NO


@dataclass(frozen=True, slots=True)
class FitRow:
    """One preset in one memory."""

    size: PresetSize
    needs: tuple[Range, ...]
    """For each context that was asked about."""
    longest: int
    """Tokens of context that it has room for; 0 where it does not fit at all."""


@dataclass(frozen=True, slots=True)
class FitTable:
    """Every preset in one memory, the largest first."""

    limit: int
    contexts: tuple[int, ...]
    rows: tuple[FitRow, ...]
    itself: FitRow | None
    """The file as it is; None for a shape."""

    def best(self, column: int, *, importance: bool = False) -> FitRow | None:
        """Return the largest proposed preset that fits with a context.

        ``importance``: of those, too, that need an importance matrix.
        """
        wanted = self._wanted(importance)
        return next((r for r in wanted if fit(r.needs[column], self.limit) is Fit.YES), None)

    def roomiest(self) -> FitRow | None:
        """Return the largest proposed preset that fits with any context at all."""
        return next((row for row in self.rows if row.longest and row.size.proposed), None)

    def smallest(self, *, importance: bool = False) -> FitRow | None:
        """Return the smallest proposed preset, which is the last to be given up.

        ``importance``: of those, too, that need an importance matrix.
        """
        return next(reversed(self._wanted(importance)), None)

    def _wanted(self, importance: bool) -> list[FitRow]:
        return [
            row for row in self.rows if (row.size.worth_making if importance else row.size.proposed)
        ]

    def missed(self) -> list[int]:
        """Return the columns of the contexts with which the file as it is does not fit."""
        needs = self.itself.needs if self.itself else ()
        return [i for i, need in enumerate(needs) if fit(need, self.limit) is not Fit.YES]

    @property
    def any_fits(self) -> bool:
        """Whether the file as it is fits with one of the contexts; of a shape, some preset."""
        columns = range(len(self.contexts))
        if self.itself is not None:
            return len(self.missed()) < len(columns)
        return any(self.best(column) for column in columns)


def fit_table(
    sizes: Iterable[PresetSize],
    hparams: HParams,
    settings: RunSettings,
    contexts: Sequence[int],
    limit: int,
    itself: PresetSize | None = None,
) -> FitTable:
    """Hold every preset, and the file itself, against a memory of ``limit`` bytes.

    Raises what ``run_memory`` raises.
    """
    runs = [run_memory(hparams, replace(settings, context=context)) for context in contexts]
    most = hparams.context_length or UNTRAINED

    def needed(context: int, nbytes: int) -> Range:
        return run_memory(hparams, replace(settings, context=context)).with_weights(nbytes)

    def row(size: PresetSize) -> FitRow:
        needs = tuple(run.with_weights(size.nbytes) for run in runs)
        longest = longest_context(lambda c: needed(c, size.nbytes).high <= limit, most)
        asked = (
            context for context, need in zip(contexts, needs, strict=True) if need.high <= limit
        )
        longest = max(longest, *asked, 0)  # one of fewer cells than are looked for may fit
        return FitRow(size, needs, longest)

    rows = tuple(row(size) for size in sizes)
    return FitTable(limit, tuple(contexts), rows, row(itself) if itself else None)


def longest_context(fits: Callable[[int], bool], most: int) -> int:
    """Return the longest context that fits: ``most``, or else a multiple of 256; 0 for none."""
    if fits(most):
        return most
    low, high = 0, -(-most // CELLS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle * CELLS) else (low, middle)
    return low * CELLS
