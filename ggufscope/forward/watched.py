"""A layer that writes down what its attention is made from: what has no name in llama.cpp's graph.

A family's file makes queries and keys in steps (projected, normed, rotated, scaled) and hands them
to ``Block.attention``. The taps have the last of these steps; this has all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np

from ggufscope.arrays import Floats
from ggufscope.forward.block import Block


@dataclass(slots=True)
class Seen:
    """What one layer's attention was called with, and the steps to there."""

    q_steps: dict[str, Floats] = field(default_factory=dict)
    """``projected``, ``normed``, ``rotated``, ``scaled`` -> (T, H, D); those that the layer has."""
    k_steps: dict[str, Floats] = field(default_factory=dict)
    """The same of the keys, (T, K, D); these are never scaled."""
    q_scale: float | None = None
    """What queries are multiplied by before they meet the keys; None where they are not."""
    q: Floats = field(default_factory=lambda: np.empty((0, 0, 0), np.float32))
    k: Floats = field(default_factory=lambda: np.empty((0, 0, 0), np.float32))
    v: Floats = field(default_factory=lambda: np.empty((0, 0, 0), np.float32))
    scale: float = 1.0
    """What the products of both are multiplied by."""
    cap: float | None = None


@dataclass(frozen=True, slots=True)
class WatchedBlock(Block):
    """A layer that computes what ``Block`` does, and keeps how."""

    seen: Seen = field(default_factory=Seen)

    @classmethod
    def of(cls, block: Block) -> WatchedBlock:
        """Return the same layer, watched."""
        return cls(**{each.name: getattr(block, each.name) for each in fields(block)})

    def queries_keys_values(self, x: Floats) -> tuple[Floats, Floats, Floats]:
        """x (T, E) -> q (T, H, D), k (T, K, D), v (T, K, M)."""
        q, k, v = Block.queries_keys_values(self, x)
        self.seen.q_steps["projected"], self.seen.k_steps["projected"] = q, k
        return q, k, v

    def rotated(self, q: Floats, k: Floats) -> tuple[Floats, Floats]:
        """q (T, H, D), k (T, K, D) -> both rotated by their positions."""
        seen = self.seen
        if self.has("attn_q_norm"):
            seen.q_steps["normed"], seen.k_steps["normed"] = q, k
        q, k = Block.rotated(self, q, k)
        if self.rotation is not None:
            seen.q_steps["rotated"], seen.k_steps["rotated"] = q, k
        return q, k

    def scaled(self, q: Floats, factor: float) -> Floats:
        """q (T, H, D) -> q times a factor."""
        q = Block.scaled(self, q, factor)
        self.seen.q_steps["scaled"], self.seen.q_scale = q, factor
        return q

    def attention(
        self, q: Floats, k: Floats, v: Floats, *, scale: float, cap: float | None = None
    ) -> Floats:
        """q (T, H, D), k (T, K, D), v (T, K, M) -> what attention adds (T, E)."""
        seen = self.seen
        seen.q, seen.k, seen.v, seen.scale, seen.cap = q, k, v, scale, cap
        return Block.attention(self, q, k, v, scale=scale, cap=cap)
