"""Seeded models of many layers, their rows long enough for every type of block."""

from __future__ import annotations

from pathlib import Path

from tests.models.families import Small, V, write

E, HEADS, KV, SIZE = 256, 8, 2, 32


def write_deep(path: Path, layers: int) -> Path:
    """Write a llama of many layers in float32, with random weights."""
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (V, E),
        "output_norm.weight": (E,),
        "output.weight": (V, E),
    }
    layer: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (E,),
        "attn_q.weight": (HEADS * SIZE, E),
        "attn_k.weight": (KV * SIZE, E),
        "attn_v.weight": (KV * SIZE, E),
        "attn_output.weight": (E, HEADS * SIZE),
        "ffn_norm.weight": (E,),
        "ffn_gate.weight": (E, E),
        "ffn_up.weight": (E, E),
        "ffn_down.weight": (E, E),
    }
    shapes |= {f"blk.{n}.{name}": shape for n in range(layers) for name, shape in layer.items()}
    hparams = {
        "block_count": layers,
        "context_length": 64,
        "embedding_length": E,
        "feed_forward_length": E,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": SIZE,
        "vocab_size": V,
    }
    return write(path, Small("llama", hparams, shapes))
