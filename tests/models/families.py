"""Small seeded models of every family that has a forward pass, which real llama.cpp loads too.

Every weight matters: norms are not 1, biases not 0, heads of another size than embedding / heads,
prompts longer than the sliding window. F32 throughout, so that what differs is the arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from tests.models.makers import Shapes, add_pair

V, E, F, T = 72, 32, 48, 21
IDS = tuple(int(i) for i in np.random.default_rng(7).integers(3, V, T))
"""The prompt of every test."""

Tensors = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Small:
    """One small model: architecture, metadata without the architecture's prefix, shapes."""

    architecture: str
    hparams: dict[str, Any]
    shapes: Shapes
    factors: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Tensors that are given, not drawn: the frequency factors of RoPE."""

    @property
    def metadata(self) -> dict[str, Any]:
        own = {f"{self.architecture}.{key}": value for key, value in self.hparams.items()}
        return {"general.architecture": self.architecture, **own}

    def tensors(self, seed: int = 1) -> Tensors:
        """Draw the weights: matrices that keep a vector's size, norms about 1."""
        rng = np.random.default_rng(seed)
        made: Tensors = {}
        for name, shape in self.shapes.items():
            noise = rng.standard_normal(shape)
            if name.endswith("norm.weight"):
                noise = 1 + 0.3 * noise
            elif name.endswith(".bias"):
                noise = 0.3 * noise
            elif "_embd" not in name:
                noise *= 1.5 / np.sqrt(shape[-1])
            made[name] = noise.astype(np.float32)
        given = {name: np.array(row, np.float32) for name, row in self.factors.items()}
        return made | given


