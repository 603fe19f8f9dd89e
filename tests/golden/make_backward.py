"""Make `backward/*.npz` anew: PyTorch's gradients at the output of every matrix of small models.

    python -m tests.golden.make_backward --check

Needs PyTorch (2.13.0, CPU), which no other test does: `pip install torch --target FOLDER`, and
FOLDER on PYTHONPATH. The models are those of `tests/models/families.py`, in float64, written here
apart from the package; their logits are held to llama.cpp's by `tests/forward/reference.py`, to
which this holds its own.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.forward.reference import Reference
from tests.golden.arrays import array_outcome
from tests.golden.command import Outcome, folder_of, parser, report
from tests.models.families import IDS, SMALL, V

LENGTHS = (9, 5)
"""Tokens of the two windows: longer and shorter than the sliding window."""
FACES = 4
"""A gradient (T, out) is kept as its products with so many random vectors (out,)."""
Tensor = Any


def windows() -> list[list[int]]:
    """Return the token ids of each window."""
    ids = list(IDS)
    return [ids[: LENGTHS[0]], ids[LENGTHS[0] : sum(LENGTHS)]]


def labels() -> list[list[int]]:
    """Return the labels of each token, one for each window's tokens."""
    drawn = np.random.default_rng(3).integers(0, V, sum(LENGTHS))
    return [[*map(int, drawn[: LENGTHS[0]])], [*map(int, drawn[LENGTHS[0] :])]]


def faces(out: int) -> Any:
    """Return the random vectors (out, FACES)."""
    return np.random.default_rng(out).standard_normal((out, FACES))


