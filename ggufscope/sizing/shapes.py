"""Named model shapes that need no file: ``llama-2-7b`` and its kin.

The numbers are those that the models' makers publish in their ``config.json``; the tensors, those
that llama.cpp's converter writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ggufscope.errors import UnknownShape
from ggufscope.sizing.model_shape import ModelShape
from ggufscope.spelling import did_you_mean

_ATTENTION: Final = "attn_norm attn_q attn_k attn_v attn_output"
_LATENT: Final = (
    "attn_norm attn_q_a attn_q_a_norm attn_q_b attn_kv_a_mqa attn_kv_a_norm attn_k_b attn_v_b "
    "attn_output"
)
_DENSE: Final = "ffn_norm ffn_gate ffn_up ffn_down"
_EXPERTS: Final = "ffn_gate_inp ffn_gate_exps ffn_up_exps ffn_down_exps"
_BIASES: Final = "attn_q.bias attn_k.bias attn_v.bias"
_HEAD_NORMS: Final = "attn_q_norm attn_k_norm"
_POST_NORMS: Final = "post_attention_norm post_ffw_norm"
_TIED: Final = "token_embd output_norm"
_SCALED_ROPE: Final = "token_embd output_norm output rope_freqs"


_ORDINARY: Final = f"{_ATTENTION} {_DENSE}"
_QWEN3: Final = f"{_ATTENTION} {_HEAD_NORMS} {_DENSE}"
_GEMMA2: Final = f"{_ATTENTION} {_POST_NORMS} {_DENSE}"
_OUTSIDE: Final = "token_embd output_norm output"

_KEYS: Final = (
    "block_count",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "vocab_size",
    "context_length",
)


def _shape(
    name: str,
    architecture: str,
    numbers: str,
    stems: str,
    outside: str = _OUTSIDE,
    assumes: str = "",
    dense_stems: str = "",
    more: Mapping[str, int] = MappingProxyType({}),
) -> ModelShape:
    """Return a shape: numbers in the order of ``_KEYS``, then ``more`` of them by key."""
    hparams = dict(zip(_KEYS, map(int, numbers.split()), strict=True))
    dense_first = more.get("leading_dense_block_count", 0)
    parts = ((dense_first, dense_stems), (hparams["block_count"] - dense_first, stems))
    kinds = tuple(part for part in parts if part[0])
    return ModelShape(name, architecture, {**hparams, **more}, kinds, outside, assumes)


def _heads_of(size: int) -> dict[str, int]:
    return {"attention.key_length": size, "attention.value_length": size}


# Layers, embedding, feed-forward, heads, key/value heads, vocabulary, context.
_ALL: Final = (
    _shape("llama-2-7b", "llama", "32 4096 11008 32 32 32000 4096", _ORDINARY),
    _shape("mistral-7b", "llama", "32 4096 14336 32 8 32000 32768", _ORDINARY),
    _shape("llama-3.1-8b", "llama", "32 4096 14336 32 8 128256 131072", _ORDINARY, _SCALED_ROPE),
    _shape("llama-3.1-70b", "llama", "80 8192 28672 64 8 128256 131072", _ORDINARY, _SCALED_ROPE),
    _shape("qwen2.5-7b", "qwen2", "28 3584 18944 28 4 152064 32768", f"{_ORDINARY} {_BIASES}"),
    _shape(
        "qwen3-0.6b",
        "qwen3",
        "28 1024 3072 16 8 151936 40960",
        _QWEN3,
        _TIED,
        "the embedding serves as output matrix too",
        more=_heads_of(128),
    ),
    _shape("qwen3-8b", "qwen3", "36 4096 12288 32 8 151936 40960", _QWEN3, more=_heads_of(128)),
    _shape("qwen3-14b", "qwen3", "40 5120 17408 40 8 151936 40960", _QWEN3, more=_heads_of(128)),
    _shape(
        "gemma-3-4b",
        "gemma3",
        "34 2560 10240 8 4 262144 131072",
        f"{_GEMMA2} {_HEAD_NORMS}",
        _TIED,
        "the text model, without the part that sees images",
        more={**_heads_of(256), "attention.sliding_window": 1024},
    ),
    _shape(
        "gemma-2-9b",
        "gemma2",
        "42 3584 14336 16 8 256000 8192",
        _GEMMA2,
        _TIED,
        more={**_heads_of(256), "attention.sliding_window": 4096},
    ),
    _shape(
        "phi-3-mini",
        "phi3",
        "32 3072 8192 32 32 32064 4096",
        "attn_norm attn_qkv attn_output ffn_norm ffn_up ffn_down",
        assumes="the model of 4k tokens; llama.cpp does not use its window",
        more={"attention.sliding_window": 2047},
    ),
    _shape(
        "mixtral-8x7b",
        "llama",
        "32 4096 14336 32 8 32000 32768",
        f"{_ATTENTION} ffn_norm {_EXPERTS}",
        assumes="the experts of a layer in one tensor, as converters write them today",
        more={"expert_count": 8, "expert_used_count": 2},
    ),
    _shape(
        "deepseek-v3",
        "deepseek2",
        "61 7168 18432 128 1 129280 163840",
        f"{_LATENT} ffn_norm {_EXPERTS} exp_probs_b.bias "
        "ffn_gate_shexp ffn_up_shexp ffn_down_shexp",
        assumes="without the layer that predicts further tokens; quantized from 16 bits, as its "
        "FP8 weights are first turned into those",
        dense_stems=f"{_LATENT} {_DENSE}",
        more={
            "attention.key_length": 576,
            "attention.value_length": 512,
            "attention.key_length_mla": 192,
            "attention.value_length_mla": 128,
            "attention.q_lora_rank": 1536,
            "attention.kv_lora_rank": 512,
            "rope.dimension_count": 64,
            "expert_count": 256,
            "expert_used_count": 8,
            "expert_shared_count": 1,
            "expert_feed_forward_length": 2048,
            "leading_dense_block_count": 3,
        },
    ),
    _shape(
        "gpt-oss-20b",
        "gpt-oss",
        "24 2880 2880 64 8 201088 131072",
        f"{_ATTENTION} {_BIASES} attn_output.bias attn_sinks post_attention_norm {_EXPERTS} "
        "ffn_gate_inp.bias ffn_gate_exps.bias ffn_up_exps.bias ffn_down_exps.bias",
        assumes="experts in 16 bits before they are quantized; OpenAI publishes them in MXFP4, for "
        "which MXFP4_MOE stands here",
        more={
            **_heads_of(64),
            "attention.sliding_window": 128,
            "expert_count": 32,
            "expert_used_count": 4,
            "expert_feed_forward_length": 2880,
        },
    ),
)

SHAPES: Final[dict[str, ModelShape]] = {shape.name: shape for shape in _ALL}
"""Every shape by name."""


def shape_named(name: str) -> ModelShape:
    """Return the shape of this name, in any case. Raises ``UnknownShape``."""
    shape = SHAPES.get(name.lower().replace("_", "-"))
    if shape is None:
        raise UnknownShape(
            f"{name!r} is no file, no parameter count and no known shape",
            hint=did_you_mean(
                name,
                SHAPES,
                f"give a GGUF file, a count such as 7B, or one of {', '.join(SHAPES)}",
            ),
        )
    return shape
