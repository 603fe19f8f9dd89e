"""llama, and what calls itself so: mistral, smollm, mixtral (llama with experts).

Follows llama.cpp's ``models/llama.cpp``.
"""

from __future__ import annotations

from typing import Final

from ggufscope.arrays import Floats
from ggufscope.forward.block import Block
from ggufscope.forward.ffn import experts, feed_forward
from ggufscope.forward.graph import Graph


def layer(block: Block, x: Floats) -> Floats:
    """x (T, E) -> (T, E): attention and feed-forward, each on a normed copy, each added."""
    x = block.tap("ffn_inp", attend(block, x) + x)
    normed = block.tap("ffn_norm", block.norm("ffn_norm", x))
    if block.has("ffn_gate_inp"):
        added = experts(block, normed, normalized=True)
    else:
        added = feed_forward(block, normed)
    return block.tap("l_out", added + x)


def attend(block: Block, x: Floats) -> Floats:
    """x (T, E) -> what attention adds (T, E); heads are normed where the layer has such norms."""
    q, k, v = queries_keys_values(block, x)
    return block.attention(q, k, v, scale=block.heads.size**-0.5)


def queries_keys_values(block: Block, x: Floats) -> tuple[Floats, Floats, Floats]:
    """x (T, E) -> q (T, H, D), k (T, K, D), v (T, K, M): normed first, then rotated."""
    q, k, v = block.queries_keys_values(block.tap("attn_norm", block.norm("attn_norm", x)))
    if block.has("attn_q_norm"):
        q = block.norm("attn_q_norm", q)
        k = block.norm("attn_k_norm", k)
    q, k = block.rotated(q, k)
    return block.tap("Qcur", q), block.tap("Kcur", k), block.tap("Vcur", v)


LLAMA: Final = Graph(layer)
