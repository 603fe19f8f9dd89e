"""The symbols of a shape, and the numbers that stand for them in one layer of one model."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

from ggufscope.errors import HyperparameterError
from ggufscope.model.hparams import HParams
from ggufscope.model.keys import PerLayer

# Symbol -> what it stands for, and the key that says it; none for what a pass decides.
_MEANINGS: Final = {
    "T": ("tokens in this pass", ""),
    "S": ("tokens that can be seen", ""),
    "E": ("embedding", "embedding_length"),
    "V": ("vocabulary", "vocab_size"),
    "H": ("heads", "attention.head_count"),
    "K": ("key/value heads", "attention.head_count_kv"),
    "D": ("head size", "attention.key_length"),
    "M": ("value head size", "attention.value_length"),
    "F": ("feed-forward", "feed_forward_length"),
    "X": ("experts", "expert_count"),
    "U": ("experts used", "expert_used_count"),
    "P": ("expert width", "expert_feed_forward_length"),
    "L": ("latent", "attention.kv_lora_rank"),
    "Q": ("query latent", "attention.q_lora_rank"),
    "R": ("rotated part", "rope.dimension_count"),
    "N": ("unrotated part", "attention.key_length"),
}

SYMBOLS: Final = {symbol: words for symbol, (words, _) in _MEANINGS.items()}
"""What each symbol stands for, in the words of a legend."""


def layer_dims(
    hparams: HParams, layer: int, tokens: int, window: int | None
) -> dict[str, int | None]:
    """Return the number of each symbol in one layer; None where the metadata does not say.

    ``tokens`` is T, and all there is to see; a windowed layer sees no more than ``window``.
    """
    windowed = window is not None
    key_length = hparams.key_length_swa if windowed else hparams.key_length
    value_length = hparams.value_length_swa if windowed else hparams.value_length
    if hparams.is_mla:  # the cached sizes are those of the latent; heads have their own
        key_length, value_length = hparams.key_length_mla, hparams.value_length_mla
    rotated = hparams.rope_dimension_count
    width = _at(hparams.feed_forward_length, layer)
    return {
        "T": tokens,
        "S": min(tokens, window) if window is not None else tokens,
        "E": hparams.embedding_length,
        "V": hparams.vocab_size,
        "H": _at(hparams.head_count, layer),
        "K": _at(hparams.head_count_kv, layer),
        "D": key_length,
        "M": value_length,
        "F": width,
        "X": hparams.expert_count,
        "U": hparams.expert_used_count,
        "P": _at(hparams.expert_feed_forward_length, layer) or width,
        "L": hparams.kv_lora_rank,
        "Q": hparams.q_lora_rank,
        "R": rotated,
        "N": key_length - rotated if key_length and rotated is not None else None,
    }


def unknown_symbol(axis: str, dims: Mapping[str, int | None]) -> str | None:
    """Return the first symbol of an axis that has no usable number; None where all have."""
    return next(
        (s for s in re.split("[*+]", axis) if not s.isdigit() and (dims.get(s) or 0) <= 0), None
    )


def measure(axis: str, dims: Mapping[str, int | None], architecture: str) -> int:
    """Return the extent of an axis such as ``H*D+K*D``.

    Raises ``HyperparameterError``, naming the key, where the file lacks a number or it is zero.
    """
    symbol = unknown_symbol(axis, dims)
    if symbol is not None:
        number = dims[symbol]
        said = "missing" if number is None else f"not usable, it gives {number}"
        raise HyperparameterError(
            f"key '{architecture}.{_MEANINGS[symbol][1] or symbol}' is {said}",
            hint="without it the shapes of what the model computes cannot be told",
        )
    return sum(
        math.prod(int(s) if s.isdigit() else dims[s] or 0 for s in term.split("*"))
        for term in axis.split("+")
    )


def _at(numbers: PerLayer | None, layer: int) -> int | None:
    return None if numbers is None else numbers[layer]
