"""One layer there and back: made again from what entered it, then the gradient taken through it.

The families' layers differ in what they have, not in their order: a norm, attention, perhaps a norm
of what it adds, the same for the feed-forward, and the residual stream past both. What a layer has
is read from its tensors, the rest from its family's ``Graph``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from ggufscope.arrays import Floats, Places
from ggufscope.forward import gradients, ops
from ggufscope.forward.attention import attend
from ggufscope.forward.block import Block
from ggufscope.forward.graph import Graph
from ggufscope.forward.weights import Matrix

Tell = Callable[[str, Floats, Floats, "Places | None", "int | None"], object]
"""Is told of each matrix that the gradient comes through: its tensor, what entered it (N, in), the
gradient at its output (N, out), before any bias; in a stack of experts which of the layer's tokens
these are, and the expert."""

_LEAST_SUM: Final = np.float32(2.0**-14)
"""As in ``ffn.py``."""


class LayerBack:
    """A layer of a pass over the tokens of one text, from position 0 on."""

    def __init__(self, graph: Graph, block: Block, x: Floats) -> None:
        """x (T, E), what entered the layer; ``y`` is what leaves it."""
        self._layer_norm = graph.norm == "layer"
        self._block = block
        self._scale, self._cap = graph.scores(block)
        self._x = x
        self._attn_in = self._norm("attn_norm", x)
        self._attend(self._attn_in)
        self._attn_added = added = block.project("attn_output", self._mixed)
        if block.has("post_attention_norm"):
            added = block.norm("post_attention_norm", added)
        self._middle = added + x
        self._ffn_in = self._norm("ffn_norm", self._middle)
        self._experts: _Experts | None = None
        self._dense: list[_Dense] = []
        if block.has("ffn_gate_inp"):
            self._experts = _Experts(block, self._ffn_in, normalized=graph.experts_normalized)
            added = self._experts.y
            if block.has("ffn_up_shexp"):
                self._dense.append(_Dense(block, self._ffn_in, "_shexp"))
                added = added + self._dense[0].y
        else:
            self._dense.append(_Dense(block, self._ffn_in, ""))
            added = self._dense[0].y
        self._ffn_added = added
        if block.has("post_ffw_norm"):
            added = block.norm("post_ffw_norm", added)
        self.y = added + self._middle

    def back(self, dy: Floats, tell: Tell) -> Floats:
        """dy (T, E), the gradient where the layer ends -> where it begins; may be called again."""
        block = self._block
        added = dy
        if block.has("post_ffw_norm"):
            added = self._norm_back("post_ffw_norm", added, self._ffn_added, plain=True)
        inner = np.zeros_like(self._ffn_in)
        for dense in self._dense:
            inner += dense.back(added, tell)
        if self._experts is not None:
            inner += self._experts.back(added, tell)
        dy = dy + self._norm_back("ffn_norm", inner, self._middle)
        added = dy
        if block.has("post_attention_norm"):
            added = self._norm_back("post_attention_norm", added, self._attn_added, plain=True)
        mixed = _linear_back(block, "attn_output", self._mixed, added, tell)
        inner = self._attention_back(mixed, tell)
        return dy + self._norm_back("attn_norm", inner, self._x)

    def _norm(self, stem: str, x: Floats) -> Floats:
        return self._block.layer_norm(stem, x) if self._layer_norm else self._block.norm(stem, x)

    def _norm_back(self, stem: str, dy: Floats, x: Floats, *, plain: bool = False) -> Floats:
        block, hparams = self._block, self._block.hparams
        weight = block.vector(stem)
        if self._layer_norm and not plain:
            return gradients.layer_norm(dy, x, weight, hparams.layer_norm_epsilon or 0.0)
        return gradients.rms_norm(dy, x, weight, hparams.layer_norm_rms_epsilon or 0.0)

    def _attend(self, x: Floats) -> None:
        block = self._block
        self._raw_q, self._raw_k, self._v = block.queries_keys_values(x)
        q, k = self._raw_q, self._raw_k
        if block.has("attn_q_norm"):
            q, k = block.norm("attn_q_norm", q), block.norm("attn_k_norm", k)
        self._q, self._k = block.rotated(q, k)
        scaled = self._q * np.float32(self._scale)
        found = attend(scaled, self._k, self._v, scale=1.0, window=block.window, cap=self._cap)
        self._mixed = found.out

    def _attention_back(self, dy: Floats, tell: Tell) -> Floats:
        """dy (T, H * M) at the heads' output -> (T, E) at what attention was given."""
        block, x = self._block, self._attn_in
        of, tokens = block.heads, len(x)
        dq, dk, dv = gradients.attend(
            dy.reshape(tokens, of.count, of.width),
            self._q,
            self._k,
            self._v,
            scale=self._scale,
            window=block.window,
            cap=self._cap,
        )
        if block.rotation is not None:
            angles = block.rotation.angles(0, tokens)
            dq = gradients.rotated(dq, block.rotation.pairs, *angles)
            dk = gradients.rotated(dk, block.rotation.pairs, *angles)
        if block.has("attn_q_norm"):
            dq = self._norm_back("attn_q_norm", dq, self._raw_q, plain=True)
            dk = self._norm_back("attn_k_norm", dk, self._raw_k, plain=True)
        parts = [each.reshape(tokens, -1) for each in (dq, dk, dv)]
        if block.has("attn_qkv"):
            return _linear_back(block, "attn_qkv", x, np.concatenate(parts, axis=1), tell)
        total = np.zeros_like(x)
        for stem, part in zip(("attn_q", "attn_k", "attn_v"), parts, strict=True):
            total += _linear_back(block, stem, x, part, tell)
        return total


