"""What small models of every kind are built from; see kinds.py."""

from __future__ import annotations

from typing import Any

from tests.models.makers import Recipe, Shapes

E, F, V = 128, 192, 64
"""Embedding, feed-forward, vocabulary."""
NO_TOKENIZER = {"tokenizer.ggml.model": "none"}

DENSE: Shapes = {
    "ffn_norm.weight": (E,),
    "ffn_gate.weight": (F, E),
    "ffn_up.weight": (F, E),
    "ffn_down.weight": (E, F),
}
EXPERTS: Shapes = {
    "ffn_gate_inp.weight": (4, E),
    "ffn_gate_exps.weight": (4, 32, E),
    "ffn_up_exps.weight": (4, 32, E),
    "ffn_down_exps.weight": (4, E, 32),
}


def hparams_of(layers: int, heads: Any, kv: Any, size: int | None = 32, **more: Any) -> Any:
    own = {"attention.key_length": size, "attention.value_length": size} if size else {}
    return {
        "block_count": layers,
        "context_length": 65536,
        "embedding_length": E,
        "feed_forward_length": F,
        "attention.head_count": heads,
        "attention.head_count_kv": kv,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "vocab_size": V,
        **own,
        **{key.replace("__", "."): value for key, value in more.items()},
    }


def experts_of(**more: Any) -> dict[str, Any]:
    return {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 32, **more}


def attention_of(heads: int, kv: int, size: int = 32, values: int | None = None) -> Shapes:
    values = values or size
    return {
        "attn_norm.weight": (E,),
        "attn_q.weight": (heads * size, E),
        "attn_k.weight": (kv * size, E),
        "attn_v.weight": (kv * values, E),
        "attn_output.weight": (E, heads * values),
    }


def model_of(
    architecture: str, hparams: dict[str, Any], layers: list[Shapes], *, tied: bool = False
) -> Recipe:
    shapes: Shapes = {"token_embd.weight": (V, E), "output_norm.weight": (E,)}
    shapes |= {} if tied else {"output.weight": (V, E)}
    for number, layer in enumerate(layers):
        shapes |= {f"blk.{number}.{name}": shape for name, shape in layer.items()}
    return Recipe(architecture, hparams, shapes, dict(NO_TOKENIZER))
