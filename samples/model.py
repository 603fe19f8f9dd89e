"""The sample model in PyTorch: the llama architecture as llama.cpp computes it.

The parameters carry the names which the tensors have in the GGUF file, so that the state
dictionary is exported as it is. Shapes: B windows, T tokens, C embedding, H query heads,
G KV heads, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    """The sizes of the model."""

    vocabulary: int
    context: int = 256
    embedding: int = 256
    layers: int = 4
    heads: int = 8
    kv_heads: int = 2
    feed_forward: int = 768
    rope_base: float = 10000.0
    epsilon: float = 1e-5

    @property
    def head_size(self) -> int:
        """D, the size of one head."""
        return self.embedding // self.heads


def rope_table(config: Config) -> tuple[Tensor, Tensor]:
    """cos, sin (T, D / 2): the angle of pair i at position t is t * base ** (-2 i / D)."""
    pairs = torch.arange(0, config.head_size, 2, dtype=torch.float64)
    speeds = config.rope_base ** (-pairs / config.head_size)
    angles = torch.outer(torch.arange(config.context, dtype=torch.float64), speeds)
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """X (B, H, T, D) with each pair of neighbours (x[2i], x[2i + 1]) turned by its angle.

    llama.cpp turns neighbours for the llama architecture, not x[i] with x[i + D / 2], so a
    model trained this way is exported without permuting the rows of Q and K.
    """
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class Block(nn.Module):
    """One layer: attention, then the gated feed-forward, each on a normalised input."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        c, kv = config.embedding, config.kv_heads * config.head_size
        self.attn_norm = nn.RMSNorm(c, eps=config.epsilon)
        self.attn_q = nn.Linear(c, c, bias=False)
        self.attn_k = nn.Linear(c, kv, bias=False)
        self.attn_v = nn.Linear(c, kv, bias=False)
        self.attn_output = nn.Linear(c, c, bias=False)
        self.ffn_norm = nn.RMSNorm(c, eps=config.epsilon)
        self.ffn_gate = nn.Linear(c, config.feed_forward, bias=False)
        self.ffn_up = nn.Linear(c, config.feed_forward, bias=False)
        self.ffn_down = nn.Linear(config.feed_forward, c, bias=False)

    def attention(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """X (B, T, C) to (B, T, C): query head h reads KV head h // (H / G)."""
        b, t, _ = x.shape
        heads, groups, d = self.config.heads, self.config.kv_heads, self.config.head_size
        q = self.attn_q(x).view(b, t, heads, d).transpose(1, 2)
        k = self.attn_k(x).view(b, t, groups, d).transpose(1, 2)
        v = self.attn_v(x).view(b, t, groups, d).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = (y.repeat_interleave(heads // groups, dim=1) for y in (k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        projected: Tensor = self.attn_output(mixed.transpose(1, 2).reshape(b, t, heads * d))
        return projected

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """X (B, T, C) to (B, T, C)."""
        x = x + self.attention(self.attn_norm(x), cos, sin)
        y = self.ffn_norm(x)
        hidden: Tensor = x + self.ffn_down(F.silu(self.ffn_gate(y)) * self.ffn_up(y))
        return hidden


class Llama(nn.Module):
    """The whole model."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.token_embd = nn.Embedding(config.vocabulary, config.embedding)
        self.blk = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.output_norm = nn.RMSNorm(config.embedding, eps=config.epsilon)
        self.output = nn.Linear(config.embedding, config.vocabulary, bias=False)
        cos, sin = rope_table(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                # The two matrices that write to the residual stream start smaller, so
                # that its size does not grow with the number of layers.
                writes = "attn_output" in name or "ffn_down" in name
                # Rows of tokens start smaller still: chance is soon outweighed by what is
                # learnt, so that words which are used alike come to point the same way.
                std = 0.006 if name == "token_embd.weight" else 0.02
                nn.init.normal_(weight, std=std / (2 * config.layers) ** (0.5 * writes))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T) to logits (B, T, vocabulary)."""
        t = tokens.shape[1]
        x = self.token_embd(tokens)
        for block in self.blk:
            x = block(x, self.cos[:t], self.sin[:t])
        logits: Tensor = self.output(self.output_norm(x))
        return logits
