"""``Comparison``: a reference and its candidates on one prompt, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ggufscope.blocks.error import NO_ERROR, WeightError
from ggufscope.measure.differences import (
    AttentionDifference,
    HeadDifference,
    LayerDifference,
    Prediction,
    TensorDifference,
    average,
)
from ggufscope.measure.verdict import Verdict


@dataclass(frozen=True, slots=True)
class CandidateDifference(Prediction):
    """One candidate, against the reference: what it predicts, and all that differs."""

    name: str
    types: Mapping[str, int]
    """Type -> number of tensors that differ from the reference and are of it."""
    bits_per_weight: float
    """Of all its tensors."""
    cache_types: tuple[str, str] | None
    """Types of the K and V cache where they are not float32."""
    in_memory: bool
    """Whether it was made here, and not read from a file."""
    layers: tuple[LayerDifference, ...]
    other_tensors: tuple[TensorDifference, ...]
    """Those that belong to no layer: embeddings and output."""
    verdict: Verdict

    @property
    def heads(self) -> tuple[HeadDifference, ...]:
        """The heads of all layers."""
        return tuple(head for layer in self.layers for head in layer.heads)

    @property
    def attention(self) -> AttentionDifference:
        """The average of all heads."""
        return average(self.heads)

    @property
    def output_error(self) -> float:
        """Mean over layers of the relative error of ``l_out``."""
        return float(np.mean([layer.output_error for layer in self.layers]))

    @property
    def output_cosine(self) -> float:
        """Mean over layers of the cosine of ``l_out``."""
        return float(np.mean([layer.output_cosine for layer in self.layers]))

    @property
    def tensors(self) -> tuple[TensorDifference, ...]:
        """All tensors that differ."""
        return (*(t for layer in self.layers for t in layer.tensors), *self.other_tensors)

    @property
    def weight_error(self) -> WeightError:
        """The error of all tensors together."""
        return sum((tensor.error for tensor in self.tensors), NO_ERROR)

    def worst_heads(self, count: int | None = None) -> list[HeadDifference]:
        """Return the heads whose attention went astray most, the worst first."""
        order = sorted(self.heads, key=lambda h: (-h.total_variation, -h.output_error))
        return order[:count]


def is_original(types: Mapping[str, int]) -> bool:
    """Return whether most matrices, counted by type, are of a type that is not quantized."""
    plain = sum(types.get(type_, 0) for type_ in ("F64", "F32", "F16", "BF16"))
    return 2 * plain >= sum(types.values())


@dataclass(frozen=True, slots=True)
class NextToken:
    """A token that may follow the prompt."""

    id: int
    shares: tuple[float, ...]
    """How likely it is held by the reference, then by each candidate."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A reference and its candidates on one prompt."""

    windows: tuple[tuple[int, ...], ...]
    """The prompt: the ids (T,) of each window. One, where it is no longer than the context."""
    types: Mapping[str, int]
    """Type -> number of the reference's matrices that are stored in it, the commonest first."""
    perplexity: float | None
    """Of the prompt, by the reference. None for a prompt of one token."""
    candidates: tuple[CandidateDifference, ...]
    next_tokens: tuple[NextToken, ...] = ()
    """Those that any run holds among the likeliest, by what the reference holds."""

    @property
    def n_tokens(self) -> int:
        """How many tokens were run, in all windows."""
        return sum(map(len, self.windows))

    @property
    def accepted(self) -> bool:
        """Whether all candidates will do."""
        return all(candidate.verdict.accepted for candidate in self.candidates)

    def perplexity_ratio(self, candidate: CandidateDifference) -> float | None:
        """Return the candidate's perplexity over the reference's; None for a single token."""
        if candidate.perplexity is None or not self.perplexity:
            return None
        return candidate.perplexity / self.perplexity

    @property
    def original(self) -> bool:
        """Whether the reference is the original, as far as its types tell: most are not quantized.

        A model may be trained with some of its matrices quantized, as gpt-oss is with its experts.
        """
        return is_original(self.types)

    @property
    def worst(self) -> int:
        """The number of the first candidate that will not do, or else of the furthest one."""
        out = (n for n, each in enumerate(self.candidates) if not each.verdict.accepted)
        moved = [each.attention.total_variation for each in self.candidates]
        return next(out, max(range(len(moved)), key=moved.__getitem__))
