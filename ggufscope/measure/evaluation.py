"""What evaluating a model over a text found: its perplexity, and how far candidates are from it.

In the terms of llama-perplexity with ``--kl-divergence``: P is the reference, Q a candidate, every
mean is over the scored tokens. Losses and divergences are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from ggufscope.arrays import Doubles
from ggufscope.measure.metrics.estimates import (
    Estimate,
    covariance,
    exponential,
    mean_of,
    root,
    share_of,
    spread,
)

if TYPE_CHECKING:
    from ggufscope.measure.candidates import Weighs

CLEAR: Final = 2.0
"""Errors of a difference that it has to exceed to be called one."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What was measured of every scored token, in order."""

    losses: Doubles
    """(N,): ``-log Q(token)``."""
    divergences: Doubles
    """(N,): KL divergence of Q from P; of the reference itself zeros."""
    changes: Doubles
    """(N,): ``Q(token) - P(token)``."""
    same_top: npt.NDArray[np.bool_]
    """(N,): whether both hold the same token likeliest."""

    @classmethod
    def empty(cls, count: int) -> Scores:
        """Return room for so many tokens."""
        zeros = np.zeros((3, count))
        return cls(zeros[0], zeros[1], zeros[2], np.ones(count, np.bool_))


@dataclass(frozen=True, slots=True)
class Divergence:
    """How far a candidate is from the reference."""

    log_ratio: Estimate
    """``ln(PPL(Q) / PPL(base))``, the loss that it adds."""
    ratio: Estimate
    """``PPL(Q) / PPL(base)``."""
    difference: Estimate
    """``PPL(Q) - PPL(base)``."""
    correlation: float
    """Of the logarithms of the two perplexities. -1 to 1."""
    kl_divergence: Estimate
    kl_spread: Mapping[float, float]
    """Percent -> divergence that this share of tokens does not exceed."""
    change: Estimate
    """Mean change of the probability of the token that followed. -1 to 1."""
    change_rms: Estimate
    change_spread: Mapping[float, float]
    same_top: Estimate
    """Share of tokens for which both hold the same one likeliest. 0 to 1."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A model over a text; a candidate is held to the reference as well."""

    name: str
    weighs: Weighs | None
    """None of a base file, which has no weights."""
    perplexity: Estimate
    so_far: tuple[float, ...]
    """The perplexity after each chunk."""
    divergence: Divergence | None = None
    beaten_by: str = ""
    """The candidate that is no larger and closer to the reference; empty where none is."""
    clearly: bool = False
    """Whether it is closer by more than two errors of the difference."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A text run through a reference and its candidates."""

    context: int
    """Tokens of a chunk."""
    chunks: int
    scored: int
    """Tokens that were foretold and scored: those of the second half of each chunk."""
    reference: Evaluated
    candidates: tuple[Evaluated, ...]


def evaluated(
    name: str, weighs: Weighs | None, scores: Scores, chunks: int, reference: Scores | None = None
) -> Evaluated:
    """Sum up the scores of a model; those of a candidate beside its reference's."""
    in_chunks = scores.losses.reshape(chunks, -1).sum(axis=1).cumsum()
    each = len(scores.losses) // chunks
    with np.errstate(all="ignore"):
        so_far = np.exp(in_chunks / (each * np.arange(1, chunks + 1)))
    return Evaluated(
        name,
        weighs,
        exponential(mean_of(scores.losses)),
        tuple(map(float, so_far)),
        _divergence(scores, reference) if reference is not None else None,
    )


def _divergence(scores: Scores, reference: Scores) -> Divergence:
    mine, base = scores.losses, reference.losses
    loss, base_loss = mean_of(mine), mean_of(base)
    together = covariance(mine, base)
    with np.errstate(all="ignore"):
        variance = loss.error**2 + base_loss.error**2 - 2 * together
        log_ratio = Estimate(loss.value - base_loss.value, math.sqrt(max(0.0, variance)))
        errors = loss.error * base_loss.error
        ppl, base_ppl = exponential(loss), exponential(base_loss)
        spreads = ppl.error**2 + base_ppl.error**2 - 2 * ppl.value * base_ppl.value * together
        return Divergence(
            log_ratio=log_ratio,
            ratio=exponential(log_ratio),
            difference=Estimate(ppl.value - base_ppl.value, math.sqrt(max(0.0, spreads))),
            correlation=together / errors if errors else math.nan,
            kl_divergence=mean_of(scores.divergences),
            kl_spread=spread(scores.divergences),
            change=mean_of(scores.changes),
            change_rms=root(mean_of(np.square(scores.changes))),
            change_spread=spread(scores.changes),
            same_top=share_of(int(scores.same_top.sum()), len(scores.same_top)),
        )


def beaten(weighs: Sequence[Weighs], scores: Sequence[Scores]) -> list[tuple[int, bool] | None]:
    """Return for each candidate the one that makes it pointless and whether clearly, or None.

    That is one of no more bytes with a smaller mean divergence; clearly where the mean over tokens
    of the difference is beyond two of its errors. Of several the closest, a clear one first.
    """
    means = [float(each.divergences.mean()) for each in scores]
    found: list[tuple[int, bool] | None] = []
    for mine, own in enumerate(scores):
        best: tuple[bool, float, int] | None = None
        for other, theirs in enumerate(scores):
            if weighs[other].nbytes > weighs[mine].nbytes or not means[other] < means[mine]:
                continue
            gain = mean_of(own.divergences - theirs.divergences)
            rank = (gain.value > CLEAR * gain.error, -means[other], other)
            best = rank if best is None else max(best, rank)
        found.append(None if best is None else (best[2], best[0]))
    return found
