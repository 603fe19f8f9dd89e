"""Metadata to typed hyperparameters.

GGUF keys carry the architecture's name as their prefix (``llama.block_count``). What holds where a
key is missing follows ``llama_model_base::load_hparams`` in llama.cpp's ``llama-model.cpp``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from ggufscope.errors import HyperparameterError
from ggufscope.model.keys import KeyReader, PerLayer, architecture_of

MAX_LAYERS: Final = 512
"""llama.cpp refuses a model of more layers than this (``LLAMA_MAX_LAYERS``)."""

NEEDED: Final = ("block_count", "context_length", "embedding_length", "attention.head_count")
"""Keys without which llama.cpp loads no language model."""
ROPE_SCALINGS: Final = ("none", "linear", "yarn", "longrope")
"""Ways to stretch the rotation of positions that llama.cpp knows."""


def _key(
    key: str, read: Callable[..., Any] = KeyReader.number, default: Any = None, same_as: str = ""
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
    head_count: PerLayer | None = _key("attention.head_count", KeyReader.per_layer)
    context_length: int | None = _key("context_length")
    key_length: int | None = _key("attention.key_length", KeyReader.head_size)
    value_length: int | None = _key("attention.value_length", KeyReader.head_size)
    vocab_size: int | None = _key("vocab_size", KeyReader.vocabulary)
    feed_forward_length: PerLayer | None = _key("feed_forward_length", KeyReader.per_layer)
    head_count_kv: PerLayer | None = _key(
        "attention.head_count_kv", KeyReader.per_layer, same_as="head_count"
    )
    key_length_swa: int | None = _key("attention.key_length_swa", same_as="key_length")
    """Head size in sliding-window layers."""
    value_length_swa: int | None = _key("attention.value_length_swa", same_as="value_length")
    rope_dimension_count: int | None = _key("rope.dimension_count", same_as="key_length")
    rope_freq_base: float | None = _key("rope.freq_base", KeyReader.real)
    sliding_window: int | None = _key("attention.sliding_window")
    sliding_window_pattern: PerLayer | None = _key(
        "attention.sliding_window_pattern", KeyReader.per_layer
    )
    """A period (one number), or 1 for each windowed layer."""
    q_lora_rank: int | None = _key("attention.q_lora_rank")
    kv_lora_rank: int | None = _key("attention.kv_lora_rank")
    key_length_mla: int | None = _key("attention.key_length_mla")
    value_length_mla: int | None = _key("attention.value_length_mla")
    expert_count: int | None = _key("expert_count")
    expert_used_count: int | None = _key("expert_used_count")
    expert_feed_forward_length: PerLayer | None = _key(
        "expert_feed_forward_length", KeyReader.per_layer
    )
    nextn_predict_layers: int = _key("nextn_predict_layers", KeyReader.count, 0)
    """Layers at the end that predict further tokens; 0 for most models."""
    shared_kv_layers: int = _key("attention.shared_kv_layers", KeyReader.count, 0)
    """Layers at the end that use the keys and values of a layer before them."""
    recurrent_layers: PerLayer | None = _key("attention.recurrent_layers", KeyReader.per_layer)
    """1 for each layer that keeps a state instead of keys and values."""
    full_attention_interval: int | None = _key("full_attention_interval")
    """Of so many layers, the last attends and the others keep a state."""
    ssm_conv_kernel: int = _key("ssm.conv_kernel", KeyReader.count, 0)
    ssm_inner_size: int = _key("ssm.inner_size", KeyReader.count, 0)
    ssm_state_size: int = _key("ssm.state_size", KeyReader.count, 0)
    ssm_group_count: int = _key("ssm.group_count", KeyReader.count, 0)
    shortconv_l_cache: int = _key("shortconv.l_cache", KeyReader.count, 0)
    """Inputs that a short convolution looks at (lfm2)."""
    kda_head_dim: int = _key("kda.head_dim", KeyReader.count, 0)
    """Head size of a delta-attention state (Kimi)."""
    wkv_head_size: int = _key("wkv.head_size", KeyReader.count, 0)
    """Head size of an RWKV state."""
    token_shift_count: int = _key("token_shift_count", KeyReader.count, 2)
    """Vectors of the last token that RWKV keeps."""
    parallel_residual: bool = _key("use_parallel_residual", KeyReader.is_true)
    """Attention and feed-forward read the same input."""
    expert_shared_feed_forward_length: int | None = _key("expert_shared_feed_forward_length")
    layer_norm_epsilon: float | None = _key("attention.layer_norm_epsilon", KeyReader.real)
    layer_norm_rms_epsilon: float | None = _key("attention.layer_norm_rms_epsilon", KeyReader.real)
    attn_logit_softcapping: float | None = _key("attn_logit_softcapping", KeyReader.real)
    final_logit_softcapping: float | None = _key("final_logit_softcapping", KeyReader.real)
    rope_freq_base_swa: float | None = _key("rope.freq_base_swa", KeyReader.real)
    rope_scaling_type: str = _key("rope.scaling.type", KeyReader.text, "linear")
    """``none``, ``linear``, ``yarn`` or ``longrope``."""
    rope_scaling_factor: float | None = _key("rope.scaling.factor", KeyReader.stretch)
    """How many times longer than in training a text may be."""
    rope_scaling_attn_factor: float | None = _key("rope.scaling.attn_factor", KeyReader.real)
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
            hint="it is an importance matrix: `ggufscope imatrix` shows it"
            if metadata.get("general.type") == "imatrix"
            else "the file does not say what kind of model it is: it may be an adapter or data",
        )
    read = KeyReader(metadata, architecture)
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
