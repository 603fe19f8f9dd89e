"""qwen2 and qwen3: llama's order; qwen2 with biases on Q, K and V, qwen3 with a norm of each head.

Follows llama.cpp's ``models/qwen2.cpp`` and ``models/qwen3.cpp``.
"""

from __future__ import annotations

from typing import Final

from ggufscope.forward.families import llama
from ggufscope.forward.graph import Graph

QWEN2: Final = Graph(llama.layer)
QWEN3: Final = Graph(llama.layer)
