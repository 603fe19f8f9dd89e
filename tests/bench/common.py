"""What the benchmarks share: a large file, alternating runs, medians, ratios."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from ggufscope.blocks.layouts import layout_named
from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Value
from ggufscope.container.writer import GGUFWriter, TensorSpec

ENTRIES = 150_000


def write_large_header(path: Path, tensors: int) -> None:
    """A llama of many tensors (empty ones: only the header counts) and 150,000 tokens."""

    def u32(number: int) -> Value:
        return Value.of(ValueType.UINT32, number)

    layers = max(1, tensors // 9)
    stems = [
        *("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output"),
        *("ffn_norm", "ffn_gate", "ffn_up", "ffn_down"),
    ]
    names = ["token_embd.weight", "output_norm.weight", "output.weight"]
    names += [f"blk.{n}.{stem}.weight" for n in range(layers) for stem in stems]
    metadata = {
        "general.architecture": Value.of(ValueType.STRING, "llama"),
        "llama.block_count": u32(layers),
        "llama.embedding_length": u32(4096),
        "llama.feed_forward_length": u32(14336),
        "llama.attention.head_count": u32(32),
        "llama.attention.head_count_kv": u32(8),
        "llama.context_length": u32(8192),
        "tokenizer.ggml.model": Value.of(ValueType.STRING, "gpt2"),
        "tokenizer.ggml.tokens": Value.array(
            ValueType.STRING, (f"token{n}" for n in range(ENTRIES))
        ),
        "tokenizer.ggml.scores": Value.array(ValueType.FLOAT32, [0.0] * ENTRIES),
        "tokenizer.ggml.token_type": Value.array(ValueType.INT32, [1] * ENTRIES),
        "tokenizer.ggml.merges": Value.array(
            ValueType.STRING, (f"to ken{n}" for n in range(ENTRIES))
        ),
    }
    specs = [TensorSpec(name, (0, 4096), layout_named("F16")) for name in names[:tensors]]
    with GGUFWriter(path, metadata, specs, overwrite=True):
        pass


def seconds(work: Callable[[], object]) -> float:
    """How long it takes, once."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alternate(runs: int, *works: Callable[[], object]) -> list[float]:
    """The median time of each, run in turn so that a slow moment hits all of them."""
    times = [[seconds(work) for work in works] for _ in range(runs)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def command(*arguments: str) -> Callable[[], object]:
    """A Python command as a whole process, its output thrown away."""
    return lambda: subprocess.run(
        [sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True
    )


def where() -> str:
    """The machine and the versions, for the head of a report."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "gguf", "typer", "rich"))
    return (
        f"Python {platform.python_version()}, {packages}; "
        f"{platform.machine()}, {os.cpu_count()} cores, one thread used"
    )
