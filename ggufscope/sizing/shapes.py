"""Named model shapes that need no file: ``llama-2-7b`` and its kin.

The numbers are those that the models' makers publish in their ``config.json``; the tensors, those
that llama.cpp's converter writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

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


_ORDINARY: Final = f"{_ATTENTION} {_DENSE}"
_QWEN3: Final = f"{_ATTENTION} {_HEAD_NORMS} {_DENSE}"
_GEMMA2: Final = f"{_ATTENTION} {_POST_NORMS} {_DENSE}"
_QWEN3_EXPERTS: Final = f"{_ATTENTION} {_HEAD_NORMS} ffn_norm {_EXPERTS}"
_FUSED: Final = "attn_norm attn_qkv attn_output ffn_norm ffn_up ffn_down"
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


def _experts(count: int, used: int, width: int) -> dict[str, int]:
    return {
        "expert_count": count,
        "expert_used_count": used,
        "expert_feed_forward_length": width,
    }


def _family(
    architecture: str, stems: str, numbers: Mapping[str, str], **common: Any
) -> Iterator[ModelShape]:
    """Yield the shapes that differ in their numbers alone; ``common`` is what ``_shape`` takes."""
    for name, text in numbers.items():
        yield _shape(name, architecture, text, stems, **common)


def _qwen3(
    stems: str,
    numbers: Mapping[str, str],
    more: Mapping[str, int] = MappingProxyType({}),
    **rest: Any,
) -> Iterator[ModelShape]:
    architecture = "qwen3moe" if "expert_count" in more else "qwen3"
    return _family(architecture, stems, numbers, more={**_heads_of(128), **more}, **rest)


def _gemma(
    architecture: str, head: int, window: int, numbers: Mapping[str, str], assumes: str = ""
) -> Iterator[ModelShape]:
    stems = f"{_GEMMA2} {_HEAD_NORMS}" if architecture == "gemma3" else _GEMMA2
    more = {**_heads_of(head), "attention.sliding_window": window}
    return _family(architecture, stems, numbers, outside=_TIED, assumes=assumes, more=more)


def _gpt_oss(name: str, layers: int, experts: int) -> ModelShape:
    return _shape(
        name,
        "gpt-oss",
        f"{layers} 2880 2880 64 8 201088 131072",
        f"{_ATTENTION} {_BIASES} attn_output.bias attn_sinks post_attention_norm {_EXPERTS} "
        "ffn_gate_inp.bias ffn_gate_exps.bias ffn_up_exps.bias ffn_down_exps.bias",
        assumes="experts in 16 bits before they are quantized; OpenAI publishes them in MXFP4, for "
        "which MXFP4_MOE stands here",
        more={**_heads_of(64), "attention.sliding_window": 128, **_experts(experts, 4, 2880)},
    )


_TIED_HERE: Final = "the embedding serves as output matrix too"
_STORED_TWICE: Final = (
    f"{_TIED_HERE}; some files store the copy that the published weights hold, as output.weight: "
    "{more} weights more"
)
_TEXT_ONLY: Final = "the text model, without the part that sees images"

# Layers, embedding, feed-forward, heads, key/value heads, vocabulary, context.
_ALL: Final = (
    *_family(
        "llama",
        _ORDINARY,
        {
            "llama-2-7b": "32 4096 11008 32 32 32000 4096",
            "llama-2-13b": "40 5120 13824 40 40 32000 4096",
            "llama-2-70b": "80 8192 28672 64 8 32000 4096",
            "llama-3-8b": "32 4096 14336 32 8 128256 8192",
            "llama-3-70b": "80 8192 28672 64 8 128256 8192",
            "tinyllama-1.1b": "22 2048 5632 32 4 32000 2048",
        },
    ),
    *_family(
        "llama",
        _ORDINARY,
        {
            "llama-3.1-8b": "32 4096 14336 32 8 128256 131072",
            "llama-3.1-70b": "80 8192 28672 64 8 128256 131072",
            "llama-3.1-405b": "126 16384 53248 128 8 128256 131072",
            "llama-3.3-70b": "80 8192 28672 64 8 128256 131072",
        },
        outside=_SCALED_ROPE,
    ),
    *_family(
        "llama",
        _ORDINARY,
        {
            "llama-3.2-1b": "16 2048 8192 32 8 128256 131072",
            "llama-3.2-3b": "28 3072 8192 24 8 128256 131072",
        },
        outside=f"{_TIED} rope_freqs",
        assumes=_TIED_HERE,
    ),
    *_family(
        "llama",
        _ORDINARY,
        {
            "smollm2-135m": "30 576 1536 9 3 49152 8192",
            "smollm2-360m": "32 960 2560 15 5 49152 8192",
            "smollm2-1.7b": "24 2048 8192 32 32 49152 8192",
        },
        outside=_TIED,
        assumes=_TIED_HERE,
    ),
    _shape(
        "mistral-7b",
        "llama",
        "32 4096 14336 32 8 32000 32768",
        _ORDINARY,
        assumes="versions 0.1 and 0.2; mistral-7b-v0.3 has 768 tokens more",
    ),
    _shape("mistral-7b-v0.3", "llama", "32 4096 14336 32 8 32768 32768", _ORDINARY),
    _shape(
        "mistral-nemo-12b",
        "llama",
        "40 5120 14336 32 8 131072 1024000",
        _ORDINARY,
        assumes="the context that its files say; its makers speak of 128k",
        more=_heads_of(128),
    ),
    _shape(
        "mistral-small-24b",
        "llama",
        "40 5120 32768 32 8 131072 131072",
        _ORDINARY,
        assumes=f"{_TEXT_ONLY}; 3.1 and 3.2, while the first, 2501, was made for 32,768 tokens",
        more=_heads_of(128),
    ),
    _shape(
        "mixtral-8x7b",
        "llama",
        "32 4096 14336 32 8 32000 32768",
        f"{_ATTENTION} ffn_norm {_EXPERTS}",
        assumes="the experts of a layer in one tensor, as converters write them today",
        more={"expert_count": 8, "expert_used_count": 2},
    ),
    *_family(
        "qwen2",
        f"{_ORDINARY} {_BIASES}",
        {
            "qwen2.5-0.5b": "24 896 4864 14 2 151936 32768",
            "qwen2.5-1.5b": "28 1536 8960 12 2 151936 32768",
            "qwen2.5-3b": "36 2048 11008 16 2 151936 32768",
        },
        outside=_TIED,
        assumes=_TIED_HERE,
    ),
    *_family(
        "qwen2",
        f"{_ORDINARY} {_BIASES}",
        {
            "qwen2.5-7b": "28 3584 18944 28 4 152064 32768",
            "qwen2.5-14b": "48 5120 13824 40 8 152064 32768",
            "qwen2.5-32b": "64 5120 27648 40 8 152064 32768",
            "qwen2.5-72b": "80 8192 29568 64 8 152064 32768",
        },
    ),
    *_qwen3(
        _QWEN3,
        {"qwen3-0.6b": "28 1024 3072 16 8 151936 40960"},
        outside=_TIED,
        assumes=_STORED_TWICE.format(more="156 M"),
    ),
    *_qwen3(
        _QWEN3,
        {"qwen3-1.7b": "28 2048 6144 16 8 151936 40960"},
        outside=_TIED,
        assumes=_STORED_TWICE.format(more="311 M"),
    ),
    *_qwen3(
        _QWEN3,
        {"qwen3-4b": "36 2560 9728 32 8 151936 40960"},
        outside=_TIED,
        assumes=_TIED_HERE,
    ),
    *_qwen3(
        _QWEN3,
        {
            "qwen3-8b": "36 4096 12288 32 8 151936 40960",
            "qwen3-14b": "40 5120 17408 40 8 151936 40960",
            "qwen3-32b": "64 5120 25600 64 8 151936 40960",
        },
    ),
    *_qwen3(
        _QWEN3_EXPERTS,
        {"qwen3-30b-a3b": "48 2048 6144 32 4 151936 40960"},
        _experts(128, 8, 768),
        assumes="the first; the one of July 2025 (2507) was made for 262,144 tokens",
    ),
    *_qwen3(
        _QWEN3_EXPERTS,
        {"qwen3-235b-a22b": "94 4096 12288 64 4 151936 40960"},
        _experts(128, 8, 1536),
        assumes="the first; the one of July 2025 (2507) was made for 262,144 tokens",
    ),
    *_gemma("gemma2", 256, 4096, {"gemma-2-2b": "26 2304 9216 8 4 256000 8192"}),
    *_gemma("gemma2", 256, 4096, {"gemma-2-9b": "42 3584 14336 16 8 256000 8192"}),
    *_gemma("gemma2", 128, 4096, {"gemma-2-27b": "46 4608 36864 32 16 256000 8192"}),
    *_gemma(
        "gemma3",
        256,
        512,
        {
            "gemma-3-270m": "18 640 2048 4 1 262144 32768",
            "gemma-3-1b": "26 1152 6912 4 1 262144 32768",
        },
    ),
    *_gemma(
        "gemma3",
        256,
        1024,
        {
            "gemma-3-4b": "34 2560 10240 8 4 262144 131072",
            "gemma-3-12b": "48 3840 15360 16 8 262144 131072",
        },
        _TEXT_ONLY,
    ),
    *_gemma("gemma3", 128, 1024, {"gemma-3-27b": "62 5376 21504 32 16 262144 131072"}, _TEXT_ONLY),
    _shape(
        "phi-3-mini",
        "phi3",
        "32 3072 8192 32 32 32064 4096",
        _FUSED,
        assumes="the model of 4k tokens; llama.cpp does not use its window",
        more={"attention.sliding_window": 2047},
    ),
    _shape(
        "phi-4",
        "phi3",
        "40 5120 17920 40 10 100352 16384",
        _FUSED,
        more={"attention.sliding_window": 0},
    ),
    _shape(
        "glm-4-9b",
        "glm4",
        "40 4096 13696 32 2 151552 32768",
        f"{_ATTENTION} {_BIASES} {_POST_NORMS} ffn_norm ffn_up ffn_down",
        assumes="GLM-4-9B-0414, which llama.cpp calls glm4; the older glm-4-9b is a chatglm",
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
            **_experts(256, 8, 2048),
            "expert_shared_count": 1,
            "leading_dense_block_count": 3,
        },
    ),
    _gpt_oss("gpt-oss-20b", 24, 32),
    _gpt_oss("gpt-oss-120b", 36, 128),
)

SHAPES: Final[dict[str, ModelShape]] = {shape.name: shape for shape in _ALL}
"""Every shape by name."""
