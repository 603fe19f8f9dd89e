"""Comparing two files: seconds and peak memory of `ggufscope diff`, and of `inspect`.

    python -m tests.bench.bench_diff [--directory D] [--rounds 3]

Two quantizations of one model, Q4_K of 1.04 GB and Q5_K of 1.27 GB (1.85 billion weights), made
once in the directory; a copy of the first; and `cmp` of that copy, which is the least that reading
both costs. Whole commands in turn: seconds, and peak resident memory.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

from ggufscope.blocks.codec import quantize
from ggufscope.blocks.layouts import LAYOUTS
from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Value
from ggufscope.container.writer import GGUFWriter, TensorSpec
from tests.bench.bench_quantize import measure
from tests.bench.common import where

TENSORS = 110
SIDE = 4096


def make(directory: Path) -> tuple[Path, Path, Path]:
    """The two quantizations, of one random matrix again and again, and the copy."""
    paths = [directory / f"diff-{type_}.gguf" for type_ in ("Q4_K", "Q5_K")]
    weights = np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float32)
    metadata = {"general.architecture": Value.of(ValueType.STRING, "llama")}
    for path in paths:
        if not path.exists():
            layout = LAYOUTS[path.stem.partition("-")[2]]
            blocks = quantize(weights, layout).reshape(-1).view(np.uint8)
            names = [f"blk.{n}.ffn_up.weight" for n in range(TENSORS)]
            specs = [TensorSpec(name, (SIDE, SIDE), layout) for name in names]
            with GGUFWriter(path, metadata, specs) as writer:
                for name in names:
                    writer.write(name, blocks)
    copy = directory / "diff-copy.gguf"
    if not copy.exists():
        shutil.copy(paths[0], copy)
    return paths[0], paths[1], copy


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    a, b, copy = make(options.directory)
    program = [sys.executable, "-m", "ggufscope"]
    commands = {
        "cmp A COPY": ["cmp", str(a), str(copy)],
        "diff A COPY": [*program, "diff", str(a), str(copy)],
        "diff A B": [*program, "diff", str(a), str(b)],
        "diff A B --quick": [*program, "diff", str(a), str(b), "--quick"],
        "inspect A": [*program, "inspect", str(a), "blk.0.ffn_up.weight"],
    }
    print(where())
    runs = [
        {name: measure(words, 1) for name, words in commands.items()} for _ in range(options.rounds)
    ]
    for name in commands:
        median = statistics.median(run[name][0] for run in runs)
        print(f"{name:20}{median:9.2f} s{max(run[name][1] for run in runs):8.0f} MiB")


if __name__ == "__main__":
    main()
