"""The feed-forward: gated, plain, or one of many experts.

Follows ``build_ffn`` and ``build_moe_ffn`` in llama.cpp's ``llama-graph.cpp``.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ggufscope.arrays import Floats
from ggufscope.forward import ops
from ggufscope.forward.block import Block
from ggufscope.forward.weights import tile_rows
from ggufscope.pool import in_parallel

_LEAST_SUM: Final = np.float32(2.0**-14)
"""Weights of experts are not divided by less: the smallest normal number of a half."""
_TOGETHER: Final = 1 << 17
"""Features whose activation is computed together."""


def feed_forward(block: Block, x: Floats) -> Floats:
    """x (T, E) -> (T, E): out to F features, let through, and back."""
    hidden = _hidden(block, x)
    block.tap(f"ffn_{block.activation}", hidden)
    return block.tap("ffn_out", block.project("ffn_down", hidden))


def _hidden(block: Block, x: Floats) -> Floats:
    """x (T, E) -> the features (T, F), by the tensors that the layer has."""
    if block.has("ffn_gate"):
        up, gate = block.project_each({"ffn_up": "ffn_up", "ffn_gate": "ffn_gate"}, x)
        return _gated(block, gate, up)
    up = block.project("ffn_up", x, "ffn_up")
    if block.activation == "gelu":
        return ops.gelu(up)
    gate, features = np.split(up, 2, axis=1)  # stacked in one matrix, the gate first
    return _gated(block, gate, features)


def _gated(block: Block, gate: Floats, up: Floats) -> Floats:
    """gate, up (T, F) -> (T, F): some tokens at a time, which stay in the cache."""
    activation = ops.gelu if block.activation == "geglu" else ops.silu
    out = np.empty_like(up)
    step = tile_rows(max(1, up.size // max(1, len(up))), _TOGETHER)

    @np.errstate(all="ignore")  # numbers overflow as they do in C; the setting is the thread's
    def some(start: int) -> None:
        part = slice(start, start + step)
        np.multiply(activation(gate[part]), up[part], out=out[part])

    in_parallel(some, range(0, len(up), step))
    return out


def experts(block: Block, x: Floats, *, normalized: bool) -> Floats:
    """x (T, E) -> (T, E): each token through the experts that the router picks for it.

    ``normalized``: the weights of a token's experts are made to sum to 1.
    """
    logits = block.project("ffn_gate_inp", x, "ffn_moe_logits")
    probs = ops.softmax(logits.copy())
    block.tap("ffn_moe_probs", probs)
    used = block.hparams.expert_used_count or 0
    chosen = np.argsort(-probs, axis=1, kind="stable")[:, :used]
    block.tap("ffn_moe_topk", chosen.astype(np.int32))
    weights = np.take_along_axis(probs, chosen, axis=1)
    block.tap("ffn_moe_weights", weights)
    if normalized:
        weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), _LEAST_SUM)
    each = _through_experts(block, x, chosen)
    weighted = each * weights[:, :, None]
    total = weighted[:, 0].copy()
    for index in range(1, used):  # one after the other, as llama.cpp adds them
        total += weighted[:, index]
    return block.tap("ffn_moe_out", total)


def _through_experts(
    block: Block, x: Floats, chosen: np.ndarray[tuple[int, ...], np.dtype[np.intp]]
) -> Floats:
    """x (T, E), chosen (T, U) -> (T, U, E). An expert that no token chose is not read."""
    tokens, used = chosen.shape
    gates, ups, downs = (
        block.weights.matrix(block.name(f"ffn_{part}_exps")) for part in ("gate", "up", "down")
    )
    count = block.hparams.expert_count or 1
    width = ups.shape[0] // count
    embedding = downs.shape[0] // count
    gate, up, hidden = (np.empty((tokens, used, width), np.float32) for _ in range(3))
    out = np.empty((tokens, used, embedding), np.float32)
    for expert in np.unique(chosen):
        at = np.nonzero(chosen == expert)
        mine = x[at[0]]
        inner = (int(expert) * width, (int(expert) + 1) * width)
        outer = (int(expert) * embedding, (int(expert) + 1) * embedding)
        for matrix, into in ((gates, gate), (ups, up)):
            entered = block.trace.enter(matrix.name, mine, int(expert))
            into[at] = ops.linear(entered, matrix, rows=inner)
        hidden[at] = _gated(block, gate[at], up[at])
        entered = block.trace.enter(downs.name, hidden[at], int(expert))
        out[at] = ops.linear(entered, downs, rows=outer)
    block.tap("ffn_moe_up", up)
    block.tap("ffn_moe_gate", gate)
    block.tap(f"ffn_moe_{block.activation}", hidden)
    return block.tap("ffn_moe_down", out)


def shared_expert(block: Block, x: Floats) -> Floats:
    """x (T, E) -> (T, E): the expert that every token visits, as far as its own gate lets it."""
    gate, up = block.project_each({"ffn_gate_shexp": None, "ffn_up_shexp": None}, x)
    out = block.tap("ffn_shexp", block.project("ffn_down_shexp", _gated(block, gate, up)))
    row = block.vector("ffn_gate_inp_shexp")
    entered = block.trace.enter(block.name("ffn_gate_inp_shexp"), x)
    opening: Floats = ops.sigmoid(entered @ row.reshape(-1, 1))
    return out * opening
