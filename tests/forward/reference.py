"""A second opinion: the same models in float64, written apart from the package and without it.

One token at a time and one head at a time, in plain loops over the formulas of the papers; slow,
and with nothing shared. GELU is the exact formula that ggml tabulates in half floats.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.models.families import Small, Tensors

F64 = Any  # float64 arrays throughout; NumPy's own annotations lose that at every operator


class Reference:
    """A model of `tests/families.py`; `run` gives what llama.cpp's callback would."""

    def __init__(self, small: Small, tensors: Tensors | None = None) -> None:
        self.kind = small.architecture
        self.h = small.hparams
        self.w = {n: a.astype(np.float64) for n, a in (tensors or small.tensors()).items()}

    def run(self, ids: tuple[int, ...]) -> dict[str, F64]:
        """`kq_soft_max-N` (H, T, T) of each layer, `result_output` (T, V), and what is between."""
        taps: dict[str, F64] = {}
        x = taps["embd"] = self.w["token_embd.weight"][list(ids)]
        if self.kind.startswith("gemma"):
            x = x * np.float32(math.sqrt(x.shape[1]))
        if "position_embd.weight" in self.w:
            x = x + self.w["position_embd.weight"][: len(ids)]
        for layer in range(self.h["block_count"]):
            x = self._layer(x, layer, taps)
        x = self._norm(x, "output_norm")
        out = self.w.get("output.weight", self.w["token_embd.weight"])
        logits = x @ out.T
        cap = self.h.get("final_logit_softcapping")
        taps["result_output"] = cap * np.tanh(logits / cap) if cap else logits
        return taps

    def _layer(self, x: F64, il: int, taps: dict[str, F64]) -> F64:
        at = f"blk.{il}."
        taps[f"inpL-{il}"] = x
        h = taps[f"attn_norm-{il}"] = self._norm(x, at + "attn_norm")
        attn = taps[f"attn_out-{il}"] = self._attention(h, il, taps)
        if at + "post_attention_norm.weight" in self.w:
            attn = self._norm(attn, at + "post_attention_norm")
        x = x + attn
        h = self._norm(x, at + "ffn_norm")
        ffn = self._experts(h, at) if at + "ffn_gate_inp.weight" in self.w else self._ffn(h, at)
        if at + "post_ffw_norm.weight" in self.w:
            ffn = self._norm(ffn, at + "post_ffw_norm")
        return x + ffn

    def _norm(self, x: F64, name: str) -> F64:
        weight = self.w[name + ".weight"]
        if name + ".bias" in self.w:
            x = x - x.mean(axis=-1, keepdims=True)
            size = np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5)
            return x / size * weight + self.w[name + ".bias"]
        return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5) * weight

    def _linear(self, x: F64, name: str) -> F64:
        y = x @ self.w[name + ".weight"].T
        return y + self.w[name + ".bias"] if name + ".bias" in self.w else y

    def _attention(self, x: F64, il: int, taps: dict[str, F64]) -> F64:
        at, tokens = f"blk.{il}.", len(x)
        heads, shared = self.h["attention.head_count"], self.h["attention.head_count_kv"]
        size = self.h.get("attention.key_length", x.shape[1] // heads)
        if at + "attn_qkv.weight" in self.w:
            both = self._linear(x, at + "attn_qkv")
            q, k, v = np.split(both, [heads * size, (heads + shared) * size], axis=1)
        else:
            q, k, v = (self._linear(x, f"{at}attn_{part}") for part in "qkv")
        q, k = q.reshape(tokens, heads, size), k.reshape(tokens, shared, size)
        v = v.reshape(tokens, shared, size)
        if at + "attn_q_norm.weight" in self.w:
            q, k = self._norm(q, at + "attn_q_norm"), self._norm(k, at + "attn_k_norm")
        if self.kind != "gpt2":
            for p in range(tokens):
                for vectors in (q[p], k[p]):
                    for vector in vectors:
                        self._rotate(vector, p, il)
        scale = self.h.get("attention.scale", 1 / math.sqrt(size))
        cap, window = self.h.get("attn_logit_softcapping"), self._window(il)
        weights = np.zeros((heads, tokens, tokens))
        given = np.full((heads, tokens, tokens), -np.inf)
        mixed = np.zeros((tokens, heads, size))
        for head in range(heads):
            of = head // (heads // shared)
            for p in range(tokens):
                first = max(0, p + 1 - window) if window else 0
                scores = np.array([q[p, head] @ k[s, of] for s in range(first, p + 1)]) * scale
                if cap:
                    scores = cap * np.tanh(scores / cap)
                given[head, p, first : p + 1] = scores
                row = np.exp(scores - scores.max())
                weights[head, p, first : p + 1] = row / row.sum()
                mixed[p, head] = weights[head, p] @ v[:, of]
        taps[f"kq_soft_max-{il}"] = weights
        taps |= {f"scores-{il}": given, f"Qcur-{il}": q, f"Kcur-{il}": k, f"Vcur-{il}": v}
        taps[f"kqv-{il}"] = mixed.transpose(1, 0, 2)
        return self._linear(mixed.reshape(tokens, -1), at + "attn_output")

    def _window(self, il: int) -> int | None:
        period = {"gemma2": 2, "gemma3": 6}.get(self.kind)
        if period is None or il % period == period - 1:
            return None
        window: int = self.h["attention.sliding_window"]
        return window

    def _rotate(self, vector: F64, position: int, il: int) -> None:
        """Turn the pairs of one head's vector, in place, by its position's angles."""
        count = self.h["rope.dimension_count"]
        base = self.h["rope.freq_base"]
        factor = 1 / self.h.get("rope.scaling.factor", 1.0)
        if self.kind == "gemma3" and self._window(il):
            base, factor = 10000.0, 1.0
        factors = self._factors()
        size = self.h.get("rope.scaling.attn_factor", 1.0)
        for pair in range(count // 2):
            angle = position * base ** (-2 * pair / count)
            if factors is not None:
                angle /= factors[pair]
            slow = angle * factor
            if self.h.get("rope.scaling.type") == "yarn":
                mix = self._ramp(pair, count, base)
                slow = slow * (1 - mix) + angle * mix
                scale = 1 + 0.1 * math.log(1 / factor)
            else:
                scale = size
            interleaved = self.kind == "llama"
            i = 2 * pair if interleaved else pair
            j = i + 1 if interleaved else pair + count // 2
            a, b = vector[i], vector[j]
            vector[i] = (a * math.cos(slow) - b * math.sin(slow)) * scale
            vector[j] = (a * math.sin(slow) + b * math.cos(slow)) * scale

    def _factors(self) -> Any:
        if "rope_freqs.weight" in self.w:
            return self.w["rope_freqs.weight"]
        original = self.h.get("rope.scaling.original_context_length", self.h["context_length"])
        which = "long" if self.h["context_length"] > original else "short"
        return self.w.get(f"rope_factors_{which}.weight")

    def _ramp(self, pair: int, count: int, base: float) -> float:
        """YaRN: 1 for pairs that turn often in the original context, 0 for those that do not."""
        original = self.h["rope.scaling.original_context_length"]

        def dim(turns: float) -> float:
            return count * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

        low, high = max(0, math.floor(dim(32))), min(count - 1, math.ceil(dim(1)))
        return 1 - min(1.0, max(0.0, (pair - low) / max(0.001, high - low)))

    def _ffn(self, x: F64, at: str) -> F64:
        up = self._linear(x, at + "ffn_up")
        if self.kind == "gpt2":
            return self._linear(_gelu(up), at + "ffn_down")
        if at + "ffn_gate.weight" in self.w:
            gate = self._linear(x, at + "ffn_gate")
        else:
            gate, up = np.split(up, 2, axis=1)
        act = _gelu(gate) if self.kind.startswith("gemma") else _silu(gate)
        return self._linear(act * up, at + "ffn_down")

    def _experts(self, x: F64, at: str) -> F64:
        out = np.zeros_like(x)
        for token, vector in enumerate(x):
            scores = self.w[at + "ffn_gate_inp.weight"] @ vector
            shares = np.exp(scores - scores.max())
            shares /= shares.sum()
            chosen = np.argsort(-shares)[: self.h["expert_used_count"]]
            total = 1.0 if self.kind == "qwen2moe" else shares[chosen].sum()
            for expert in chosen:
                gate, up, down = (
                    self.w[f"{at}ffn_{part}_exps.weight"][expert] for part in ("gate", "up", "down")
                )
                made = down @ (_silu(gate @ vector) * (up @ vector))
                out[token] += made * shares[expert] / total
            if at + "ffn_up_shexp.weight" in self.w:
                gate, up, down = (
                    self.w[f"{at}ffn_{part}_shexp.weight"] for part in ("gate", "up", "down")
                )
                opening = 1 / (1 + np.exp(-(self.w[at + "ffn_gate_inp_shexp.weight"] @ vector)))
                out[token] += opening * (down @ (_silu(gate @ vector) * (up @ vector)))
        return out


def _silu(x: F64) -> F64:
    return x / (1 + np.exp(-x))


def _gelu(x: F64) -> F64:
    """The tanh form, which ggml uses."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
