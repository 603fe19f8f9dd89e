"""Metadata to typed hyperparameters.

GGUF keys carry the architecture's name as their prefix (``llama.block_count``). Some of them hold
one number for the whole model or an array with one number a layer; both become a ``PerLayer``.
Defaults and limits follow ``llama_model_base::load_hparams`` in llama.cpp's ``llama-model.cpp``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
        """Give the different numbers, ascending."""
        return sorted(set(self.numbers))


@dataclass(frozen=True, slots=True)
class HParams:
    """What the metadata says of the model's shape; None where it says nothing.

    Field names are the GGUF keys without the architecture and group in front.
    """

    architecture: str
    block_count: int
    embedding_length: int | None
    vocab_size: int | None
    context_length: int | None
    feed_forward_length: PerLayer | None
    head_count: PerLayer | None
    head_count_kv: PerLayer | None
    """Equal to ``head_count`` where the file does not say."""
    key_length: int | None
    value_length: int | None
    key_length_swa: int | None
    """Head size in sliding-window layers; ``key_length`` where the file does not say."""
    value_length_swa: int | None
    rope_dimension_count: int | None
    rope_freq_base: float | None
    sliding_window: int | None
    sliding_window_pattern: PerLayer | None
    """A period (one number), or 1 for each windowed layer."""
    q_lora_rank: int | None
    kv_lora_rank: int | None
    key_length_mla: int | None
    value_length_mla: int | None
    expert_count: int | None
    expert_used_count: int | None
    expert_feed_forward_length: PerLayer | None
    nextn_predict_layers: int
    """Layers at the end that predict further tokens; 0 for most models."""
    shared_kv_layers: int
    """Layers at the end that use the keys and values of a layer before them."""
    recurrent_layers: PerLayer | None
    """1 for each layer that keeps a state instead of keys and values."""
    full_attention_interval: int | None
    """Of so many layers, the last attends and the others keep a state."""
    ssm_conv_kernel: int
    ssm_inner_size: int
    ssm_state_size: int
    ssm_group_count: int
    shortconv_l_cache: int
    """Inputs that a short convolution looks at (lfm2)."""
    kda_head_dim: int
    """Head size of a delta-attention state (Kimi)."""
    wkv_head_size: int
    """Head size of an RWKV state."""
    token_shift_count: int
    """Vectors of the last token that RWKV keeps."""
    parallel_residual: bool
    """Attention and feed-forward read the same input (``use_parallel_residual``)."""
    expert_shared_feed_forward_length: int | None
    layer_norm_epsilon: float | None
    layer_norm_rms_epsilon: float | None
    attn_logit_softcapping: float | None
    final_logit_softcapping: float | None
    rope_freq_base_swa: float | None
    rope_scaling_type: str
    """``none``, ``linear``, ``yarn`` or ``longrope``; linear where the file does not say."""
    rope_scaling_factor: float | None
    """How many times longer than in training a text may be; also under ``rope.scale_linear``."""
    rope_scaling_attn_factor: float | None
    rope_scaling_original_context_length: int | None
    """The context of training before it was stretched; ``context_length`` where it was not."""

    @property
    def is_mla(self) -> bool:
        """Whether keys and values are kept compressed (multi-head latent attention)."""
        return bool(self.key_length_mla and self.value_length_mla)


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
    """Give ``general.architecture``, or None where the file does not say."""
    return text_of(metadata, "general.architecture", 128)


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
    embedding = read.number("embedding_length")
    heads = read.per_layer("attention.head_count")
    head_size = _head_size(embedding, heads)
    context = read.number("context_length")
    key_length = read.number("attention.key_length", head_size)
    value_length = read.number("attention.value_length", head_size)
    return HParams(
        architecture=architecture,
        block_count=layers,
        embedding_length=embedding,
        vocab_size=read.number("vocab_size", _length(metadata.get("tokenizer.ggml.tokens"))),
        context_length=context,
        feed_forward_length=read.per_layer("feed_forward_length"),
        head_count=heads,
        head_count_kv=read.per_layer("attention.head_count_kv") or heads,
        key_length=key_length,
        value_length=value_length,
        key_length_swa=read.number("attention.key_length_swa", key_length),
        value_length_swa=read.number("attention.value_length_swa", value_length),
        rope_dimension_count=read.number("rope.dimension_count", key_length),
        rope_freq_base=read.real("rope.freq_base"),
        sliding_window=read.number("attention.sliding_window"),
        sliding_window_pattern=read.per_layer("attention.sliding_window_pattern"),
        q_lora_rank=read.number("attention.q_lora_rank"),
        kv_lora_rank=read.number("attention.kv_lora_rank"),
        key_length_mla=read.number("attention.key_length_mla"),
        value_length_mla=read.number("attention.value_length_mla"),
        expert_count=read.number("expert_count"),
        expert_used_count=read.number("expert_used_count"),
        expert_feed_forward_length=read.per_layer("expert_feed_forward_length"),
        nextn_predict_layers=read.count("nextn_predict_layers"),
        shared_kv_layers=read.count("attention.shared_kv_layers"),
        recurrent_layers=read.per_layer("attention.recurrent_layers"),
        full_attention_interval=read.number("full_attention_interval"),
        ssm_conv_kernel=read.count("ssm.conv_kernel"),
        ssm_inner_size=read.count("ssm.inner_size"),
        ssm_state_size=read.count("ssm.state_size"),
        ssm_group_count=read.count("ssm.group_count"),
        shortconv_l_cache=read.count("shortconv.l_cache"),
        kda_head_dim=read.count("kda.head_dim"),
        wkv_head_size=read.count("wkv.head_size"),
        token_shift_count=read.count("token_shift_count", 2),
        parallel_residual=metadata.get(f"{architecture}.use_parallel_residual") is True,
        expert_shared_feed_forward_length=read.number("expert_shared_feed_forward_length"),
        layer_norm_epsilon=read.real("attention.layer_norm_epsilon"),
        layer_norm_rms_epsilon=read.real("attention.layer_norm_rms_epsilon"),
        attn_logit_softcapping=read.real("attn_logit_softcapping"),
        final_logit_softcapping=read.real("final_logit_softcapping"),
        rope_freq_base_swa=read.real("rope.freq_base_swa"),
        rope_scaling_type=read.text("rope.scaling.type", "linear"),
        rope_scaling_factor=read.real("rope.scaling.factor") or read.real("rope.scale_linear"),
        rope_scaling_attn_factor=read.real("rope.scaling.attn_factor"),
        rope_scaling_original_context_length=read.number(
            "rope.scaling.original_context_length", context
        ),
    )


def _head_size(embedding: int | None, heads: PerLayer | None) -> int | None:
    """Give llama.cpp's default head size: the embedding shared out among the heads of layer 0."""
    return embedding // heads[0] if embedding and heads and heads[0] else None


