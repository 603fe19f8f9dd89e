"""gpt2: learned positions, layer norms, biases everywhere, a feed-forward without a gate.

Follows llama.cpp's ``models/gpt2.cpp``.
"""

from __future__ import annotations

from typing import Final

from ggufscope.arrays import Floats
from ggufscope.forward.block import Block
from ggufscope.forward.ffn import feed_forward
from ggufscope.forward.graph import Graph


def layer(block: Block, x: Floats) -> Floats:
    """x (T, E) -> (T, E): attention and feed-forward, each on a normed copy, each added."""
    normed = block.tap("attn_norm", block.layer_norm("attn_norm", x))
    q, k, v = block.queries_keys_values(normed)
    block.tap("Qcur", q)
    block.tap("Kcur", k)
    block.tap("Vcur", v)
    x = block.tap("ffn_inp", block.attention(q, k, v, scale=block.heads.size**-0.5) + x)
    added = feed_forward(block, block.tap("ffn_norm", block.layer_norm("ffn_norm", x)))
    return block.tap("l_out", added + x)


GPT2: Final = Graph(layer, norm="layer")
