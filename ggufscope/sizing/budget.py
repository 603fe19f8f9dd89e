"""What a model takes in memory while it runs: weights, cache, logits, and room to compute in.

Weights, cache and logits are exact. Compute buffers are not: how tensors share them is decided by
an allocator over the whole graph, and every backend has its own. They are given as a range that
holds what llama.cpp's CPU backend allocates for every shape of ``shapes.py`` (a test shows it).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ggufscope.blocks.layouts import LAYOUTS
from ggufscope.errors import NotDerivable
from ggufscope.model.hparams import HParams, read_hparams
from ggufscope.model.keys import PerLayer
from ggufscope.sizing.kv_cache import CacheKind, CacheSizes, cache_of
from ggufscope.sizing.settings import RunSettings

_FLOAT: Final = LAYOUTS["F32"].block_bytes


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes, no fewer and no more."""

    low: int
    high: int

    def __add__(self, other: Range | int) -> Range:
        if isinstance(other, int):
            return Range(self.low + other, self.high + other)
        return Range(self.low + other.low, self.high + other.high)


@dataclass(frozen=True, slots=True)
class RunMemory:
    """What a run takes beside the weights."""

    settings: RunSettings
    cache: CacheSizes
    logits: int
    """Bytes of scores handed out, one set for each sequence; always in the host's memory."""
    compute: Range
    """An estimate."""

    def with_weights(self, nbytes: int) -> Range:
        """Return the total, for weights of so many bytes."""
        return self.compute + (nbytes + self.cache.nbytes + self.logits)


def memory_of(metadata: Mapping[str, Any], settings: RunSettings) -> RunMemory:
    """Return what a run takes beside the weights, by a model's metadata alone.

    Raises what ``kv_cache_of`` raises.
    """
    return run_memory(read_hparams(metadata), settings)


def run_memory(hparams: HParams, settings: RunSettings) -> RunMemory:
    """Return the same, from hyperparameters."""
    vocabulary = hparams.vocab_size
    if not vocabulary:
        raise NotDerivable(
            "the vocabulary has no size: there is neither a tokenizer nor a key "
            f"'{hparams.architecture}.vocab_size'",
            hint="the metadata is incomplete",
        )
    cache = cache_of(hparams, settings)
    logits = settings.parallel * vocabulary * _FLOAT
    return RunMemory(settings, cache, logits, _compute(hparams, cache))


def _compute(hparams: HParams, cache: CacheSizes) -> Range:
    """Estimate the compute buffers, of one device that holds the whole graph.

    At least: the logits of a batch, or a feed-forward at its widest. At most: both, the queries
    twice, four vectors a token, a mask, and with recurrent states those twice and, for each head, a
    weight for every pair of tokens. Without flash attention the scores of all heads come on top,
    for as many tokens as the cache has cells.
    """
    settings = cache.settings
    tokens, seen = settings.tokens_at_once, settings.cells * settings.streams
    vocabulary, embedding = hparams.vocab_size or 0, hparams.embedding_length or 0
    heads = _widest(hparams.head_count)
    experts = _widest(hparams.expert_feed_forward_length) or _widest(hparams.feed_forward_length)
    experts *= hparams.expert_used_count or 0
    convolved = hparams.ssm_inner_size + 2 * hparams.ssm_group_count * hparams.ssm_state_size
    wide = max(_widest(hparams.feed_forward_length), experts, convolved)
    least = 2 * (experts or wide) + embedding
    queries = heads * max(hparams.key_length or 0, hparams.key_length_swa or 0)
    low = _FLOAT * tokens * max(vocabulary, least)
    high = _FLOAT * tokens * (vocabulary + 3 * wide + 4 * embedding + 2 * queries)
    high += tokens * seen * (_FLOAT + LAYOUTS["F16"].block_bytes)
    states = [part.nbytes for part in cache.parts if part.kind is CacheKind.STATE]
    if states:
        high += 2 * sum(states) + _FLOAT * tokens * tokens * heads
    if not settings.flash_attention:
        scores = _FLOAT * tokens * settings.cells * heads
        low, high = max(low, scores), high + scores
    return Range(low, high)


def _widest(numbers: PerLayer | None) -> int:
    return max(numbers.numbers) if numbers else 0