class _Dense:
    """A feed-forward of one matrix each way; the shared expert is one, behind a gate of its own."""

    def __init__(self, block: Block, x: Floats, suffix: str) -> None:
        self._block, self._x, self._suffix = block, x, suffix
        up = block.project(f"ffn_up{suffix}", x)
        self._gate: Floats | None = None
        self._stacked = False
        if block.has(f"ffn_gate{suffix}"):
            self._gate = block.project(f"ffn_gate{suffix}", x)
        elif block.activation != "gelu":
            self._gate, up = np.split(up, 2, axis=1)
            self._stacked = True
        self._up = up
        self._hidden = _activated(block, self._gate, up)
        self.y = self._made = block.project(f"ffn_down{suffix}", self._hidden)
        self._opening: Floats | None = None
        if suffix:
            self._row = block.vector(f"ffn_gate_inp{suffix}").reshape(1, -1)
            self._opening = ops.sigmoid(x @ self._row.T)
            self.y = self._made * self._opening

    def back(self, dy: Floats, tell: Tell) -> Floats:
        block, x, suffix = self._block, self._x, self._suffix
        dx = np.zeros_like(x)
        if self._opening is not None:
            opened = np.einsum("te,te->t", dy, self._made)[:, None]
            slope = opened * self._opening * (1 - self._opening)
            tell(block.name(f"ffn_gate_inp{suffix}"), x, slope, None, None)
            dx += slope * self._row
            dy = dy * self._opening
        hidden = _linear_back(block, f"ffn_down{suffix}", self._hidden, dy, tell)
        gate, up = _activation_back(block, hidden, self._gate, self._up)
        if self._stacked and gate is not None:
            up, gate = np.concatenate((gate, up), axis=1), None
        dx += _linear_back(block, f"ffn_up{suffix}", x, up, tell)
        if gate is not None:
            dx += _linear_back(block, f"ffn_gate{suffix}", x, gate, tell)
        return dx


@dataclass(frozen=True, slots=True)
class _Visit:
    """The tokens that one expert was chosen for, and what it made of them."""

    at: tuple[Places, Places]
    """Which tokens, and which of their choices it is."""
    x: Floats
    gate: Floats
    up: Floats
    hidden: Floats


