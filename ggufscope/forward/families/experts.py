"""qwen2moe and qwen3moe: experts in every layer; qwen2moe has one that every token visits, too.

Follows llama.cpp's ``models/qwen2moe.cpp`` and ``models/qwen3moe.cpp``. Mixtral is in llama.py.
"""

from __future__ import annotations

from typing import Final

from ggufscope.arrays import Floats
from ggufscope.forward.block import Block
from ggufscope.forward.families import llama
from ggufscope.forward.ffn import experts, shared_expert
from ggufscope.forward.graph import Graph


def qwen2moe(block: Block, x: Floats) -> Floats:
    """x (T, E) -> (T, E): the weights of a token's experts are used as the router gives them."""
    x = block.tap("ffn_inp", llama.attend(block, x) + x)
    normed = block.tap("ffn_norm", block.norm("ffn_norm", x))
    added = experts(block, normed, normalized=False)
    added = block.tap("ffn_out", added + shared_expert(block, normed))
    return block.tap("l_out", added + x)


QWEN2MOE: Final = Graph(qwen2moe, experts_normalized=False)
QWEN3MOE: Final = Graph(llama.layer)
