"""What a family says of itself: the order of a layer, what is done at the ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ggufscope.arrays import Floats
from ggufscope.forward.block import Block
from ggufscope.model.hparams import HParams


def _no_cap(_: HParams) -> float | None:
    return None


def _by_head_size(block: Block) -> tuple[float, float | None]:
    return block.heads.size**-0.5, None


@dataclass(frozen=True, slots=True)
class Graph:
    """One architecture."""

    layer: Callable[[Block, Floats], Floats]
    """x (T, E) as it enters a layer -> x (T, E) as it leaves it."""
    norm: Literal["rms", "layer"] = "rms"
    """The norm before the output."""
    scaled_embedding: bool = False
    """Vectors of tokens are multiplied by sqrt(E)."""
    window_base: float | None = None
    """RoPE's base in windowed layers where the file does not say; None: as in the others."""
    window_stretched: bool = True
    """Whether RoPE's scaling holds in windowed layers, too."""
    logit_cap: Callable[[HParams], float | None] = _no_cap
    """What the logits are soft-capped by."""
    scores: Callable[[Block], tuple[float, float | None]] = _by_head_size
    """What queries are scaled by before they meet the keys, and what caps the scores then."""
    experts_normalized: bool = True
    """Whether the weights of a token's experts are made to sum to 1."""
