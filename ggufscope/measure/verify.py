"""The identities held against a model: its own layers, its own weights, a prompt."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ggufscope.arrays import Floats
from ggufscope.forward import ops
from ggufscope.forward.attention import attend
from ggufscope.forward.cache import KVCache
from ggufscope.forward.checks import require_memory_for
from ggufscope.forward.held import LayerWeights
from ggufscope.forward.trace import Trace
from ggufscope.forward.transformer import Transformer
from ggufscope.forward.watched import WatchedBlock
from ggufscope.forward.weights import Weights
from ggufscope.measure import identities
from ggufscope.measure.identities import relative
from ggufscope.pool import one_pass

EXACT: Final = 0.0
SUMS: Final = 1e-5
"""Of float32 numbers added in another order."""
PASS: Final = 1e-4
"""Of a whole pass, whose layers pass such differences on."""

LOOP_PRODUCTS: Final = 1_500_000
"""Products that the scalar loop may take in a layer: about half a second of Python."""
_TOY: Final = 16
"""Dimensions of the documents' smallest transformer; it has 4 heads."""


@dataclass(slots=True)
class Identity:
    """One identity, and how far the model is from it."""

    name: str
    statement: str
    tolerance: float
    residual: float = 0.0
    """The largest of all layers; NaN once any is."""
    layer: int | None = None
    """Where it is largest."""

    @property
    def holds(self) -> bool:
        """Whether the residual is within the tolerance; NaN is not."""
        return self.residual <= self.tolerance

    def take(self, residual: float, layer: int | None = None) -> None:
        """Let one layer's residual count."""
        if not residual <= self.residual and not math.isnan(self.residual):
            self.residual, self.layer = residual, layer


def verify(
    model: Transformer, ids: Sequence[int], progress: Callable[[int], Any] | None = None
) -> list[Identity]:
    """Hold every identity against a model, on a prompt of T tokens.

    Two passes go through the layers side by side, the whole prompt at once and token by token with
    a KV cache, so that each layer's weights are read once. ``progress`` is told how many steps of
    ``n_layers + 1`` are done. Raises what ``Transformer.run`` raises, and ``TooMuchMemory``.
    """
    model.require_runnable(ids)
    require_memory_for(model.hparams, len(ids), matrices=3, logits=True, runs=2)
    with one_pass(), np.errstate(all="ignore"):  # numbers that overflow become residuals of NaN
        return _verify(model.with_weights(LayerWeights(model.weights)), ids, progress)


def _verify(
    model: Transformer, ids: Sequence[int], progress: Callable[[int], Any] | None
) -> list[Identity]:
    held = model.weights
    assert isinstance(held, LayerWeights)
    found = _Identities(model, ids)
    whole = single = model.embed(ids)
    cache = KVCache()
    if found.documents is not None:
        found.documents.take(_documents_residual(held, whole), 0)
    for layer in range(model.n_layers):
        trace = Trace({"kq_soft_max", "kqv", "kqv_out"})
        block = WatchedBlock.of(model.block(layer, trace=trace))
        whole = model.graph.layer(block, whole)
        found.take(block, trace)
        steps = [model.layer(layer, single[t : t + 1], cache=cache) for t in range(len(single))]
        single = np.concatenate(steps)
        held.release()
        if progress is not None:
            progress(layer + 1)
    logits = model.logits(whole)
    found.cached.take(relative(model.logits(single), logits))
    held.release()
    if progress is not None:
        progress(model.n_layers + 1)
    return found.all


