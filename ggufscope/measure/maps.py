"""Attention matrices that are to be shown: of a long prompt the last tokens, the others as one."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Final

import numpy as np

from ggufscope.arrays import Reals
from ggufscope.measure.patterns import Patterns, patterns_of

MAX_CELLS: Final = 48_000_000
"""Shares in one page, over all runs, layers and heads: about 25 MB when they are packed."""
TERMINAL_TOKENS: Final = 120
"""The last tokens of a prompt that are kept for a terminal; hardly one has room for more."""


def tokens_shown(tokens: int, heads: int, runs: int) -> int:
    """Return how many of a prompt's last tokens fit a page of so many heads (over all layers)."""
    return min(tokens, max(8, isqrt(2 * MAX_CELLS // max(1, heads * runs))))


def window(weights: Reals, shown: int) -> Reals:
    """weights (..., R, C), row by row what a token attends to -> (..., shown, shown + 1).

    The rows are those of the last ``shown`` tokens; the first column is what each of them gives to
    all tokens before those, together. C is the number of all tokens, or R + 1 where the weights
    were cut so before. Where all tokens are shown the weights are returned as they are.
    """
    before = weights.shape[-1] - shown
    if before <= 0:
        return weights
    rows = weights[..., weights.shape[-2] - shown :, :]
    earlier = rows[..., :before].sum(axis=-1, keepdims=True)
    return np.concatenate([earlier, rows[..., before:]], axis=-1)


class KeptMaps:
    """The matrices of several runs that are shown: no more of them than there is room for."""

    def __init__(
        self, runs: int, shown: int, layer: int | None = None, *, ids: Sequence[int] = ()
    ) -> None:
        """Take how many runs there are, how many tokens are shown, and the one layer if one is.

        With the ``ids`` (T,) of all tokens the patterns of the reference's heads are measured.
        """
        self._shown, self._layer, self._ids = shown, layer, ids
        self.runs: list[dict[int, Reals]] = [{} for _ in range(runs)]
        self.patterns: dict[int, Patterns] = {}
        """Layer -> what the heads of the reference do."""

    def keep(self, run: int, layer: int, weights: Reals) -> None:
        """Take a layer's matrices (H, T, T) of a run."""
        if self._layer in (None, layer):
            self.runs[run][layer] = window(weights, min(self._shown, weights.shape[-1]))
            if run == 0 and self._ids:
                self.patterns[layer] = patterns_of(weights, self._ids)
