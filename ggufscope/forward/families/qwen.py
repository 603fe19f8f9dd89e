"""qwen2 and qwen3: llama's order; qwen2 with biases on Q, K and V, qwen3 with a norm of each head.

Follows llama.cpp's ``models/qwen2.cpp`` and ``models/qwen3.cpp``.
"""

from __future__ import annotations

from typing import Final

from ggufscope.forward.families import llama
from ggufscope.forward.graph import ATTENTION, Graph

_FEED_FORWARD: Final = "ffn_norm ffn_gate ffn_up ffn_down"

QWEN2: Final = Graph(llama.layer, f"{ATTENTION} {_FEED_FORWARD}")
QWEN3: Final = Graph(llama.layer, f"{ATTENTION} attn_q_norm attn_k_norm {_FEED_FORWARD}")
