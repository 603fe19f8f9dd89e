"""What a family says of itself: the order of a layer, its tensors, what is done at the ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ggufscope.forward.block import Block
from ggufscope.forward.weights import Floats
from ggufscope.model.hparams import HParams

ATTENTION = "attn_norm attn_qkv|attn_q attn_qkv|attn_k attn_qkv|attn_v attn_output"
"""The stems that attention needs, in every family; ``a|b`` is one or the other."""


def _no_cap(_: HParams) -> float | None:
    return None


@dataclass(frozen=True, slots=True)
class Graph:
    """One architecture."""

    layer: Callable[[Block, Floats], Floats]
    """x (T, E) as it enters a layer -> x (T, E) as it leaves it."""
    required: str
    """Stems of the tensors that each layer must have; a layer may have no others."""
    axes: Mapping[str, str] = field(default_factory=dict)
    """Shapes in the anatomy's symbols, where they are not those of its table."""
    norm: Literal["rms", "layer"] = "rms"
    """The norm before the output."""
    scaled_embedding: bool = False
    """Vectors of tokens are multiplied by sqrt(E)."""
    learned_positions: bool = False
    """A vector is added for each position (``position_embd``)."""
    window_base: float | None = None
    """RoPE's base in windowed layers where the file does not say; None: as in the others."""
    window_stretched: bool = True
    """Whether RoPE's scaling holds in windowed layers, too."""
    logit_cap: Callable[[HParams], float | None] = _no_cap
    """What the logits are soft-capped by."""
