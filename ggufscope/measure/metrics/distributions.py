"""Next-token distributions: what a model says, and how far another one says otherwise.

Logits are (T, V): after each of T tokens, one number for each of V tokens that could follow.
Logarithms are natural, so divergences and losses are in nats; all sums are in float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ggufscope.arrays import Doubles, Reals


def log_softmax(logits: Reals) -> Doubles:
    """logits (..., V) -> (..., V): ``x - log sum exp x``. Range -inf to 0."""
    x = np.asarray(logits, np.float64)
    x = x - x.max(axis=-1, keepdims=True)
    logs: Doubles = x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
    return logs


def kl_divergence(reference: Reals, candidate: Reals) -> Doubles:
    """logits (..., V) twice -> (...): ``sum P (log P - log Q)`` in nats. Range 0 to infinity.

    P is the reference's distribution, Q the candidate's: the extra loss, in nats a token, of who
    believes the candidate in a world that follows the reference.
    """
    return divergence_of(log_softmax(reference), log_softmax(candidate))


def divergence_of(p: Doubles, q: Doubles) -> Doubles:
    """``log_softmax`` (..., V) twice -> (...): ``kl_divergence`` of the second from the first."""
    weights = np.exp(p)
    gap = np.subtract(p, q, out=np.zeros_like(p), where=weights > 0)
    divergence: Doubles = (weights * gap).sum(axis=-1)
    return np.maximum(divergence, 0.0)  # where they are equal rounding may leave -1e-17


def top1_agrees(reference: Reals, candidate: Reals) -> npt.NDArray[np.bool_]:
    """logits (..., V) twice -> (...): whether both find the same token likeliest."""
    agrees: npt.NDArray[np.bool_] = reference.argmax(axis=-1) == candidate.argmax(axis=-1)
    return agrees


def likeliest(logits: Reals, count: int) -> list[tuple[int, float]]:
    """logits (V,) -> the ``count`` likeliest tokens and how likely they are, the likeliest first.

    Of equal ones the lower id comes first. Logits that are no numbers give NaN.
    """
    with np.errstate(all="ignore"):
        shares = np.exp(log_softmax(logits))
    costs = -shares
    least = np.partition(costs, count - 1)[count - 1] if count < costs.size else np.nan
    near = np.flatnonzero(costs <= least) if least == least else np.arange(costs.size)
    best = near[np.argsort(costs[near], kind="stable")[:count]]
    return [(int(token), float(shares[token])) for token in best]


def token_losses(logits: Reals, ids: Sequence[int]) -> Doubles:
    """logits (T, V), ids (T) -> (T - 1): ``-log P(id)`` of each token after those before it.

    In nats. Range 0 to infinity. Nothing is said of the first token.
    """
    return losses_of(log_softmax(logits[: len(ids) - 1]), ids)


def losses_of(logs: Doubles, ids: Sequence[int]) -> Doubles:
    """``log_softmax`` (T or T - 1, V), ids (T) -> (T - 1): ``token_losses``."""
    following = np.asarray(ids[1:], np.int64)
    losses: Doubles = -logs[np.arange(len(following)), following] + 0.0
    return losses


def perplexity_of(losses: Doubles) -> float | None:
    """losses (N,) of tokens -> ``exp`` of their mean. Range 1 to infinity.

    Among how many tokens the model hesitates, so to speak. None for none: after a single token
    nothing was predicted.
    """
    if not losses.size:
        return None
    with np.errstate(over="ignore"):
        return float(np.exp(losses.mean()))
