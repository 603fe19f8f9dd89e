"""Named model shapes that need no file: ``llama-2-7b`` and its kin.

The numbers are those that the models' makers publish in their ``config.json``; the tensors, those
that llama.cpp's converter writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ggufscope.errors import UnknownShape
from ggufscope.sizing.model_shape import ModelShape

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


def _hparams(
    embedding: int, feed_forward: int, heads: int, kv: int, vocab: int, context: int, **more: int
) -> dict[str, int]:
    """Give the keys that every shape has; in ``more``, ``__`` stands for the dot of a key."""
    return {
        "context_length": context,
        "embedding_length": embedding,
        "feed_forward_length": feed_forward,
        "attention.head_count": heads,
        "attention.head_count_kv": kv,
        "vocab_size": vocab,
        **{key.replace("__", "."): value for key, value in more.items()},
    }


def _shape(
    name: str,
    architecture: str,
    layers: int,
    stems: str,
    numbers: Mapping[str, int],
    outside: str = "token_embd output_norm output",
    assumes: str = "",
    dense_first: int = 0,
    dense_stems: str = "",
) -> ModelShape:
    parts = ((dense_first, dense_stems), (layers - dense_first, stems))
    kinds = tuple(part for part in parts if part[0])
    return ModelShape(
        name, architecture, {"block_count": layers, **numbers}, kinds, outside, assumes
    )


def _heads_of(size: int, **more: int) -> dict[str, int]:
    return {"attention__key_length": size, "attention__value_length": size, **more}


_LLAMA: Final = f"{_ATTENTION} {_DENSE}"
_QWEN3: Final = f"{_ATTENTION} {_HEAD_NORMS} {_DENSE}"
_GEMMA2: Final = f"{_ATTENTION} {_POST_NORMS} {_DENSE}"

_ALL: Final = (
    _shape("llama-2-7b", "llama", 32, _LLAMA, _hparams(4096, 11008, 32, 32, 32000, 4096)),
    _shape("mistral-7b", "llama", 32, _LLAMA, _hparams(4096, 14336, 32, 8, 32000, 32768)),
    _shape(
        "llama-3.1-8b",
        "llama",
        32,
        _LLAMA,
        _hparams(4096, 14336, 32, 8, 128256, 131072),
        _SCALED_ROPE,
    ),
    _shape(
        "llama-3.1-70b",
        "llama",
        80,
        _LLAMA,
        _hparams(8192, 28672, 64, 8, 128256, 131072),
        _SCALED_ROPE,
    ),
    _shape(
        "qwen2.5-7b",
        "qwen2",
        28,
        f"{_LLAMA} {_BIASES}",
        _hparams(3584, 18944, 28, 4, 152064, 32768),
    ),
    _shape(
        "qwen3-0.6b",
        "qwen3",
        28,
        _QWEN3,
        _hparams(1024, 3072, 16, 8, 151936, 40960, **_heads_of(128)),
        _TIED,
        "the embedding serves as output matrix too",
    ),
    _shape(
        "qwen3-8b",
        "qwen3",
        36,
        _QWEN3,
        _hparams(4096, 12288, 32, 8, 151936, 40960, **_heads_of(128)),
    ),
    _shape(
        "qwen3-14b",
        "qwen3",
        40,
        _QWEN3,
        _hparams(5120, 17408, 40, 8, 151936, 40960, **_heads_of(128)),
    ),
    _shape(
        "gemma-3-4b",
        "gemma3",
        34,
        f"{_GEMMA2} {_HEAD_NORMS}",
        _hparams(
            2560, 10240, 8, 4, 262144, 131072, **_heads_of(256, attention__sliding_window=1024)
        ),
        _TIED,
        "the text model, without the part that sees images",
    ),
    _shape(
        "gemma-2-9b",
        "gemma2",
        42,
        _GEMMA2,
        _hparams(
            3584, 14336, 16, 8, 256000, 8192, **_heads_of(256, attention__sliding_window=4096)
        ),
        _TIED,
    ),
    _shape(
        "phi-3-mini",
        "phi3",
        32,
        "attn_norm attn_qkv attn_output ffn_norm ffn_up ffn_down",
        _hparams(3072, 8192, 32, 32, 32064, 4096, attention__sliding_window=2047),
        assumes="the model of 4k tokens; llama.cpp does not use its window",
    ),
    _shape(
        "mixtral-8x7b",
        "llama",
        32,
        f"{_ATTENTION} ffn_norm {_EXPERTS}",
        _hparams(4096, 14336, 32, 8, 32000, 32768, expert_count=8, expert_used_count=2),
        assumes="the experts of a layer in one tensor, as converters write them today",
    ),
    _shape(
        "deepseek-v3",
        "deepseek2",
        61,
        f"{_LATENT} ffn_norm {_EXPERTS} exp_probs_b.bias "
        "ffn_gate_shexp ffn_up_shexp ffn_down_shexp",
        _hparams(
            7168,
            18432,
            128,
            1,
            129280,
            163840,
            attention__key_length=576,
            attention__value_length=512,
            attention__key_length_mla=192,
            attention__value_length_mla=128,
            attention__q_lora_rank=1536,
            attention__kv_lora_rank=512,
            rope__dimension_count=64,
            expert_count=256,
            expert_used_count=8,
            expert_shared_count=1,
            expert_feed_forward_length=2048,
            leading_dense_block_count=3,
        ),
        assumes="without the layer that predicts further tokens; quantized from 16 bits, as its "
        "FP8 weights are first turned into those",
        dense_first=3,
        dense_stems=f"{_LATENT} {_DENSE}",
    ),
    _shape(
        "gpt-oss-20b",
        "gpt-oss",
        24,
        f"{_ATTENTION} {_BIASES} attn_output.bias attn_sinks post_attention_norm {_EXPERTS} "
        "ffn_gate_inp.bias ffn_gate_exps.bias ffn_up_exps.bias ffn_down_exps.bias",
        _hparams(
            2880,
            2880,
            64,
            8,
            201088,
            131072,
            **_heads_of(64, attention__sliding_window=128),
            expert_count=32,
            expert_used_count=4,
            expert_feed_forward_length=2880,
        ),
        assumes="experts in 16 bits before they are quantized; OpenAI publishes them in MXFP4, for "
        "which MXFP4_MOE stands here",
    ),
)

SHAPES: Final[dict[str, ModelShape]] = {shape.name: shape for shape in _ALL}
"""Every shape by name."""


def shape_named(name: str) -> ModelShape:
    """Give the shape of this name, in any case. Raises ``UnknownShape``."""
    shape = SHAPES.get(name.lower().replace("_", "-"))
    if shape is None:
        raise UnknownShape(
            f"{name!r} is no file, no parameter count and no known shape",
            hint=f"give a GGUF file, a count such as 7B, or one of {', '.join(SHAPES)}",
        )
    return shape
