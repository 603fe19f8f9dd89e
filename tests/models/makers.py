"""Small seeded models of every kind, written by the `gguf` package, and raw bytes of bad ones.

Nothing here is written by this project's own writer: what reads these files is held to somebody
else's idea of the format.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np

Shapes = dict[str, tuple[int, ...]]


@dataclass
class Recipe:
    """A model to be made: architecture, metadata (without its prefix), tensor shapes."""

    architecture: str
    hparams: dict[str, Any]
    shapes: Shapes
    metadata: dict[str, Any] = field(default_factory=dict)


def write_recipe(path: Path, recipe: Recipe, seed: int = 1, **options: Any) -> Path:
    """Write a recipe with the `gguf` package: F32 tensors of small random numbers."""
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, recipe.architecture, **options)
    for key, value in recipe.hparams.items():
        add_pair(writer, f"{recipe.architecture}.{key}", value)
    for key, value in recipe.metadata.items():
        add_pair(writer, key, value)
    for name, shape in recipe.shapes.items():
        writer.add_tensor(name, (0.1 * rng.standard_normal(shape)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_pair(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


E, F, V, LAYERS = 32, 48, 40, 3


def _base(heads: int, kv: int, size: int = 8, **more: Any) -> dict[str, Any]:
    return {
        "block_count": LAYERS,
        "context_length": 64,
        "embedding_length": E,
        "feed_forward_length": F,
        "attention.head_count": heads,
        "attention.head_count_kv": kv,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": size,
        "vocab_size": V,
        **more,
    }


def _each(layer: Mapping[str, tuple[int, ...]], layers: int = LAYERS) -> Shapes:
    return {f"blk.{n}.{name}": shape for n in range(layers) for name, shape in layer.items()}


def _ends(*, tied: bool = False) -> Shapes:
    ends: Shapes = {"token_embd.weight": (V, E), "output_norm.weight": (E,)}
    return ends if tied else ends | {"output.weight": (V, E)}


def _attention(heads: int, kv: int, size: int = 8) -> Shapes:
    return {
        "attn_norm.weight": (E,),
        "attn_q.weight": (heads * size, E),
        "attn_k.weight": (kv * size, E),
        "attn_v.weight": (kv * size, E),
        "attn_output.weight": (E, heads * size),
    }


_DENSE: Shapes = {
    "ffn_norm.weight": (E,),
    "ffn_gate.weight": (F, E),
    "ffn_up.weight": (F, E),
    "ffn_down.weight": (E, F),
}
_EXPERTS: Shapes = {
    "ffn_norm.weight": (E,),
    "ffn_gate_inp.weight": (4, E),
    "ffn_gate_exps.weight": (4, 24, E),
    "ffn_up_exps.weight": (4, 24, E),
    "ffn_down_exps.weight": (4, E, 24),
}


def _llama(heads: int, kv: int, *, tied: bool = False) -> Recipe:
    layer = _attention(heads, kv) | _DENSE
    return Recipe("llama", _base(heads, kv), _ends(tied=tied) | _each(layer))


def _gemma2() -> Recipe:
    post = {"post_attention_norm.weight": (E,), "post_ffw_norm.weight": (E,)}
    hparams = _base(4, 2, **{"attention.sliding_window": 16})
    return Recipe("gemma2", hparams, _ends(tied=True) | _each(_attention(4, 2) | post | _DENSE))


def _phi3() -> Recipe:
    layer: Shapes = {
        "attn_norm.weight": (E,),
        "attn_qkv.weight": (4 * 8 + 2 * 2 * 8, E),
        "attn_output.weight": (E, 32),
        "ffn_norm.weight": (E,),
        "ffn_up.weight": (2 * F, E),
        "ffn_down.weight": (E, F),
    }
    return Recipe("phi3", _base(4, 2), _ends() | _each(layer))


def _gpt2() -> Recipe:
    layer: Shapes = {
        "attn_norm.weight": (E,),
        "attn_norm.bias": (E,),
        "attn_qkv.weight": (3 * E, E),
        "attn_qkv.bias": (3 * E,),
        "attn_output.weight": (E, E),
        "attn_output.bias": (E,),
        "ffn_norm.weight": (E,),
        "ffn_norm.bias": (E,),
        "ffn_up.weight": (F, E),
        "ffn_up.bias": (F,),
        "ffn_down.weight": (E, F),
        "ffn_down.bias": (E,),
    }
    hparams = _base(4, 4)
    del hparams["attention.head_count_kv"]
    ends = _ends() | {"output_norm.bias": (E,), "position_embd.weight": (64, E)}
    return Recipe("gpt2", hparams, ends | _each(layer))


def _falcon() -> Recipe:
    layer: Shapes = {
        "attn_norm.weight": (E,),
        "attn_norm.bias": (E,),
        "attn_qkv.weight": (6 * 8, E),
        "attn_output.weight": (E, 32),
        "ffn_up.weight": (F, E),
        "ffn_down.weight": (E, F),
    }
    return Recipe("falcon", _base(4, 1), _ends() | _each(layer))


def _olmo2() -> Recipe:
    layer = _attention(4, 4) | _DENSE
    del layer["attn_norm.weight"], layer["ffn_norm.weight"]
    layer |= {
        "attn_q_norm.weight": (E,),
        "attn_k_norm.weight": (E,),
        "post_attention_norm.weight": (E,),
        "post_ffw_norm.weight": (E,),
    }
    return Recipe("olmo2", _base(4, 4), _ends() | _each(layer))


def _gpt_oss() -> Recipe:
    layer = _attention(4, 2) | _EXPERTS
    del layer["ffn_norm.weight"]
    layer |= {"attn_sinks.weight": (4,), "post_attention_norm.weight": (E,)}
    hparams = _experts(_base(4, 2, **{"attention.sliding_window": 16}))
    return Recipe("gpt-oss", hparams, _ends() | _each(layer))


def _experts(hparams: dict[str, Any]) -> dict[str, Any]:
    more = {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 24}
    return hparams | more


def _qwen2moe() -> Recipe:
    shared: Shapes = {
        "ffn_gate_inp_shexp.weight": (E,),
        "ffn_gate_shexp.weight": (F, E),
        "ffn_up_shexp.weight": (F, E),
        "ffn_down_shexp.weight": (E, F),
    }
    biases: Shapes = {"attn_q.bias": (32,), "attn_k.bias": (16,), "attn_v.bias": (16,)}
    layer = _attention(4, 2) | biases | _EXPERTS | shared
    return Recipe("qwen2moe", _experts(_base(4, 2)), _ends() | _each(layer))


def _deepseek2(*, absorbed: bool) -> Recipe:
    """MLA: 4 heads, latent 16, rotated part 4, the rest of a key 8, a value 12."""
    latent, rotated, rest, value = 16, 4, 8, 12
    layer: Shapes = {
        "attn_norm.weight": (E,),
        "attn_q_a.weight": (10, E),
        "attn_q_a_norm.weight": (10,),
        "attn_q_b.weight": (4 * (rest + rotated), 10),
        "attn_kv_a_mqa.weight": (latent + rotated, E),
        "attn_kv_a_norm.weight": (latent,),
        "attn_output.weight": (E, 4 * value),
    }
    hparams = _base(
        4, 4, rotated, **{"attention.kv_lora_rank": latent, "attention.q_lora_rank": 10}
    )
    if absorbed:
        layer |= {"attn_k_b.weight": (4, latent, rest), "attn_v_b.weight": (4, value, latent)}
        hparams |= {
            "attention.head_count_kv": 1,
            "attention.key_length": latent + rotated,
            "attention.value_length": latent,
            "attention.key_length_mla": rest + rotated,
            "attention.value_length_mla": value,
        }
    else:
        layer |= {"attn_kv_b.weight": (4 * (rest + value), latent)}
        hparams |= {"attention.key_length": rest + rotated, "attention.value_length": value}
    return Recipe("deepseek2", hparams, _ends() | _each(layer | _DENSE))


def _hybrid() -> Recipe:
    """jamba: attention in layer 1 alone, a state-space model in the others."""
    state: Shapes = {
        "attn_norm.weight": (E,),
        "ssm_in.weight": (4 * E, E),
        "ssm_conv1d.weight": (2 * E, 4),
        "ssm_a": (2 * E, 4),
        "ssm_out.weight": (E, 2 * E),
    }
    shapes = _ends()
    for n in range(LAYERS):
        layer = (_attention(4, 2) if n == 1 else state) | _DENSE
        shapes |= {f"blk.{n}.{name}": shape for name, shape in layer.items()}
    hparams = _base(4, 2)
    hparams["attention.head_count_kv"] = [0, 2, 0]
    return Recipe("jamba", hparams, shapes)


RECIPES: dict[str, Callable[[], Recipe]] = {
    "llama-mha": lambda: _llama(4, 4),
    "llama-gqa": lambda: _llama(4, 2),
    "llama-mqa": lambda: _llama(4, 1),
    "llama-tied": lambda: _llama(4, 2, tied=True),
    "mixtral": lambda: Recipe(
        "llama", _experts(_base(4, 2)), _ends() | _each(_attention(4, 2) | _EXPERTS)
    ),
    "gemma2": _gemma2,
    "phi3": _phi3,
    "gpt2": _gpt2,
    "falcon": _falcon,
    "olmo2": _olmo2,
    "gpt-oss": _gpt_oss,
    "qwen2moe": _qwen2moe,
    "deepseek2-mla": lambda: _deepseek2(absorbed=True),
    "deepseek2-unfolded": lambda: _deepseek2(absorbed=False),
    "hybrid": _hybrid,
    "mamba": lambda: Recipe(
        "mamba", {"block_count": 1, "embedding_length": E}, {"blk.0.ssm_in.weight": (4 * E, E)}
    ),
    "unheard-of": lambda: Recipe(
        "flux-capacitor", _base(4, 2), _ends() | _each(_attention(4, 2) | _DENSE)
    ),
}
"""Every kind of model, by name."""


def make(path: Path, kind: str) -> Path:
    """Write the model of a kind to ``path``."""
    return write_recipe(path, RECIPES[kind]())


def text(data: str | bytes) -> bytes:
    """A GGUF string."""
    raw = data.encode() if isinstance(data, str) else data
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str | bytes, type_: int, value: bytes) -> bytes:
    """A metadata pair."""
    return text(key) + struct.pack("<I", type_) + value


def tensor(
    name: str | bytes, dims: tuple[int, ...] = (32,), type_: int = 0, offset: int = 0
) -> bytes:
    """A line of the tensor list; dims are as stored, the fastest first."""
    head = text(name) + struct.pack("<I", len(dims))
    return head + struct.pack(f"<{len(dims)}q", *dims) + struct.pack("<IQ", type_, offset)


def raw_gguf(
    pairs: list[bytes] | None = None,
    tensors: list[bytes] | None = None,
    data: bytes = b"",
    *,
    version: int = 3,
    n_pairs: int | None = None,
    n_tensors: int | None = None,
    alignment: int = 32,
) -> bytes:
    """A whole file from its parts, which need not make sense."""
    pairs, tensors = pairs or [], tensors or []
    head = b"GGUF" + struct.pack(
        "<IQQ",
        version,
        len(tensors) if n_tensors is None else n_tensors,
        len(pairs) if n_pairs is None else n_pairs,
    )
    head += b"".join(pairs) + b"".join(tensors)
    return head + bytes(-len(head) % alignment if tensors else 0) + data
