"""What is checked before any long work: the family, its numbers, the text, the memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Final

from ggufscope.errors import (
    EmptyPrompt,
    HyperparameterError,
    NotRunnable,
    TextNotIds,
    TokenUnknown,
    TooManyTokens,
)
from ggufscope.forward.families import GRAPHS
from ggufscope.forward.graph import Graph
from ggufscope.machine import require_memory
from ggufscope.model.hparams import ROPE_SCALINGS, HParams

_HINT: Final = "llama.cpp would not load it either: the file was converted wrongly"
_FLOAT: Final = 4
_SCRATCH: Final = 1 << 28
"""Bytes for tiles of weights and a stretch of scores."""


def graph_of(architecture: str) -> Graph:
    """Return the graph of an architecture, or raise ``NotRunnable`` that says which there are."""
    graph = GRAPHS.get(architecture)
    if graph is None:
        raise NotRunnable(
            f"architecture '{architecture}' cannot be run: its forward pass is not built",
            hint=f"these can: {', '.join(GRAPHS)}; `ggufscope list` shows any model's anatomy",
        )
    return graph


def require_numbers(hparams: HParams, graph: Graph) -> None:
    """Raise ``HyperparameterError``, naming the key, where a pass could not be computed."""
    prefix = hparams.architecture
    epsilon = "layer_norm_rms_epsilon" if graph.norm == "rms" else "layer_norm_epsilon"
    reals = {
        f"attention.{epsilon}": getattr(hparams, epsilon),
        "attn_logit_softcapping": hparams.attn_logit_softcapping,
        "final_logit_softcapping": hparams.final_logit_softcapping,
        "rope.freq_base": hparams.rope_freq_base,
        "rope.freq_base_swa": hparams.rope_freq_base_swa,
        "rope.scaling.factor": hparams.rope_scaling_factor,
        "rope.scaling.attn_factor": hparams.rope_scaling_attn_factor,
    }
    for key, real in reals.items():
        least = 1.0 if "freq_base" in key else 0.0
        if real is not None and not (math.isfinite(real) and real >= least):
            raise _unusable(f"{prefix}.{key}", real)
    needed = {
        f"attention.{epsilon}": getattr(hparams, epsilon),
        "embedding_length": hparams.embedding_length,
        "attention.head_count": hparams.head_count,
    }
    for key, value in needed.items():
        if value is None:
            raise _unusable(f"{prefix}.{key}", value)
    _require_heads(hparams)
    if hparams.rope_scaling_type not in ROPE_SCALINGS:
        scaling = repr(hparams.rope_scaling_type)
        raise _unusable(f"{prefix}.rope.scaling.type", scaling, f", not {', '.join(ROPE_SCALINGS)}")
    if hparams.rope_scaling_type == "yarn":
        context = hparams.rope_scaling_original_context_length
        if not context:
            raise _unusable(f"{prefix}.rope.scaling.original_context_length", context)
        if hparams.rope_freq_base == 1.0:
            raise _unusable(f"{prefix}.rope.freq_base", hparams.rope_freq_base)
    used, experts = hparams.expert_used_count, hparams.expert_count
    if experts and not 0 < (used or 0) <= experts:
        raise _unusable(f"{prefix}.expert_used_count", used, f", of {experts} experts")


def _require_heads(hparams: HParams) -> None:
    for layer in range(hparams.block_count):
        heads, groups = (
            numbers[layer] if numbers else 0
            for numbers in (hparams.head_count, hparams.head_count_kv)
        )
        if not heads or not groups or heads % groups:
            raise HyperparameterError(
                f"layer {layer} has {heads} heads and {groups} key heads, which cannot be shared",
                hint=_HINT,
            )
    rotated, size = hparams.rope_dimension_count or 0, hparams.key_length or 0
    for whole in (size, hparams.key_length_swa or 0):
        if rotated % 2 or rotated > whole:
            key = f"{hparams.architecture}.rope.dimension_count"
            raise _unusable(key, rotated, f": not an even part of a head of {whole}")


def _unusable(key: str, value: object, why: str = "") -> HyperparameterError:
    said = "missing" if value is None else f"{value}"
    return HyperparameterError(f"key '{key}' is {said}{why}: the model cannot be run", hint=_HINT)


def require_ids(ids: Sequence[int], past: int, vocabulary: int, context: int | None) -> None:
    """Raise ``TextNotIds``, ``EmptyPrompt``, ``TokenUnknown`` or ``TooManyTokens``.

    ``past``: how many tokens a cache holds already.
    """
    if isinstance(ids, str):
        raise TextNotIds(
            f"a text cannot be run, only its token ids: {ids[:40]!r}",
            hint="make them: ids = ggufscope.read_tokenizer(file.metadata).encode(text)",
        )
    if len(ids) == 0:
        raise EmptyPrompt("the prompt is empty: there is nothing to run", hint="give some text")
    for position, token in enumerate(ids, past):
        if not isinstance(token, Integral) or not 0 <= token < vocabulary:
            raise TokenUnknown(
                f"token {token} at position {position} is not in the vocabulary",
                hint=f"the model has {vocabulary} entries: 0 to {vocabulary - 1}",
            )
    if context is not None and past + len(ids) > context:
        raise TooManyTokens(
            f"{past + len(ids)} tokens are more than the model's context of {context}",
            hint="give a shorter text; `ggufscope evaluate` takes one of any length, in chunks",
        )


def require_memory_for(
    hparams: HParams, tokens: int, *, matrices: int, logits: bool, runs: int = 1
) -> None:
    """Raise ``TooMuchMemory`` where a pass over so many tokens would take more than there is.

    ``matrices``: how many layers' ``kq_soft_max`` are held at a time; ``logits``: those of all
    tokens; ``runs``: passes side by side.
    """
    heads = max(hparams.head_count.numbers) if hparams.head_count else 0
    size = max(hparams.key_length or 0, hparams.key_length_swa or 0, hparams.value_length or 0)
    embedding, experts = hparams.embedding_length or 0, hparams.expert_used_count or 0
    wide = max(hparams.feed_forward_length.numbers) if hparams.feed_forward_length else 0
    if experts:
        widths = hparams.expert_feed_forward_length
        wide = max(wide, experts * ((max(widths.numbers) if widths else wide) + embedding))
    each = 6 * embedding + 4 * wide + 6 * heads * size
    each += (hparams.vocab_size or 0) if logits else 0
    each += matrices * heads * tokens
    needed = runs * _FLOAT * tokens * each + _SCRATCH
    require_memory(
        needed,
        f"a pass over {tokens:,} tokens",
        "give a shorter text" + (", or ask for less than all matrices" if matrices else ""),
    )