class _Experts:
    """Each token through the experts that the router picks for it; the choice has no gradient."""

    def __init__(self, block: Block, x: Floats, *, normalized: bool) -> None:
        self._block, self._x, self._normalized = block, x, normalized
        self._shares = ops.softmax(block.project("ffn_gate_inp", x))
        used = block.hparams.expert_used_count or 0
        self._chosen = np.argsort(-self._shares, axis=1, kind="stable")[:, :used]
        self._picked = np.take_along_axis(self._shares, self._chosen, axis=1)
        self._sum = np.ones((len(x), 1), np.float32)
        if normalized:
            self._sum = np.maximum(self._picked.sum(axis=1, keepdims=True), _LEAST_SUM)
        self._weights = self._picked / self._sum
        self._visits: dict[int, _Visit] = {}
        self._each = np.empty((*self._chosen.shape, x.shape[1]), np.float32)
        for expert in map(int, np.unique(self._chosen)):
            at = np.nonzero(self._chosen == expert)
            mine = x[at[0]]
            gate, up = (self._through(part, expert, mine) for part in ("gate", "up"))
            hidden = _activated(block, gate, up)
            self._each[at] = self._through("down", expert, hidden)
            self._visits[expert] = _Visit((at[0], at[1]), mine, gate, up, hidden)
        self.y: Floats = np.einsum("tue,tu->te", self._each, self._weights)

    def _matrix(self, part: str, expert: int) -> tuple[Matrix, tuple[int, int]]:
        matrix = self._block.weights.matrix(self._block.name(f"ffn_{part}_exps"))
        rows = matrix.shape[0] // (self._block.hparams.expert_count or 1)
        return matrix, (expert * rows, (expert + 1) * rows)

    def _through(self, part: str, expert: int, x: Floats) -> Floats:
        matrix, rows = self._matrix(part, expert)
        return ops.linear(x, matrix, rows=rows)

    def _through_back(
        self, part: str, expert: int, x: Floats, dy: Floats, tokens: Places, tell: Tell
    ) -> Floats:
        matrix, rows = self._matrix(part, expert)
        tell(matrix.name, x, dy, tokens, expert)
        return gradients.linear(dy, matrix, rows=rows)

    def back(self, dy: Floats, tell: Tell) -> Floats:
        dx = self._router_back(np.einsum("tue,te->tu", self._each, dy), tell)
        for expert, visit in self._visits.items():
            tokens = visit.at[0]
            out = dy[tokens] * self._weights[visit.at][:, None]
            hidden = self._through_back("down", expert, visit.hidden, out, tokens, tell)
            gate, up = _activation_back(self._block, hidden, visit.gate, visit.up)
            for part, each in (("gate", gate), ("up", up)):
                if each is not None:
                    dx[tokens] += self._through_back(part, expert, visit.x, each, tokens, tell)
        return dx

    def _router_back(self, dy: Floats, tell: Tell) -> Floats:
        """dy (T, U), the gradient of the weights of a token's experts -> (T, E)."""
        picked = dy / self._sum
        if self._normalized:
            along = np.einsum("tu,tu->t", dy, self._weights)[:, None] / self._sum
            picked -= np.where(self._sum > _LEAST_SUM, along, np.float32(0))
        shares = np.zeros_like(self._shares)
        np.put_along_axis(shares, self._chosen, picked, axis=1)
        logits = gradients.softmax(shares, self._shares)
        return _linear_back(self._block, "ffn_gate_inp", self._x, logits, tell)


def _linear_back(block: Block, stem: str, x: Floats, dy: Floats, tell: Tell) -> Floats:
    matrix = block.weights.matrix(block.name(stem))
    tell(matrix.name, x, dy, None, None)
    return gradients.linear(dy, matrix)


def _activated(block: Block, gate: Floats | None, up: Floats) -> Floats:
    if gate is None:
        return ops.gelu(up)
    return (ops.gelu(gate) if block.activation == "geglu" else ops.silu(gate)) * up


def _activation_back(
    block: Block, dy: Floats, gate: Floats | None, up: Floats
) -> tuple[Floats | None, Floats]:
    """dy (N, F) -> the gradients of gate, where there is one, and up."""
    if gate is None:
        return None, dy * gradients.gelu(up)
    geglu = block.activation == "geglu"
    opened = ops.gelu(gate) if geglu else ops.silu(gate)
    slope = gradients.gelu(gate) if geglu else gradients.silu(gate)
    return dy * up * slope, dy * opened
