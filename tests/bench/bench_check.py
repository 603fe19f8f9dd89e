"""Checking a large file, with hashes and without: `python -m tests.bench.bench_check`.

Beside it `sha256sum` of the same file, and ggml's own look at the same blocks, in memory already.
`--llama-bin FOLDER` adds `llama-gguf-hash`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ggufscope import quantize
from ggufscope.blocks.layouts import layout_named
from ggufscope.container.file import open_gguf
from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Value
from ggufscope.container.writer import GGUFWriter, TensorSpec
from tests.bench.common import alternate, command, where
from tests.oracles import ggml_accepts

RUNS = 3
TYPES = ["Q4_K", "Q6_K", "Q8_0", "F16"]
ROW, ROWS = 4096, 8192


def write(path: Path, nbytes: int) -> None:
    """Write matrices of some types, about so many bytes."""
    weights = np.random.default_rng(1).standard_normal((64, ROW), np.float32)
    blocks = {name: np.tile(quantize(weights, name), (ROWS // 64, 1)) for name in TYPES}
    each = sum(made.nbytes for made in blocks.values())
    specs = {
        f"blk.{n}.{name}.weight": TensorSpec(
            f"blk.{n}.{name}.weight", (ROWS, ROW), layout_named(name)
        )
        for n in range(max(1, nbytes // each))
        for name in TYPES
    }
    metadata = {"general.architecture": Value.of(ValueType.STRING, "bench")}
    with GGUFWriter(path, metadata, [*specs.values()]) as writer:
        for name, spec in specs.items():
            writer.write(name, blocks[spec.type.name])


def _program(*words: str, **environment: str) -> Callable[[], object]:
    settings = os.environ | environment
    return lambda: subprocess.run(words, stdout=subprocess.DEVNULL, check=True, env=settings)


def main() -> None:
    """Print times and rates."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--gigabytes", type=float, default=4.0)
    options.add_argument("--llama-bin", type=Path, help="where llama-gguf-hash is")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.gguf"
        write(path, int(given.gigabytes * 1e9))
        check = ("-m", "ggufscope", "check", str(path), "--brief")
        works = {
            "check --threads 1": command(*check, "--threads", "1"),
            "check": command(*check),
            "check --hash sha256": command(*check, "--hash", "sha256"),
            "check --hash xxh64": command(*check, "--hash", "xxh64"),
            "sha256sum": _program(shutil.which("sha256sum") or "sha256sum", str(path)),
            "ggml_validate_row_data": lambda: _validate(path),
        }
        if given.llama_bin:
            program = str(given.llama_bin / "llama-gguf-hash")
            libraries = str(given.llama_bin)
            works["llama-gguf-hash --sha256"] = _program(
                program, "--sha256", str(path), LD_LIBRARY_PATH=libraries
            )
        print(where())
        size = path.stat().st_size
        print(f"{size:,} bytes, read from the disk's cache; median of {RUNS}")
        for name, taken in zip(works, alternate(RUNS, *works.values()), strict=True):
            print(f"{name:<26}{taken:8.2f} s {size / taken / 1e9:8.2f} GB/s")


def _validate(path: Path) -> None:
    with open_gguf(path) as file:
        for tensor in file.tensors.values():
            assert ggml_accepts(np.asarray(tensor.blocks()), layout_named(tensor.type.name))


if __name__ == "__main__":
    main()
