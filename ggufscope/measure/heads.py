"""What a head does: how much of its attention goes to which kind of token.

A head that always looks at the token before, at the first one, at itself or at an earlier token
equal to its own does something that has a name. Each is measured as the share of attention that
goes there, averaged over the tokens that have such a token to look at. Kinds overlap: for the
second token the first one is also the previous one. The first token is left out, since it can
see nothing but itself. See Clark et al., "What Does BERT Look At?" (2019), for such heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ggufscope.measure.rows import entropy

Weights = npt.NDArray[np.floating[Any]]
Doubles = npt.NDArray[np.float64]

HABITS: Final = {
    "previous": "the previous token",
    "first": "the first token",
    "itself": "itself",
    "equal": "an earlier equal token",
}
"""What heads are measured for, and how it is called."""


@dataclass(frozen=True, slots=True)
class Habits:
    """What the heads of one layer do; every array (H,), NaN where no token has such a token."""

    previous: Doubles
    first: Doubles
    itself: Doubles
    equal: Doubles
    """Attention to all earlier tokens of the same id together."""
    entropy: Doubles
    """Bits: 0 where every token attends to one other, more the more spread out."""

    def of(self, name: str) -> Doubles:
        """Give one of ``HABITS`` (H,)."""
        found: Doubles = getattr(self, name)
        return found


def habits_of(weights: Weights, ids: Sequence[int]) -> Habits:
    """Measure the heads of a layer: ``kq_soft_max`` (H, T, T) and the ids (T,) of its tokens."""
    heads, tokens, _ = weights.shape
    if tokens < 2:
        nothing = np.full(heads, np.nan)
        return Habits(nothing, nothing, nothing, nothing, nothing)
    known = np.asarray(ids)
    equal = (known[:, None] == known[None, :]) & np.tri(tokens, k=-1, dtype=np.bool_)
    # Head by head: the sums are in float64, and a copy of a long text's layer takes gigabytes.
    return Habits(*np.array([_habits_of_head(head, equal) for head in weights]).T)


def _habits_of_head(weights: Weights, equal: npt.NDArray[np.bool_]) -> list[float]:
    """Weights (T, T), equal (T, T) which earlier tokens are a token's equals -> five numbers."""
    later = np.arange(1, len(weights))
    repeated = np.flatnonzero(equal.any(axis=1))
    to_equal = weights.sum(axis=-1, dtype=np.float64, where=equal)[repeated]
    return [
        float(weights[later, later - 1].mean(dtype=np.float64)),
        float(weights[1:, 0].mean(dtype=np.float64)),
        float(weights[later, later].mean(dtype=np.float64)),
        float(to_equal.mean()) if repeated.size else np.nan,
        float(entropy(weights[1:]).mean()),
    ]


def sorted_heads(habits: dict[int, Habits], name: str) -> list[tuple[int, int, float]]:
    """Give (layer, head, share) of all heads, the largest share first; those of NaN left out."""
    found = [
        (layer, head, float(share))
        for layer, each in habits.items()
        for head, share in enumerate(each.of(name))
        if not np.isnan(share)
    ]
    return sorted(found, key=lambda item: (-item[2], item[0], item[1]))


def most_attended(weights: Weights, count: int) -> list[list[tuple[int, float]]]:
    """Weights (T, T) -> for each token the ``count`` it attends to most, with their shares.

    Only tokens that get anything are named; of equal shares the earlier token comes first.
    """
    order = np.argsort(-weights, axis=-1, kind="stable")[:, :count]
    return [
        [(int(token), float(row[token])) for token in best if row[token] > 0]
        for row, best in zip(weights, order, strict=True)
    ]
