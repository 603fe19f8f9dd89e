"""The families, one a file: the order of a layer, nothing else. Here, by their GGUF names."""

from __future__ import annotations

from typing import Final

from ggufscope.forward.families import llama
from ggufscope.forward.graph import Graph

GRAPHS: Final[dict[str, Graph]] = {
    "llama": llama.LLAMA,
}
"""Every architecture that can be run; mistral, mixtral and smollm files say llama."""
