"""What was measured between two runs, head by head and layer by layer.

Every number is defined in ``metrics``. Here they are only taken of the right quantities, by
llama.cpp's names, and averaged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final, TypeVar

import numpy as np

from ggufscope.arrays import Doubles, Mask, Reals
from ggufscope.blocks.error import NO_ERROR, WeightError
from ggufscope.measure.metrics.distributions import (
    divergence_of,
    log_softmax,
    losses_of,
    perplexity_of,
    token_losses,
    top1_agrees,
)
from ggufscope.measure.metrics.rows import (
    entropy_shift,
    jensen_shannon,
    largest_difference,
    mean_difference,
    most_attended_changed,
    total_variation,
)
from ggufscope.measure.metrics.vectors import cosine, relative_error
from ggufscope.pool import in_parallel

Made = TypeVar("Made")
_LOGITS: Final = 1 << 18
"""Logits that are compared together, in float64."""
_SHARES: Final = 1 << 15
"""Shares of attention that are compared together: they stay in a core's cache."""


@dataclass(frozen=True, slots=True)
class AttentionDifference:
    """The attention of one head, or of several on average. Means are over the prompt's tokens."""

    largest_difference: float
    """Of one attention probability. 0 to 1."""
    mean_difference: float
    """Over all pairs of tokens where either run has a share. 0 to 1."""
    total_variation: float
    """Mean share of a token's attention that went elsewhere. 0 to 1."""
    largest_total_variation: float
    """Of one token."""
    jensen_shannon: float
    """Mean divergence of rows, in bits. 0 to 1."""
    top_changed: float
    """Share of tokens whose most attended token is another one. 0 to 1."""
    entropy_shift: float
    """Mean change of a row's entropy, in bits; above 0 attention spread."""
    output_cosine: float
    """Mean cosine of ``kqv``, the head's output. -1 to 1."""
    output_error: float
    """Mean relative error of ``kqv``. 0 to infinity."""


@dataclass(frozen=True, slots=True)
class HeadDifference(AttentionDifference):
    """One head of one layer."""

    layer: int
    head: int


def average(heads: Sequence[HeadDifference]) -> AttentionDifference:
    """Return the mean over heads of each number; of what is largest, the largest."""
    return AttentionDifference(**_together(heads))


def _together(
    found: Sequence[AttentionDifference], tokens: Sequence[int] | None = None
) -> dict[str, float]:
    """Return the means of several, weighed by how many tokens each is of; or the largest."""
    columns = {
        each.name: [getattr(one, each.name) for one in found]
        for each in fields(AttentionDifference)
    }
    return {
        name: max(column) if name.startswith("largest") else _mean(column, tokens)
        for name, column in columns.items()
    }


def _mean(column: Sequence[float], tokens: Sequence[int] | None = None) -> float:
    return float(np.mean(column) if tokens is None else np.average(column, weights=tokens))


@dataclass(frozen=True, slots=True)
class TensorDifference:
    """A tensor whose weights differ from the reference's."""

    name: str
    reference_type: str
    type: str
    error: WeightError
    """Over the weights that the run used: of token embeddings only the rows of the prompt."""


