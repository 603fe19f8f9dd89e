"""phi3: Q, K and V in one matrix, gate and features in another; LongRoPE.

Its files name a sliding window, which llama.cpp does not use, and neither does this.
Follows llama.cpp's ``models/phi3.cpp``.
"""

from __future__ import annotations

from typing import Final

from ggufscope.arrays import Floats
from ggufscope.forward.block import Block
from ggufscope.forward.ffn import feed_forward
from ggufscope.forward.graph import Graph


def layer(block: Block, x: Floats) -> Floats:
    """x (T, E) -> (T, E): llama's order; the queries are scaled before they meet the keys."""
    q, k, v = block.queries_keys_values(block.tap("attn_norm", block.norm("attn_norm", x)))
    q, k = block.rotated(q, k)
    q = block.tap("Qcur", block.scaled(q, block.heads.size**-0.5))
    block.tap("Kcur", k)
    block.tap("Vcur", v)
    x = block.tap("ffn_inp", block.attention(q, k, v, scale=1.0) + x)
    added = feed_forward(block, block.tap("ffn_norm", block.norm("ffn_norm", x)))
    return block.tap("l_out", added + x)


PHI3: Final = Graph(layer)
