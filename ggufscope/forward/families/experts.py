"""qwen2moe and qwen3moe: experts in every layer; qwen2moe has one that every token visits, too.

Follows llama.cpp's ``models/qwen2moe.cpp`` and ``models/qwen3moe.cpp``. Mixtral is in llama.py.
"""

from __future__ import annotations

from typing import Final

from ggufscope.forward.block import Block
from ggufscope.forward.families import llama
from ggufscope.forward.ffn import experts, shared_expert
from ggufscope.forward.graph import ATTENTION, Graph
from ggufscope.forward.weights import Floats

_EXPERTS: Final = "ffn_norm ffn_gate_inp ffn_gate_exps ffn_up_exps ffn_down_exps"
_SHARED: Final = "ffn_gate_inp_shexp ffn_gate_shexp ffn_up_shexp ffn_down_shexp"


def qwen2moe(block: Block, x: Floats) -> Floats:
    """x (T, E) -> (T, E): the weights of a token's experts are used as the router gives them."""
    x = block.tap("ffn_inp", llama.attend(block, x) + x)
    normed = block.tap("ffn_norm", block.norm("ffn_norm", x))
    added = experts(block, normed, normalized=False)
    added = block.tap("ffn_out", added + shared_expert(block, normed))
    return block.tap("l_out", added + x)


QWEN2MOE: Final = Graph(
    qwen2moe,
    f"{ATTENTION} {_EXPERTS} {_SHARED}",
    axes={
        "ffn_gate_inp_shexp": "E",
        "ffn_gate_shexp": "?W E",  # no key says how wide the shared expert is
        "ffn_up_shexp": "?W E",
        "ffn_down_shexp": "E ?W",
    },
)
QWEN3MOE: Final = Graph(llama.layer, f"{ATTENTION} attn_q_norm attn_k_norm {_EXPERTS}")