class _Identities:
    """All identities, and what the layers add to them."""

    def __init__(self, model: Transformer, ids: Sequence[int]) -> None:
        heads, tokens = model.block(0).heads, len(ids)
        n, width = heads.count, heads.width
        self.rows = Identity("rows", "rows of kq_soft_max sum to 1", SUMS)
        self.future = Identity("future", "nothing attends to the future", EXACT)
        self.shapes = Identity(
            "shapes",
            f"{n} heads of ({tokens}, {width}), side by side: ({tokens}, {n * width})",
            EXACT,
        )
        self.heads = Identity("heads", "concat(heads) @ W_O = sum of head_i @ W_O_i", SUMS)
        self.cached = Identity("cache", "token by token with a KV cache = all at once", PASS)
        shared = f"{n} heads on {heads.groups} K/V heads = MHA with these repeated"
        self.groups = Identity("groups", shared, SUMS)
        self.loop_tokens = loop_tokens(tokens, n, max(heads.size, width))
        part = "" if self.loop_tokens == tokens else f", first {self.loop_tokens} tokens"
        words = f"a loop over single numbers = arrays{part}"
        self.loop = Identity("loop", words, SUMS)
        self.all = [
            *(self.rows, self.future, self.shapes, self.heads),
            *(self.cached, self.groups, self.loop),
        ]
        self.documents: Identity | None = None
        if min(model.weights.shape("blk.0.attn_output.weight")) >= _TOY:
            self.documents = Identity("toy", "16 dimensions, 4 heads: lists = arrays", SUMS)
            self.all.append(self.documents)

    def take(self, block: WatchedBlock, trace: Trace) -> None:
        layer, call = block.layer, block.seen
        weights = trace[f"kq_soft_max-{layer}"]
        kqv, out = trace[f"kqv-{layer}"], trace[f"kqv_out-{layer}"]
        self.rows.take(identities.rows_sum_to_one(weights), layer)
        self.future.take(identities.nothing_from_the_future(weights), layer)
        self.shapes.take(identities.heads_side_by_side(kqv, out), layer)
        w_o = block.weights.matrix(block.name("attn_output"))
        self.heads.take(identities.heads_add_up(out, w_o, len(kqv)), layer)
        setting: dict[str, Any] = {"scale": call.scale, "window": block.window, "cap": call.cap}
        self.groups.take(
            identities.groups_are_copies(call.q, call.k, call.v, out, **setting), layer
        )
        n = self.loop_tokens
        parts = (each[:n] for each in (call.q, call.k, call.v))
        self.loop.take(relative(identities.scalar_attention(*parts, **setting), out[:n]), layer)


def loop_tokens(tokens: int, heads: int, size: int) -> int:
    """Return how many tokens the scalar loop takes: all, or as many as ``LOOP_PRODUCTS`` allow."""
    n = 1
    while n < tokens and (n + 1) * (n + 2) * heads * size <= LOOP_PRODUCTS:
        n += 1
    return n


def _documents_residual(weights: Weights, x: Floats) -> float:
    """Hold the documents' loop against arrays, on 16 dimensions of layer 0's own weights."""
    part = x[:, :_TOY]
    q, k, v = _projections(weights)
    w_o = weights.matrix("blk.0.attn_output.weight").rows(0, _TOY)[:, :_TOY]
    normed = ops.rms_norm(part, None, identities.EPSILON)
    heads = (len(part), 4, _TOY // 4)
    found = attend(*((normed @ w.T).reshape(heads) for w in (q, k, v)), scale=1 / np.sqrt(heads[2]))
    return relative(identities.documents_loop(part, q, k, v, w_o), found.out @ w_o.T)


def _projections(weights: Weights) -> list[Floats]:
    """Return 16 x 16 numbers of each of layer 0's matrices for queries, keys and values.

    Where there are fewer than 16 rows (one small key head) they are repeated.
    """
    if "blk.0.attn_qkv.weight" in weights:  # rows of the stack's beginning, middle and end
        stacked = weights.matrix("blk.0.attn_qkv.weight")
        rows = stacked.shape[0]
        starts = (0, rows // 2, rows - _TOY)
        return [stacked.rows(start, start + _TOY)[:, :_TOY] for start in starts]
    parts = []
    for name in ("attn_q", "attn_k", "attn_v"):
        matrix = weights.matrix(f"blk.0.{name}.weight")
        rows = min(_TOY, matrix.shape[0])
        parts.append(np.resize(matrix.rows(0, rows)[:, :_TOY], (_TOY, _TOY)))
    return parts
