"""Head patterns: how much of a head's attention goes to which kind of token.

The literature knows previous-token heads, first-token heads (an attention sink), heads that look at
the token itself, duplicate-token heads, which look at earlier tokens of the same id, and induction
heads, which look at what followed such a token, as if to say it again. Each is measured as the
share of attention that goes there, averaged over the tokens that have such a token to look at.
Patterns overlap: for the second token the first one is also the previous one. The first token is
left out, since it can see nothing but itself. See Clark et al., "What Does BERT Look At?" (2019),
Olsson et al., "In-context Learning and Induction Heads" (2022), and Xiao et al., "Efficient
Streaming Language Models with Attention Sinks" (2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ggufscope.arrays import Doubles, Reals
from ggufscope.measure.metrics.rows import entropy
from ggufscope.pool import in_parallel

PATTERNS: Final = {
    "previous": "the previous token",
    "first": "the first token",
    "itself": "itself",
    "equal": "an earlier equal token",
}
"""Names as ``--json`` has them, and what each pattern looks at."""
_TOGETHER: Final = 1 << 15
"""Shares of some heads that are added up together, in float64."""


@dataclass(frozen=True, slots=True)
class Patterns:
    """The patterns of one layer's heads; every array (H,), NaN where no token has such a token."""

    previous: Doubles
    first: Doubles
    itself: Doubles
    equal: Doubles
    """Attention to all earlier tokens of the same id together."""
    entropy: Doubles
    """Bits: 0 where every token attends to one other, more the more spread out."""
    induction: Doubles
    """Attention to all tokens together that followed an earlier token of the same id."""

    def of(self, name: str) -> Doubles:
        """Return one of ``PATTERNS`` (H,)."""
        found: Doubles = getattr(self, name)
        return found


class PatternSums:
    """The patterns of the heads of a layer, added up stretch by stretch."""

    def __init__(self, heads: int, ids: Sequence[int]) -> None:
        """Take how many heads there are, and the ids (T,) of all tokens."""
        self._ids = np.asarray(ids)
        self._sums: Doubles = np.zeros((len(PATTERNS) + 2, heads))
        self._repeated = self._followed = 0

    def add(self, first: int, weights: Reals) -> None:
        """Add rows from ``first`` on: ``kq_soft_max`` (H, rows, T)."""
        skipped = 1 if first == 0 else 0  # the first token can see nothing but itself
        weights, first = weights[:, skipped:], first + skipped
        count = weights.shape[1]
        if not count:
            return
        rows, tokens = np.arange(count), np.arange(first, first + count)
        earlier = np.arange(weights.shape[2]) < tokens[:, None]
        equal = (self._ids[tokens][:, None] == self._ids[None, :]) & earlier
        followed = np.zeros_like(equal)
        followed[:, 1:] = equal[:, :-1] & earlier[:, 1:]
        self._repeated += int(equal.any(axis=1).sum())
        self._followed += int(followed.any(axis=1).sum())
        few = max(1, _TOGETHER // (count * weights.shape[2]))

        def of_some(start: int) -> None:
            share = weights[start : start + few]
            self._sums[:, start : start + few] += (
                share[:, rows, tokens - 1].sum(axis=1, dtype=np.float64),
                share[:, :, 0].sum(axis=1, dtype=np.float64),
                share[:, rows, tokens].sum(axis=1, dtype=np.float64),
                share.sum(axis=(1, 2), dtype=np.float64, where=equal),
                entropy(share).sum(axis=1),
                share.sum(axis=(1, 2), dtype=np.float64, where=followed),
            )

        in_parallel(of_some, range(0, len(weights), few))

    def means(self) -> Patterns:
        """Return the means over the tokens that have such a token to look at."""
        counts = np.full(len(self._sums), max(len(self._ids) - 1, 0), np.float64)
        counts[[*PATTERNS].index("equal")] = self._repeated
        counts[-1] = self._followed
        with np.errstate(all="ignore"):  # of no tokens nothing can be said: NaN
            return Patterns(*(self._sums / counts[:, None]))


def patterns_of(weights: Reals, ids: Sequence[int]) -> Patterns:
    """Measure the heads of a layer: ``kq_soft_max`` (H, T, T) and the ids (T,) of its tokens."""
    sums = PatternSums(len(weights), ids)
    sums.add(0, weights)
    return sums.means()


def sorted_heads(patterns: dict[int, Patterns], name: str) -> list[tuple[int, int, float]]:
    """Return (layer, head, share) of all heads, the largest share first; those of NaN left out."""
    found = [
        (layer, head, float(share))
        for layer, each in patterns.items()
        for head, share in enumerate(each.of(name))
        if not np.isnan(share)
    ]
    return sorted(found, key=lambda item: (-item[2], item[0], item[1]))


def most_attended(weights: Reals, count: int) -> list[list[tuple[int, float]]]:
    """weights (T, T) -> for each token the ``count`` it attends to most, with their shares.

    Only tokens that get anything are named; of equal shares the earlier token comes first.
    """
    order = np.argsort(-weights, axis=-1, kind="stable")[:, :count]
    return [
        [(int(token), float(row[token])) for token in best if row[token] > 0]
        for row, best in zip(weights, order, strict=True)
    ]