def _length(value: Any) -> int | None:
    return len(value) if isinstance(value, Array | list | tuple) else None


class _Reader:
    """The keys of one architecture, checked as they are read."""

    def __init__(self, metadata: Mapping[str, Any], architecture: str) -> None:
        self.metadata = metadata
        self.prefix = architecture
        self.layers = 0

    def number(self, key: str, default: int | None = None) -> int | None:
        """Give a whole number, not negative; ``default`` where the key is missing."""
        full = f"{self.prefix}.{key}"
        if full not in self.metadata:
            return default
        return self._whole(full, value_of(self.metadata, full))

    def count(self, key: str, default: int = 0) -> int:
        """Give a number of things; ``default`` where the key is missing."""
        return self.number(key, default) or 0

    def real(self, key: str) -> float | None:
        full = f"{self.prefix}.{key}"
        value = value_of(self.metadata, full)
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            return value
        raise _wrong(full, value, "a number")

    def text(self, key: str, default: str) -> str:
        full = f"{self.prefix}.{key}"
        value = value_of(self.metadata, full) if full in self.metadata else default
        if not isinstance(value, str):
            raise _wrong(full, value, "a text")
        return value

    def per_layer(self, key: str) -> PerLayer | None:
        """Give a number, or an array (list, tuple) with one number (or bool) a layer.

        llama.cpp wants exactly one a layer, but reads a window pattern that is longer.
        """
        full = f"{self.prefix}.{key}"
        value = value_of(self.metadata, full)
        if value is None:
            return None
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if not isinstance(value, Array | list | tuple):
            return PerLayer((self._whole(full, value),))
        if len(value) < self.layers or (len(value) > self.layers and not key.endswith("pattern")):
            raise HyperparameterError(
                f"key '{full}' has {len(value)} entries for {self.layers} layers",
                hint="the metadata contradicts itself: the file was converted wrongly",
            )
        each = value.head(self.layers) if isinstance(value, Array) else value[: self.layers]
        numbers = (int(n) if isinstance(n, bool) else self._whole(full, n) for n in each)
        return PerLayer(tuple(numbers))

    def _whole(self, key: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise _wrong(key, value, "a whole number")
        return value


def _wrong(key: str, value: Any, wanted: str) -> HyperparameterError:
    return HyperparameterError(
        f"key '{key}' is {value!r:.60}, not {wanted}", hint="the metadata is damaged"
    )
