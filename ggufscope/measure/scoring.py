"""Logits reduced to a few numbers for every token, some rows at a time, in all threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from ggufscope.arrays import Doubles, Floats, Integers
from ggufscope.measure.evaluation import Scores
from ggufscope.measure.metrics.distributions import log_softmax
from ggufscope.pool import in_parallel

Logs = Callable[[int, int], Doubles]
"""Returns log-probabilities (R, V) of rows [first, last)."""

_TILE: Final = 1 << 18
"""Numbers that a thread reduces together: 2 MiB."""


def logs_of(logits: Floats) -> Logs:
    """Return what makes log-probabilities of logits (R, V), in float64."""

    def logs(first: int, last: int) -> Doubles:
        return log_softmax(logits[first:last])

    return logs


def score(
    own: Logs,
    following: Integers,
    vocabulary: int,
    into: Scores,
    start: int,
    base: Logs | None = None,
    deepest: float = -np.inf,
) -> None:
    """Score R rows, and put that into ``into`` from ``start`` on.

    ``own`` and ``base`` are log-probabilities Q and P, following (R,) the tokens that followed. No
    token below ``deepest``, a log-probability, counts for the divergence.
    """
    step = max(1, _TILE // vocabulary)

    @np.errstate(
        all="ignore"
    )  # a model whose numbers overflow gives NaN; the setting is a thread's
    def reduce(first: int) -> None:
        last = min(first + step, len(following))
        rows, tokens = np.arange(last - first), following[first:last]
        at = slice(start + first, start + last)
        q = own(first, last)
        told = q[rows, tokens]
        into.losses[at] = -told
        if base is None:
            return
        p = base(first, last)
        into.same_top[at] = q.argmax(axis=1) == p.argmax(axis=1)
        into.changes[at] = np.exp(told) - np.exp(p[rows, tokens])
        shares = np.exp(p)
        gap = np.subtract(p, q, out=q)
        gap[~((shares > 0) & (p > deepest)) & ~np.isnan(p)] = 0
        divergence = np.multiply(shares, gap, out=gap).sum(axis=1)
        # Where they are equal rounding may leave -1e-17; what a file was rounded to is told as is.
        into.divergences[at] = divergence if np.isfinite(deepest) else np.maximum(divergence, 0.0)

    in_parallel(reduce, range(0, len(following), step))
