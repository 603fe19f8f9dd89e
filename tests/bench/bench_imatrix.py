"""Making an importance matrix: against llama-imatrix on the same cores, and in a small memory.

    python -m tests.bench.bench_imatrix --llama-bin llama.cpp/build/bin [--chunks 64] [--rounds 3]

A llama of 124 million parameters in F16 with random weights, chunks of 512 tokens; whole processes
in turn, seconds by the clock and of the processors, and peak resident memory. *large* is layers of
Llama-2-7B's shape in F16, as many as `--layers` says, one pass: a layer more takes no more memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Value
from tests.bench.bench_forward import LARGE, SMALL, Shape, make_model
from tests.bench.bench_quantize import measure
from tests.bench.common import where

CONTEXT = 512
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Lettered(Shape):
    """A llama whose first tokens are letters, so that any text of letters can be run."""

    def metadata(self) -> dict[str, Value]:
        """Return the metadata, the vocabulary changed."""
        names = ["<s>", "</s>", *LETTERS]
        names += [f"t{n}" for n in range(self.vocabulary - len(names))]
        tokens = Value.array(ValueType.STRING, names)
        return super().metadata() | {"tokenizer.ggml.tokens": tokens}


def lettered(shape: Shape) -> Lettered:
    return Lettered(**vars(shape))


def timed(command: list[str]) -> tuple[float, float, float]:
    """Seconds by the clock, seconds of the processors, peak MiB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds, peak = measure(command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used, peak


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--llama-bin", type=Path)
    parser.add_argument("--chunks", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--only", choices=["small", "large"])
    given = parser.parse_args()
    print(f"{where()}: all cores are used here")
    text = given.directory / "bench-imatrix.txt"
    ids = np.random.default_rng(1).integers(0, len(LETTERS), given.chunks * CONTEXT)
    text.write_text("".join(LETTERS[each] for each in ids), encoding="ascii")
    if given.only != "large":
        _small(given, text)
    if given.only != "small":
        shape = lettered(replace(LARGE, layers=given.layers))
        path = given.directory / f"bench-7b-{given.layers}-layers.gguf"
        if not path.exists():
            make_model(path, shape, "F16")
        seconds, peak = measure(_ours(path, text, 2))
        print(f"7B shape, {given.layers} layers, 2 chunks: {seconds:.1f} s, {peak:.0f} MiB")


def _small(given: argparse.Namespace, text: Path) -> None:
    path = given.directory / "bench-imatrix-124m.gguf"
    if not path.exists():
        make_model(path, lettered(SMALL), "F16")
    commands = {"ours": _ours(path, text, given.chunks)}
    if given.llama_bin:
        threads = str(len(os.sched_getaffinity(0)))
        out = str(given.directory / "bench-imatrix-theirs.gguf")
        commands["llama-imatrix"] = [
            *(str(given.llama_bin / "llama-imatrix"), "-m", str(path), "-f", str(text)),
            *("-c", str(CONTEXT), "--chunks", str(given.chunks), "-t", threads, "-o", out),
        ]
    else:
        print("!!! NOT COMPARED: name the programs with --llama-bin")
    runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
    for _ in range(given.rounds):
        for name, command in commands.items():
            runs[name].append(timed(command))
    for name, found in runs.items():
        seconds, used, peak = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{name:14}{seconds:8.2f} s {used:8.2f} s of processors {peak:8.0f} MiB")


def _ours(path: Path, text: Path, chunks: int) -> list[str]:
    command = [sys.executable, "-m", "ggufscope", "imatrix", str(path), "--text", str(text), "-q"]
    out = str(path.with_suffix(".imatrix.gguf"))
    return [*command, "-c", str(CONTEXT), "--chunks", str(chunks), "-o", out, "--force"]


if __name__ == "__main__":
    main()
