"""The symbols of a shape, and the numbers that stand for them in one layer of one model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from ggufscope.errors import HyperparameterError
from ggufscope.model.hparams import HParams, PerLayer

SYMBOLS: Final = {
    "T": "tokens in this pass",
    "S": "tokens that can be seen",
    "E": "embedding",
    "V": "vocabulary",
    "H": "heads",
    "K": "key/value heads",
    "D": "head size",
    "M": "value head size",
    "F": "feed-forward",
    "X": "experts",
    "U": "experts used",
    "P": "expert width",
    "L": "latent",
    "Q": "query latent",
    "R": "rotated part",
    "N": "unrotated part",
}
"""What each symbol stands for, in the words of a legend."""

# Where the number of a symbol comes from, to say so when the file lacks it.
_KEYS: Final = {
    "E": "embedding_length",
    "V": "vocab_size",
    "H": "attention.head_count",
    "K": "attention.head_count_kv",
    "D": "attention.key_length",
    "M": "attention.value_length",
    "F": "feed_forward_length",
    "X": "expert_count",
    "U": "expert_used_count",
    "P": "expert_feed_forward_length",
    "L": "attention.kv_lora_rank",
    "Q": "attention.q_lora_rank",
    "R": "rope.dimension_count",
    "N": "attention.key_length",
}


def layer_dims(
    hparams: HParams, layer: int, tokens: int, window: int | None
) -> dict[str, int | None]:
    """Give the number of each symbol in one layer; None where the metadata does not say.

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


def measure(axis: str, dims: Mapping[str, int | None], architecture: str) -> int:
    """Give the extent of an axis such as ``H*D+K*D``.

    Raises ``HyperparameterError``, naming the key, where the file lacks a number or it is zero.
    """
    return sum(
        math.prod(_number(symbol, dims, architecture) for symbol in term.split("*"))
        for term in axis.split("+")
    )


def _at(numbers: PerLayer | None, layer: int) -> int | None:
    return None if numbers is None else numbers[layer]


def _number(symbol: str, dims: Mapping[str, int | None], architecture: str) -> int:
    if symbol.isdigit():
        return int(symbol)
    number = dims[symbol]
    if number is None or number <= 0:
        said = "missing" if number is None else f"not usable, it gives {number}"
        raise HyperparameterError(
            f"key '{architecture}.{_KEYS.get(symbol, symbol)}' is {said}",
            hint="without it the shapes of what the model computes cannot be told",
        )
    return number
