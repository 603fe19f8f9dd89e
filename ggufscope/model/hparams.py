"""Metadata to typed hyperparameters.

GGUF keys carry the architecture's name as their prefix (``llama.block_count``). Some of them hold
one number for the whole model or an array with one number a layer; both become a ``PerLayer``.
Defaults and limits follow ``llama_model_base::load_hparams`` in llama.cpp's ``llama-model.cpp``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

import numpy as np

from ggufscope.container.header import Metadata
from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Array
from ggufscope.errors import HyperparameterError

MAX_LAYERS: Final = 512
"""llama.cpp refuses a model of more layers than this (``LLAMA_MAX_LAYERS``)."""


@dataclass(frozen=True, slots=True)
class PerLayer:
    """One number for all layers, or one for each."""

    numbers: tuple[int, ...]

    def __getitem__(self, layer: int) -> int:
        return self.numbers[0] if len(self.numbers) == 1 else self.numbers[layer]

    def distinct(self) -> list[int]:
        """Return the different numbers, ascending."""
        return sorted(set(self.numbers))


def value_of(metadata: Mapping[str, Any], key: str, most: int = 512) -> Any:
    """Return a value, None where there is none; of a text no more than its first ``most`` bytes.

    The rest of a longer text is not even decoded: no key that is read here has one, and a hostile
    file may have gigabytes of it.
    """
    if isinstance(metadata, Metadata):
        value = metadata.typed.get(key)
        if value is not None and value.type is ValueType.STRING:
            return value.head(most)
    return metadata.get(key)


def text_of(metadata: Mapping[str, Any], key: str, most: int = 512) -> str | None:
    """Return a text, no more than its first ``most`` bytes; None where there is no text."""
    value = value_of(metadata, key, most)
    return value if isinstance(value, str) else None


def architecture_of(metadata: Mapping[str, Any]) -> str | None:
    """Return ``general.architecture``, or None where the file does not say."""
    return text_of(metadata, "general.architecture", 128)


_LISTS: Final = Array | list | tuple
"""What holds one number a layer: as a file has it, or as a caller does."""


class _Reader:
    """The keys of one architecture, checked as they are read."""

    def __init__(self, metadata: Mapping[str, Any], architecture: str) -> None:
        self.metadata = metadata
        self.prefix = architecture
        self.layers = 0

    def _value(self, key: str) -> tuple[str, Any]:
        full = f"{self.prefix}.{key}"
        return full, value_of(self.metadata, full)

    def number(self, key: str, default: int | None = None) -> int | None:
        """Return a whole number, not negative."""
        full, value = self._value(key)
        return default if value is None else _whole(full, value)

    def count(self, key: str, default: int) -> int:
        """Return a number of things."""
        return self.number(key, default) or 0

    def head_size(self, key: str, default: None = None) -> int | None:
        """Return the size of a head: as llama.cpp, the embedding over the heads of layer 0."""
        embedding, heads = self.number("embedding_length"), self.per_layer("attention.head_count")
        return self.number(key, embedding // heads[0] if embedding and heads and heads[0] else None)

    def vocabulary(self, key: str, default: None = None) -> int | None:
        """Return the size of the vocabulary: where the key is missing, the number of tokens."""
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        return self.number(key, len(tokens) if isinstance(tokens, _LISTS) else None)

    def is_true(self, key: str, default: None = None) -> bool:
        """Return whether a flag is set."""
        return self._value(key)[1] is True

    def real(self, key: str, default: None = None) -> float | None:
        """Return a number of any kind."""
        full, value = self._value(key)
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            return value
        raise _wrong(full, value, "a number")

    def stretch(self, key: str, default: None = None) -> float | None:
        """Return a number, also under the key that older files have for it."""
        return self.real(key) or self.real("rope.scale_linear")

    def text(self, key: str, default: str) -> str:
        """Return a text."""
        full, value = self._value(key)
        if value is not None and not isinstance(value, str):
            raise _wrong(full, value, "a text")
        return default if value is None else value

    def per_layer(self, key: str, default: PerLayer | None = None) -> PerLayer | None:
        """Return a number, or an array (list, tuple) with one number (or bool) a layer.

        llama.cpp wants exactly one a layer, but reads a window pattern that is longer.
        """
        full, value = self._value(key)
        if value is None:
            return default
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if not isinstance(value, _LISTS):
            return PerLayer((_whole(full, value),))
        if len(value) < self.layers or (len(value) > self.layers and not key.endswith("pattern")):
            raise HyperparameterError(
                f"key '{full}' has {len(value)} entries for {self.layers} layers",
                hint="the metadata contradicts itself: the file was converted wrongly",
            )
        each = value.head(self.layers) if isinstance(value, Array) else value[: self.layers]
        return PerLayer(tuple(int(n) if isinstance(n, bool) else _whole(full, n) for n in each))


def _whole(key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _wrong(key, value, "a whole number")
    return value


def _wrong(key: str, value: Any, wanted: str) -> HyperparameterError:
    return HyperparameterError(
        f"key '{key}' is {value!r:.60}, not {wanted}", hint="the metadata is damaged"
    )


def _key(
    key: str, read: Callable[..., Any] = _Reader.number, default: Any = None, same_as: str = ""
) -> Any:
    """Return the field of a key: how it is read, and what holds where the file lacks it.

    ``same_as`` is a field before it, whose value it has then.
    """
    return field(metadata={"key": key, "read": read, "default": default, "same_as": same_as})


@dataclass(frozen=True, slots=True)
class HParams:
    """What the metadata says of the model's shape; None where it says nothing.

    Field names are the GGUF keys without the architecture and group in front.
    """

    architecture: str
    block_count: int
    embedding_length: int | None = _key("embedding_length")
    head_count: PerLayer | None = _key("attention.head_count", _Reader.per_layer)
    context_length: int | None = _key("context_length")
    key_length: int | None = _key("attention.key_length", _Reader.head_size)
    value_length: int | None = _key("attention.value_length", _Reader.head_size)
    vocab_size: int | None = _key("vocab_size", _Reader.vocabulary)
    feed_forward_length: PerLayer | None = _key("feed_forward_length", _Reader.per_layer)
    head_count_kv: PerLayer | None = _key(
        "attention.head_count_kv", _Reader.per_layer, same_as="head_count"
    )
    key_length_swa: int | None = _key("attention.key_length_swa", same_as="key_length")
    """Head size in sliding-window layers."""
    value_length_swa: int | None = _key("attention.value_length_swa", same_as="value_length")
    rope_dimension_count: int | None = _key("rope.dimension_count", same_as="key_length")
    rope_freq_base: float | None = _key("rope.freq_base", _Reader.real)
    sliding_window: int | None = _key("attention.sliding_window")
    sliding_window_pattern: PerLayer | None = _key(
        "attention.sliding_window_pattern", _Reader.per_layer
    )
    """A period (one number), or 1 for each windowed layer."""
    q_lora_rank: int | None = _key("attention.q_lora_rank")
    kv_lora_rank: int | None = _key("attention.kv_lora_rank")
    key_length_mla: int | None = _key("attention.key_length_mla")
    value_length_mla: int | None = _key("attention.value_length_mla")
    expert_count: int | None = _key("expert_count")
    expert_used_count: int | None = _key("expert_used_count")
    expert_feed_forward_length: PerLayer | None = _key(
        "expert_feed_forward_length", _Reader.per_layer
    )
    nextn_predict_layers: int = _key("nextn_predict_layers", _Reader.count, 0)
    """Layers at the end that predict further tokens; 0 for most models."""
    shared_kv_layers: int = _key("attention.shared_kv_layers", _Reader.count, 0)
    """Layers at the end that use the keys and values of a layer before them."""
    recurrent_layers: PerLayer | None = _key("attention.recurrent_layers", _Reader.per_layer)
    """1 for each layer that keeps a state instead of keys and values."""
    full_attention_interval: int | None = _key("full_attention_interval")
    """Of so many layers, the last attends and the others keep a state."""
    ssm_conv_kernel: int = _key("ssm.conv_kernel", _Reader.count, 0)
    ssm_inner_size: int = _key("ssm.inner_size", _Reader.count, 0)
    ssm_state_size: int = _key("ssm.state_size", _Reader.count, 0)
    ssm_group_count: int = _key("ssm.group_count", _Reader.count, 0)
    shortconv_l_cache: int = _key("shortconv.l_cache", _Reader.count, 0)
    """Inputs that a short convolution looks at (lfm2)."""
    kda_head_dim: int = _key("kda.head_dim", _Reader.count, 0)
    """Head size of a delta-attention state (Kimi)."""
    wkv_head_size: int = _key("wkv.head_size", _Reader.count, 0)
    """Head size of an RWKV state."""
    token_shift_count: int = _key("token_shift_count", _Reader.count, 2)
    """Vectors of the last token that RWKV keeps."""
    parallel_residual: bool = _key("use_parallel_residual", _Reader.is_true)
    """Attention and feed-forward read the same input."""
    expert_shared_feed_forward_length: int | None = _key("expert_shared_feed_forward_length")
    layer_norm_epsilon: float | None = _key("attention.layer_norm_epsilon", _Reader.real)
    layer_norm_rms_epsilon: float | None = _key("attention.layer_norm_rms_epsilon", _Reader.real)
    attn_logit_softcapping: float | None = _key("attn_logit_softcapping", _Reader.real)
    final_logit_softcapping: float | None = _key("final_logit_softcapping", _Reader.real)
    rope_freq_base_swa: float | None = _key("rope.freq_base_swa", _Reader.real)
    rope_scaling_type: str = _key("rope.scaling.type", _Reader.text, "linear")
    """``none``, ``linear``, ``yarn`` or ``longrope``."""
    rope_scaling_factor: float | None = _key("rope.scaling.factor", _Reader.stretch)
    """How many times longer than in training a text may be."""
    rope_scaling_attn_factor: float | None = _key("rope.scaling.attn_factor", _Reader.real)
    rope_scaling_original_context_length: int | None = _key(
        "rope.scaling.original_context_length", same_as="context_length"
    )
    """The context of training before it was stretched."""

    @property
    def is_mla(self) -> bool:
        """Whether keys and values are kept compressed (multi-head latent attention)."""
        return bool(self.key_length_mla and self.value_length_mla)


def read_hparams(metadata: Mapping[str, Any]) -> HParams:
    """Read the hyperparameters of a model.

    Raises ``HyperparameterError``, naming the key, for a value that is missing though nothing
    works without it, of the wrong type, absurd, or in contradiction with another.
    """
    architecture = architecture_of(metadata)
    if architecture is None:
        raise HyperparameterError(
            "key 'general.architecture' is missing or not a string",
            hint="the file does not say what kind of model it is: it may be an adapter or data",
        )
    read = _Reader(metadata, architecture)
    layers = read.number("block_count")
    if layers is None or not 0 < layers <= MAX_LAYERS:
        said = "missing" if layers is None else str(layers)
        raise HyperparameterError(
            f"key '{architecture}.block_count' is {said}: a model has 1 to {MAX_LAYERS} layers",
            hint="the metadata is incomplete or damaged",
        )
    read.layers = layers
    found: dict[str, Any] = {"architecture": architecture, "block_count": layers}
    for each in fields(HParams)[len(found) :]:
        how = each.metadata
        default = found[how["same_as"]] if how["same_as"] else how["default"]
        found[each.name] = how["read"](read, how["key"], default)
    return HParams(**found)