@dataclass(frozen=True, slots=True)
class LayerDifference:
    """One layer: its heads, and what it hands on (``l_out``)."""

    layer: int
    heads: tuple[HeadDifference, ...]
    output_cosine: float
    """Mean cosine of ``l_out`` over tokens."""
    output_error: float
    """Mean relative error of ``l_out`` over tokens."""
    tensors: tuple[TensorDifference, ...]

    @property
    def weight_error(self) -> WeightError:
        """The error of all its tensors together."""
        return sum((tensor.error for tensor in self.tensors), NO_ERROR)

    @property
    def attention(self) -> AttentionDifference:
        """The average of its heads."""
        return average(self.heads)

    @property
    def worst_head(self) -> HeadDifference:
        """The one whose attention went astray most; of equals the one whose output did."""
        return max(self.heads, key=lambda head: (head.total_variation, head.output_error))


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the logits of both say of the whole model."""

    kl_divergence: tuple[float, ...]
    """Of the next-token distribution after each token, in nats."""
    top1_agreement: float
    """Share of positions where both find the same next token likeliest. 0 to 1."""
    perplexity: float | None
    """Of the candidate."""

    @property
    def mean_kl_divergence(self) -> float:
        """Over the positions of the prompt, in nats a token."""
        return float(np.mean(self.kl_divergence))


def head_differences(
    layer: int, reference: Mapping[str, Reals], candidate: Mapping[str, Reals]
) -> tuple[HeadDifference, ...]:
    """Compare the heads of a layer: ``kq_soft_max`` (H, T, S) and ``kqv`` (H, T, D) of both.

    Some heads at a time, so that no more than their float64 rows are held beside the runs' arrays.
    """
    p, q, x, y = (run[name] for name in ("kq_soft_max", "kqv") for run in (reference, candidate))
    step = max(1, _SHARES // max(1, p[0].size))
    found: list[HeadDifference] = []
    for start in range(0, len(p), step):
        heads = slice(start, start + step)
        numbers = _of_heads(p[heads], q[heads], x[heads], y[heads])
        columns = {name: column.tolist() for name, column in numbers.items()}
        found += [
            HeadDifference(
                **{name: column[at] for name, column in columns.items()},
                layer=layer,
                head=start + at,
            )
            for at in range(len(p[heads]))
        ]
    return tuple(found)


def _of_heads(p: Reals, q: Reals, x: Reals, y: Reals) -> dict[str, Doubles]:
    """p, q (H, T, S), x, y (H, T, D) -> the fields of ``AttentionDifference``, each (H,)."""
    variation = total_variation(p, q)
    return {
        "largest_difference": largest_difference(p, q),
        "mean_difference": mean_difference(p, q, np.count_nonzero((p > 0) | (q > 0), axis=(1, 2))),
        "total_variation": variation.mean(axis=-1),
        "largest_total_variation": variation.max(axis=-1),
        "jensen_shannon": jensen_shannon(p, q).mean(axis=-1),
        "top_changed": most_attended_changed(p, q).mean(axis=-1),
        "entropy_shift": entropy_shift(p, q).mean(axis=-1),
        "output_cosine": cosine(x, y).mean(axis=-1),
        "output_error": relative_error(x, y).mean(axis=-1),
    }


def layer_difference(
    layer: int, reference: Mapping[str, Reals], candidate: Mapping[str, Reals]
) -> LayerDifference:
    """Compare a layer: its heads as ``head_differences`` does, and ``l_out`` (T, E)."""
    x, y = reference["l_out"], candidate["l_out"]
    return LayerDifference(
        layer=layer,
        heads=head_differences(layer, reference, candidate),
        output_cosine=float(cosine(x, y).mean()),
        output_error=float(relative_error(x, y).mean()),
        tensors=(),
    )


def losses_in_parallel(logits: Reals, ids: Sequence[int]) -> Doubles:
    """logits (T, V), ids (T) -> ``token_losses``, some tokens at a time."""
    return np.concatenate(
        _in_slabs(
            logits, lambda start, stop: token_losses(logits[start:stop], ids[start : stop + 1])
        )
    )


def compare_predictions(reference: Reals, candidate: Reals, ids: Sequence[int]) -> Prediction:
    """Compare ``result_output`` (T, V) of both, for the prompt ``ids`` (T)."""

    def some(start: int, stop: int) -> tuple[Doubles, Mask, Doubles]:
        p, q = reference[start:stop], candidate[start:stop]
        logs = log_softmax(q)
        divergence = divergence_of(log_softmax(p), logs)
        return divergence, top1_agrees(p, q), losses_of(logs, ids[start : stop + 1])

    divergence, agrees, losses = map(np.concatenate, zip(*_in_slabs(reference, some), strict=True))
    return Prediction(tuple(map(float, divergence)), float(agrees.mean()), perplexity_of(losses))


def _in_slabs(logits: Reals, work: Callable[[int, int], Made]) -> list[Made]:
    """logits (T, V) -> what ``work`` returns of tokens [start, stop), until all are done."""
    step = max(1, _LOGITS // logits.shape[-1])

    @np.errstate(all="ignore")  # the setting is the thread's
    def some(start: int) -> Made:
        return work(start, min(start + step, len(logits)))

    return in_parallel(some, range(0, len(logits), step))


def join_layers(
    found: Sequence[LayerDifference],
    windows: Sequence[Sequence[int]],
    tensors: Sequence[TensorDifference],
) -> LayerDifference:
    """Return one layer over all windows (ids), each of which counts by its tokens."""
    first, tokens = found[0], [len(ids) for ids in windows]
    if len(found) == 1:
        return replace(first, tensors=tuple(tensors))
    heads = zip(*(each.heads for each in found), strict=True)
    return LayerDifference(
        layer=first.layer,
        heads=tuple(
            HeadDifference(**_together(several, tokens), layer=first.layer, head=number)
            for number, several in enumerate(heads)
        ),
        output_cosine=_mean([each.output_cosine for each in found], tokens),
        output_error=_mean([each.output_error for each in found], tokens),
        tensors=tuple(tensors),
    )


def join_predictions(found: Sequence[Prediction], windows: Sequence[Sequence[int]]) -> Prediction:
    """Return what the logits of all windows (ids) say."""
    if len(found) == 1:
        return found[0]
    return Prediction(
        tuple(nats for each in found for nats in each.kl_divergence),
        _mean([each.top1_agreement for each in found], [len(ids) for ids in windows]),
        mean_perplexity([each.perplexity for each in found], windows),
    )


def mean_perplexity(
    found: Sequence[float | None], windows: Sequence[Sequence[int]]
) -> float | None:
    """Return the perplexity of all windows (ids) from that of each: of their mean token loss."""
    if len(found) == 1:
        return found[0]
    losses = [
        (math.log(each) * (len(ids) - 1), len(ids) - 1)
        for each, ids in zip(found, windows, strict=True)
        if each is not None
    ]
    count = sum(tokens for _, tokens in losses)
    return math.exp(sum(loss for loss, _ in losses) / count) if count else None
