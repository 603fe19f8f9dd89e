"""The keys that a model cannot do without, beside ``block_count``: what llama.cpp refuses to miss.

Follows ``load_hparams`` in llama.cpp's ``src/llama-model.cpp``, and each model's
``load_arch_hparams`` in ``src/models``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ggufscope.model.families import FAMILIES, OTHER_GRAPHS, WINDOWS
from ggufscope.model.required import REQUIRED

KNOWN: Final = (FAMILIES.keys() | OTHER_GRAPHS.keys() | WINDOWS.keys()) - {"clip"}
"""Architectures whose keys are known: an encoder of images has keys of another kind."""

_ALWAYS: Final = ("context_length", "embedding_length")
_SSM: Final = "falcon-h1 granitehybrid mamba2 nemotron_h nemotron_h_moe qwen35 qwen35moe qwen3next"
_OF_SOME: Final = {
    "attention.head_count": " ".join(REQUIRED),
    "attention.clamp_kqv": "dbrx",
    "attention.decay_lora_rank": "arwkv7 rwkv7",
    "attention.iclr_lora_rank": "arwkv7 rwkv7",
    "attention.kv_lora_rank": "deepseek2 minicpm3 mistral4 plm",
    "attention.q_lora_rank": "minicpm3",
    "attention.relative_buckets_count": "t5 t5encoder",
    "attention.sliding_window": (
        "cohere2 exaone-moe gemma-embedding gemma3n gemma4 gpt-oss granite_swa maple mimo2 "
        "muse-glimmer spark2_5 step35"
    ),
    "attention.sliding_window_pattern": "gemma4 granite_swa maple mimo2 spark2_5 step35",
    "attention.value_residual_mix_lora_rank": "arwkv7 rwkv7",
    "expert_feed_forward_length": (
        "afmoe bailingmoe bailingmoe2 deepseek deepseek2 dots1 ernie4_5-moe exaone-moe glm4moe "
        "gpt-oss grovemoe hunyuan-moe hy_v3 laguna lfm2moe llama4 maple mellum mimo2 minimax-m2 "
        "mistral4 step35"
    ),
    "expert_gating_func": "bailingmoe2 exaone-moe lfm2moe",
    "expert_group_scale": "grovemoe",
    "expert_shared_count": (
        "afmoe bailingmoe bailingmoe2 deepseek deepseek2 dots1 glm4moe mistral4"
    ),
    "experts_per_group": "grovemoe",
    "interleave_moe_layer_step": "ernie4_5-moe llama4",
    "leading_dense_block_count": "laguna",
    "logit_scale": "cohere2 granite granite_swa granitemoe muse-glimmer talkie",
    "rope.dimension_sections": "qwen2vl qwen35 qwen35moe qwen3vl qwen3vlmoe",
    "shortconv.l_cache": "lfm2 lfm2moe",
    "ssm.conv_kernel": f"{_SSM} jamba mamba",
    "ssm.inner_size": f"{_SSM} jamba mamba",
    "ssm.state_size": f"{_SSM} jamba mamba",
    "ssm.time_step_rank": f"{_SSM} jamba mamba",
    "ssm.group_count": _SSM,
    "time_decay_extra_dim": "rwkv6 rwkv6qwen2",
    "time_mix_extra_dim": "rwkv6 rwkv6qwen2",
    "use_parallel_residual": "gptneox",
    "wkv.head_size": "arwkv7 rwkv6 rwkv6qwen2 rwkv7",
}
"""Keys, and the architectures that need them whatever else a file says."""

_EPSILON, _RMS_EPSILON = "attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon"
_LAYER_NORM: Final = frozenset(
    """
    bert bloom codeshell cohere2 command-r dbrx falcon gpt2 gptneox jais jais2 jina-bert-v2
    jina-bert-v3 modern-bert mpt nemotron nomic-bert nomic-bert-moe olmo orion phi2 stablelm
    starcoder starcoder2
    """.split()  # noqa: SIM905  # a list of words is a line for each of them
)
"""Architectures whose norms take the mean off; those of the others are RMSNorm."""
_EITHER: Final = frozenset({"cohere2moe", "nemotron_h", "nemotron_h_moe"})
_NEITHER: Final = frozenset({"arwkv7", "qwen2vl", "rwkv6", "rwkv6qwen2", "rwkv7"})


def missing_keys(metadata: Mapping[str, Any], architecture: str) -> list[str]:
    """Return the keys that a model lacks; nothing for an architecture that is not in ``KNOWN``."""
    if architecture not in KNOWN:
        return []
    needed = [
        *_ALWAYS,
        *(name for name, whose in _OF_SOME.items() if architecture in whose.split()),
    ]
    either = architecture in _EITHER and f"{architecture}.{_RMS_EPSILON}" in metadata
    if architecture not in _NEITHER and not either:
        plain = architecture in _LAYER_NORM | _EITHER
        needed.append(_EPSILON if plain else _RMS_EPSILON)
    keys = (f"{architecture}.{name}" for name in needed)
    return [key for key in keys if key not in metadata]