class Graph:
    """The layers of every family in torch, which keeps what each matrix gives."""

    def __init__(self, name: str) -> None:
        import torch  # here alone, and in no test

        self.torch = torch
        self.small = SMALL[name]
        self.kind, self.h = self.small.architecture, self.small.hparams
        self.reference = Reference(self.small)
        self.w = {n: torch.tensor(a) for n, a in self.reference.w.items()}
        self.outputs: dict[str, Tensor] = {}

    def gradients(self, ids: list[int], wanted: list[int]) -> dict[str, Any]:
        """Return the gradient of the sum of -log p(label) at each matrix's output, projected."""
        torch = self.torch
        self.outputs = {}
        logits = self._logits(ids)
        theirs = self.reference.run(tuple(ids))["result_output"]
        assert np.abs(logits.detach().numpy() - theirs).max() < 1e-9, self.kind
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(wanted), reduction="sum")
        loss.backward()
        found = {}
        for name, out in self.outputs.items():
            grad = (torch.zeros_like(out) if out.grad is None else out.grad).numpy()
            found[name] = (grad @ faces(grad.shape[-1])).astype(np.float32)
        return found

    def _keep(self, name: str, y: Tensor) -> Tensor:
        y.requires_grad_() if not y.requires_grad else None
        y.retain_grad()
        self.outputs[name] = y
        return y

    def _linear(self, x: Tensor, name: str) -> Tensor:
        y = self._keep(name + ".weight", x @ self.w[name + ".weight"].T)
        bias = self.w.get(name + ".bias")
        return y if bias is None else y + bias

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.w[name + ".weight"], self.w.get(name + ".bias")
        if bias is not None:
            return self.torch.nn.functional.layer_norm(x, weight.shape, weight, bias, 1e-5)
        return self.torch.nn.functional.rms_norm(x, weight.shape, weight, 1e-5)

    def _logits(self, ids: list[int]) -> Tensor:
        embedded = self.w["token_embd.weight"][ids].clone()
        x = self._keep("token_embd.weight", embedded)
        if self.kind.startswith("gemma"):
            x = x * float(np.float32(math.sqrt(x.shape[1])))
        if "position_embd.weight" in self.w:
            x = x + self.w["position_embd.weight"][: len(ids)]
        for layer in range(self.h["block_count"]):
            x = self._layer(x, layer)
        x = self._norm(x, "output_norm")
        out = self.w.get("output.weight", self.w["token_embd.weight"])
        logits = self._keep("logits", x @ out.T)
        cap = self.h.get("final_logit_softcapping")
        return cap * self.torch.tanh(logits / cap) if cap else logits

    def _layer(self, x: Tensor, il: int) -> Tensor:
        at = f"blk.{il}."
        added = self._attention(self._norm(x, at + "attn_norm"), il)
        if at + "post_attention_norm.weight" in self.w:
            added = self._norm(added, at + "post_attention_norm")
        x = x + added
        h = self._norm(x, at + "ffn_norm")
        moe = at + "ffn_gate_inp.weight" in self.w
        added = self._experts(h, at) if moe else self._ffn(h, at)
        if at + "post_ffw_norm.weight" in self.w:
            added = self._norm(added, at + "post_ffw_norm")
        return x + added

    def _attention(self, x: Tensor, il: int) -> Tensor:
        torch, at, tokens = self.torch, f"blk.{il}.", len(x)
        heads, shared = self.h["attention.head_count"], self.h["attention.head_count_kv"]
        size = self.h.get("attention.key_length", x.shape[1] // heads)
        if at + "attn_qkv.weight" in self.w:
            sizes = [heads * size, shared * size, shared * size]
            q, k, v = torch.split(self._linear(x, at + "attn_qkv"), sizes, dim=1)
        else:
            q, k, v = (self._linear(x, f"{at}attn_{part}") for part in "qkv")
        q, k, v = (each.reshape(tokens, -1, size) for each in (q, k, v))
        if at + "attn_q_norm.weight" in self.w:
            q, k = self._norm(q, at + "attn_q_norm"), self._norm(k, at + "attn_k_norm")
        if self.kind != "gpt2":
            turns = torch.tensor(self._turns(tokens, size, il))
            q, k = (torch.einsum("thd,ted->the", each, turns) for each in (q, k))
        k, v = (each.repeat_interleave(heads // shared, dim=1) for each in (k, v))
        scores = torch.einsum("thd,shd->hts", q, k)
        scores = scores * self.h.get("attention.scale", 1 / math.sqrt(size))
        cap, window = self.h.get("attn_logit_softcapping"), self.reference._window(il)
        if cap:
            scores = cap * torch.tanh(scores / cap)
        back = torch.arange(tokens)[:, None] - torch.arange(tokens)
        hidden = (back < 0) | (back >= (window or tokens))
        shares = torch.softmax(scores.masked_fill(hidden, -math.inf), dim=-1)
        mixed = torch.einsum("hts,shd->thd", shares, v)
        return self._linear(mixed.reshape(tokens, -1), at + "attn_output")

    def _turns(self, tokens: int, size: int, il: int) -> Any:
        """(T, D, D): what rotates a vector of each position, of the reference's own rotations."""
        turns = np.empty((tokens, size, size))
        for position in range(tokens):
            for at, unit in enumerate(np.eye(size)):
                turns[position, :, at] = unit
                self.reference._rotate(turns[position, :, at], position, il)
        return turns

    def _ffn(self, x: Tensor, at: str, end: str = "") -> Tensor:
        up = self._linear(x, f"{at}ffn_up{end}")
        if self.kind == "gpt2":
            hidden = self._gelu(up)
        else:
            if f"{at}ffn_gate{end}.weight" in self.w:
                gate = self._linear(x, f"{at}ffn_gate{end}")
            else:
                gate, up = self.torch.chunk(up, 2, dim=1)
            gelu = self.kind.startswith("gemma")
            hidden = (self._gelu(gate) if gelu else self.torch.nn.functional.silu(gate)) * up
        return self._linear(hidden, f"{at}ffn_down{end}")

    def _gelu(self, x: Tensor) -> Tensor:
        return self.torch.nn.functional.gelu(x, approximate="tanh")

    def _experts(self, x: Tensor, at: str) -> Tensor:
        """Every token through every expert; those not chosen are weighed with 0."""
        torch = self.torch
        shares = torch.softmax(self._linear(x, at + "ffn_gate_inp"), dim=-1)
        least = torch.topk(shares, self.h["expert_used_count"], dim=-1).values[:, -1:]
        weights = torch.where(shares >= least, shares, torch.zeros_like(shares))
        if self.kind != "qwen2moe":
            weights = weights / weights.sum(dim=-1, keepdim=True)
        stacks = [f"{at}ffn_{part}_exps.weight" for part in ("gate", "up", "down")]
        gate, up = (
            self._keep(stack, torch.einsum("te,xfe->txf", x, self.w[stack])) for stack in stacks[:2]
        )
        hidden = torch.nn.functional.silu(gate) * up
        made = self._keep(stacks[2], torch.einsum("txf,xef->txe", hidden, self.w[stacks[2]]))
        out = torch.einsum("txe,tx->te", made, weights)
        if at + "ffn_up_shexp.weight" in self.w:
            row = at + "ffn_gate_inp_shexp.weight"
            opening = torch.sigmoid(self._keep(row, x @ self.w[row][:, None]))
            out = out + opening * self._ffn(x, at, "_shexp")
        return out


def _make(folder: Path | None) -> Iterator[Outcome]:
    for name in SMALL:
        made: dict[str, Any] = {}
        for at, (ids, wanted) in enumerate(zip(windows(), labels(), strict=True)):
            found = Graph(name).gradients(ids, wanted)
            made |= {f"{at}/{tensor}": grad for tensor, grad in found.items()}
        yield array_outcome(f"backward/{name}.npz", made, folder)


def main(arguments: list[str] | None = None) -> int:
    """Differentiate every model."""
    given = parser(__doc__).parse_args(arguments)
    return report(_make(folder_of(given)))


if __name__ == "__main__":
    sys.exit(main())
