"""One layer of one pass: its weights, its sizes, its positions, and what is kept of it.

A family's file says in which order a layer does things; this is what it says it with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from ggufscope.arrays import Array, Floats
from ggufscope.forward import ops
from ggufscope.forward.attention import attend
from ggufscope.forward.cache import KVCache
from ggufscope.forward.products import products
from ggufscope.forward.rope import Rotation, rotate
from ggufscope.forward.trace import Trace
from ggufscope.forward.weights import Weights
from ggufscope.model.hparams import HParams

_SCORES: Final = ("kq", "kq_soft_max")


@dataclass(frozen=True, slots=True)
class Heads:
    """The sizes of a layer's attention."""

    count: int
    """H, of queries."""
    groups: int
    """K, heads of keys and values."""
    size: int
    """D, of a query and a key."""
    width: int
    """M, of a value."""


@dataclass(frozen=True, slots=True)
class Block:
    """One layer of one pass."""

    layer: int
    weights: Weights
    hparams: HParams
    heads: Heads
    window: int | None
    rotation: Rotation | None
    cache: KVCache | None
    trace: Trace
    activation: str
    """``swiglu``, ``geglu`` or ``gelu``: how the feed-forward is called in llama.cpp's graph."""

    def name(self, stem: str, suffix: str = "weight") -> str:
        """Return a tensor's GGUF name."""
        return f"blk.{self.layer}.{stem}.{suffix}"

    def has(self, stem: str, suffix: str = "weight") -> bool:
        """Whether the layer has a tensor."""
        return self.name(stem, suffix) in self.weights

    def vector(self, stem: str) -> Floats:
        """Return a small tensor."""
        return self.weights.vector(self.name(stem))

    def bias(self, stem: str) -> Floats | None:
        """Return a tensor's bias, or None where it has none."""
        return self.weights.vector(self.name(stem, "bias")) if self.has(stem, "bias") else None

    def tap(self, name: str, x: Array) -> Array:
        """Let the trace keep a quantity, and give it back."""
        self.trace.put(name, self.layer, x)
        return x

    def project(self, stem: str, x: Floats, name: str | None = None) -> Floats:
        """x (T, in) -> x @ W.T (T, out), tapped as ``name`` before the bias, as llama.cpp does."""
        return self.project_each({stem: name}, x)[0]

    def project_each(self, stems: Mapping[str, str | None], x: Floats) -> list[Floats]:
        """x (T, in) -> x @ W.T (T, out) of each stem, tapped as the name it has, if it has one."""
        matrices = [self.weights.matrix(self.name(stem)) for stem in stems]
        made = products([(self.trace.enter(m.name, x), m, (0, m.shape[0])) for m in matrices])
        for at, (stem, name) in enumerate(stems.items()):
            if name is not None:
                self.tap(name, made[at])
            if (bias := self.bias(stem)) is not None:
                made[at] = made[at] + bias
        return made

    def norm(self, stem: str, x: Floats) -> Floats:
        """x (..., n) -> its rows brought to a common size, by RMS."""
        return ops.rms_norm(x, self.vector(stem), self.hparams.layer_norm_rms_epsilon or 0.0)

    def layer_norm(self, stem: str, x: Floats) -> Floats:
        """x (..., n) -> its rows brought to mean 0 and a common size."""
        epsilon = self.hparams.layer_norm_epsilon or 0.0
        return ops.layer_norm(x, self.vector(stem), self.bias(stem), epsilon)

    def queries_keys_values(self, x: Floats) -> tuple[Floats, Floats, Floats]:
        """x (T, E) -> q (T, H, D), k (T, K, D), v (T, K, M), from one stacked matrix or three."""
        of = self.heads
        sizes = (of.count * of.size, of.groups * of.size, of.groups * of.width)
        if self.has("attn_qkv"):
            stacked = self.project("attn_qkv", x, "wqkv")
            parts = np.split(stacked, np.cumsum(sizes)[:-1], axis=1)
            if not self.has("attn_qkv", "bias"):  # some files have one matrix and three biases
                biases = [self.bias(stem) for stem in ("attn_q", "attn_k", "attn_v")]
                parts = [p if b is None else p + b for p, b in zip(parts, biases, strict=True)]
        else:
            parts = self.project_each(dict.fromkeys(("attn_q", "attn_k", "attn_v")), x)
        q, k, v = parts
        tokens = len(x)
        return (
            q.reshape(tokens, of.count, of.size),
            k.reshape(tokens, of.groups, of.size),
            v.reshape(tokens, of.groups, of.width),
        )

    def rotated(self, q: Floats, k: Floats) -> tuple[Floats, Floats]:
        """q (T, H, D), k (T, K, D) -> both rotated by their positions."""
        if self.rotation is None:
            return q, k
        angles = self.rotation.angles(self.start, len(q))
        pairs = self.rotation.pairs
        return rotate(q, pairs, *angles), rotate(k, pairs, *angles)

    def scaled(self, q: Floats, factor: float) -> Floats:
        """q (T, H, D) -> q times a factor: families that scale queries, not their scores."""
        return q * np.float32(factor)

    @property
    def start(self) -> int:
        """The position of the first token of this pass."""
        return 0 if self.cache is None else self.cache.length(self.layer)

    def attention(
        self,
        q: Floats,
        k: Floats,
        v: Floats,
        *,
        scale: float,
        cap: float | None = None,
    ) -> Floats:
        """q (T, H, D), k (T, K, D), v (T, K, M) -> what attention adds (T, E).

        With a cache, k and v join those of the tokens before, and are used as the cache gives them.
        """
        cache = self.cache
        if cache is not None:
            q = cache.query(q)
            k, v = cache.extend(self.layer, k, v)
        keep = frozenset(name for name in _SCORES if self.trace.wants(name, self.layer))
        rows = self.trace.rows
        tell = None if rows is None else partial(rows, self.layer)
        found = attend(q, k, v, scale=scale, window=self.window, cap=cap, keep=keep, tell=tell)
        for name, scores in zip(_SCORES, (found.kq, found.kq_soft_max), strict=True):
            if scores is not None:
                self.tap(name, scores)
        out = found.out if cache is None else cache.result(found.out, self.heads.width)
        if self.trace.wants("kqv", self.layer):  # as `out` is: not as the cache has it
            per_head = out.reshape(len(q), self.heads.count, self.heads.width)
            self.tap("kqv", np.ascontiguousarray(per_head.transpose(1, 0, 2)))
        self.tap("kqv_out", out)
        return self.tap("attn_out", self.project("attn_output", out))
