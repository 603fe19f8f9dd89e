"""The families, one a file: the order of a layer, nothing else. Here, by their GGUF names."""

from __future__ import annotations

from typing import Final

from ggufscope.forward.families import experts, gemma, gpt2, llama, phi3, qwen
from ggufscope.forward.graph import Graph

GRAPHS: Final[dict[str, Graph]] = {
    "llama": llama.LLAMA,
    "qwen2": qwen.QWEN2,
    "qwen3": qwen.QWEN3,
    "qwen2moe": experts.QWEN2MOE,
    "qwen3moe": experts.QWEN3MOE,
    "gemma": gemma.GEMMA,
    "gemma2": gemma.GEMMA2,
    "gemma3": gemma.GEMMA3,
    "phi3": phi3.PHI3,
    "gpt2": gpt2.GPT2,
}
"""Every architecture that can be run; mistral, mixtral and smollm files say llama."""