def write(path: Path, small: Small, tensors: Tensors | None = None) -> Path:
    """Write the model with the `gguf` package, with a vocabulary of single letters."""
    writer = gguf.GGUFWriter(path, small.architecture)
    for key, value in small.hparams.items():
        add_pair(writer, f"{small.architecture}.{key}", value)
    letters = [chr(code) for code in range(ord("!"), ord("!") + V - 5)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(["<s>", "</s>", "\u0120", "\u010a", *letters, '!"'])
    writer.add_token_types([3, 3] + [1] * (V - 2))
    writer.add_token_merges(['! "'])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    for name, weights in (tensors or small.tensors()).items():
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _hparams(heads: int, kv: int, size: int, layers: int = 3, **more: Any) -> dict[str, Any]:
    return {
        "block_count": layers,
        "context_length": 64,
        "embedding_length": E,
        "feed_forward_length": F,
        "attention.head_count": heads,
        "attention.head_count_kv": kv,
        "attention.key_length": size,
        "attention.value_length": size,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": size,
        "rope.freq_base": 500.0,
        "vocab_size": V,
        **{key.replace("__", "."): value for key, value in more.items()},
    }


def _attention(heads: int, kv: int, size: int) -> Shapes:
    return {
        "attn_norm.weight": (E,),
        "attn_q.weight": (heads * size, E),
        "attn_k.weight": (kv * size, E),
        "attn_v.weight": (kv * size, E),
        "attn_output.weight": (E, heads * size),
    }


def _qkv_biases(heads: int, kv: int, size: int) -> Shapes:
    sizes = {"q": heads * size, "k": kv * size, "v": kv * size}
    return {f"attn_{part}.bias": (extent,) for part, extent in sizes.items()}


def _head_norms(size: int) -> Shapes:
    return {"attn_q_norm.weight": (size,), "attn_k_norm.weight": (size,)}


_DENSE: Shapes = {
    "ffn_norm.weight": (E,),
    "ffn_gate.weight": (F, E),
    "ffn_up.weight": (F, E),
    "ffn_down.weight": (E, F),
}
_POST: Shapes = {"post_attention_norm.weight": (E,), "post_ffw_norm.weight": (E,)}
_EXPERTS: Shapes = {
    "ffn_norm.weight": (E,),
    "ffn_gate_inp.weight": (4, E),
    "ffn_gate_exps.weight": (4, 24, E),
    "ffn_up_exps.weight": (4, 24, E),
    "ffn_down_exps.weight": (4, E, 24),
}
_SHARED: Shapes = {
    "ffn_gate_inp_shexp.weight": (E,),
    "ffn_gate_shexp.weight": (40, E),
    "ffn_up_shexp.weight": (40, E),
    "ffn_down_shexp.weight": (E, 40),
}
_EXPERT_KEYS = {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 24}


def _whole(layer: Shapes, *, layers: int = 3, tied: bool = False, **ends: Any) -> Shapes:
    shapes: Shapes = {"token_embd.weight": (V, E), "output_norm.weight": (E,), **ends}
    if not tied:
        shapes["output.weight"] = (V, E)
    each = {f"blk.{n}.{name}": shape for n in range(layers) for name, shape in layer.items()}
    return shapes | each


def _llama(heads: int, kv: int, size: int = 8, *, tied: bool = False, **more: Any) -> Small:
    layer = _attention(heads, kv, size) | _DENSE
    return Small("llama", _hparams(heads, kv, size, **more), _whole(layer, tied=tied))


def _llama_biased() -> Small:
    more = {"attn_output.bias": (E,), "ffn_gate.bias": (F,), "ffn_up.bias": (F,)}
    layer = _attention(4, 2, 12) | _qkv_biases(4, 2, 12) | _DENSE | more | {"ffn_down.bias": (E,)}
    return Small("llama", _hparams(4, 2, 12), _whole(layer))


def _llama3() -> Small:
    made = _llama(4, 2)
    return Small(made.architecture, made.hparams, made.shapes, {"rope_freqs.weight": (1, 2, 5, 8)})


def _mixtral() -> Small:
    # llama's experts are as wide as `feed_forward_length`
    hparams = _hparams(4, 2, 8, feed_forward_length=24, expert_count=4, expert_used_count=2)
    return Small("llama", hparams, _whole(_attention(4, 2, 8) | _EXPERTS))


def _gemma2() -> Small:
    caps: dict[str, Any] = {"attn_logit_softcapping": 3.0, "final_logit_softcapping": 5.0}
    hparams = _hparams(4, 2, 12, attention__sliding_window=6, **caps)
    return Small("gemma2", hparams, _whole(_attention(4, 2, 12) | _POST | _DENSE, tied=True))


def _gemma3() -> Small:
    hparams = _hparams(
        4,
        1,
        12,
        layers=7,
        attention__sliding_window=6,
        rope__scaling__type="linear",
        rope__scaling__factor=4.0,
        rope__freq_base=5000.0,
    )
    layer = _attention(4, 1, 12) | _head_norms(12) | _POST | _DENSE
    return Small("gemma3", hparams, _whole(layer, layers=7, tied=True))


def _phi3(*, long: bool = False) -> Small:
    layer: Shapes = {
        "attn_norm.weight": (E,),
        "attn_qkv.weight": (4 * 8 + 2 * 2 * 8, E),
        "attn_output.weight": (E, 32),
        "ffn_norm.weight": (E,),
        "ffn_up.weight": (2 * F, E),
        "ffn_down.weight": (E, F),
    }
    hparams = _hparams(4, 2, 8, rope__dimension_count=6)
    if not long:
        return Small("phi3", hparams, _whole(layer))
    hparams |= {
        "rope.scaling.original_context_length": 16,
        "rope.scaling.attn_factor": 1.19,
    }
    factors = {
        "rope_factors_long.weight": (1.1, 2.5, 7.0),
        "rope_factors_short.weight": (1.0, 1.3, 1.7),
    }
    return Small("phi3", hparams, _whole(layer), factors)


def _gpt2() -> Small:
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
    hparams = _hparams(4, 4, 8)
    for key in [key for key in hparams if "rope" in key or "rms" in key or "_length" in key]:
        if key.startswith(("rope", "attention")):
            del hparams[key]
    hparams["attention.layer_norm_epsilon"] = 1e-5
    ends: dict[str, Any] = {"position_embd.weight": (64, E), "output_norm.bias": (E,)}
    return Small("gpt2", hparams, _whole(layer, tied=True, **ends))


SMALL: dict[str, Small] = {
    "llama-mha": _llama(4, 4),
    "llama-gqa": _llama(8, 2),
    "llama-mqa": _llama(4, 1, tied=True),
    "llama-biased": _llama_biased(),
    "llama-linear": _llama(4, 2, rope__scaling__type="linear", rope__scaling__factor=3.0),
    "llama-3": _llama3(),
    "llama-yarn": _llama(
        4,
        2,
        rope__scaling__type="yarn",
        rope__scaling__factor=4.0,
        rope__scaling__original_context_length=16,
    ),
    "mixtral": _mixtral(),
    "qwen2": Small(
        "qwen2", _hparams(4, 2, 8), _whole(_attention(4, 2, 8) | _qkv_biases(4, 2, 8) | _DENSE)
    ),
    "qwen3": Small(
        "qwen3",
        _hparams(4, 2, 12),
        _whole(_attention(4, 2, 12) | _head_norms(12) | _DENSE, tied=True),
    ),
    "qwen2moe": Small(
        "qwen2moe",
        _hparams(4, 2, 8, **_EXPERT_KEYS, expert_shared_feed_forward_length=40),
        _whole(_attention(4, 2, 8) | _qkv_biases(4, 2, 8) | _EXPERTS | _SHARED),
    ),
    "qwen3moe": Small(
        "qwen3moe",
        _hparams(4, 2, 12, **_EXPERT_KEYS),
        _whole(_attention(4, 2, 12) | _head_norms(12) | _EXPERTS),
    ),
    "gemma": Small("gemma", _hparams(4, 1, 12), _whole(_attention(4, 1, 12) | _DENSE, tied=True)),
    "gemma2": _gemma2(),
    "gemma3": _gemma3(),
    "phi3": _phi3(),
    "phi3-long": _phi3(long=True),
    "gpt2": _gpt2(),
}
"""Every kind of model, by name."""

WIDE = _llama(4, 2, 64)
"""Heads of 64: those that llama.cpp turns before it stores them in a quantized cache."""

GELU = frozenset(name for name, small in SMALL.items() if small.architecture.startswith("g"))
"""Those whose feed-forward uses GELU: a table of half floats in ggml, on a CPU."""
