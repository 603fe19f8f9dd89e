"""What was measured between two runs, head by head and layer by layer.

Every number is defined in ``metrics``. Here they are only taken of the right quantities, by
llama.cpp's names, and averaged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np

from ggufscope.arrays import Doubles, Mask, Reals
from ggufscope.blocks.error import NO_ERROR, WeightError
from ggufscope.measure.metrics.distributions import (
    kl_divergence,
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

_LOGITS: Final = 1 << 18
"""Logits that are compared together, in float64."""


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

    Head by head, so that no more than a head's float64 rows are held beside the runs' own arrays.
    """
    heads = zip(
        reference["kq_soft_max"],
        candidate["kq_soft_max"],
        reference["kqv"],
        candidate["kqv"],
        strict=True,
    )
    found = []
    for number, (p, q, x, y) in enumerate(heads):
        variation = total_variation(p, q)
        visible = int(np.count_nonzero((p > 0) | (q > 0)))
        found.append(
            HeadDifference(
                layer=layer,
                head=number,
                largest_difference=float(largest_difference(p, q)),
                mean_difference=float(mean_difference(p, q, visible)),
                total_variation=float(variation.mean()),
                largest_total_variation=float(variation.max()),
                jensen_shannon=float(jensen_shannon(p, q).mean()),
                top_changed=float(most_attended_changed(p, q).mean()),
                entropy_shift=float(entropy_shift(p, q).mean()),
                output_cosine=float(cosine(x, y).mean()),
                output_error=float(relative_error(x, y).mean()),
            )
        )
    return tuple(found)


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


def compare_predictions(reference: Reals, candidate: Reals, ids: Sequence[int]) -> Prediction:
    """Compare ``result_output`` (T, V) of both, for the prompt ``ids`` (T)."""
    step = max(1, _LOGITS // reference.shape[-1])

    @np.errstate(all="ignore")  # the setting is the thread's
    def some(start: int) -> tuple[Doubles, Mask, Doubles]:
        stop = start + step
        p, q = reference[start:stop], candidate[start:stop]
        return kl_divergence(p, q), top1_agrees(p, q), token_losses(q, ids[start : stop + 1])

    parts = in_parallel(some, range(0, len(ids), step))
    divergence, agrees, losses = map(np.concatenate, zip(*parts, strict=True))
    return Prediction(tuple(map(float, divergence)), float(agrees.mean()), perplexity_of(losses))


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
