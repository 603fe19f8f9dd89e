"""Comparing quantized attention: against one `attention` run, and in a small memory.

    python -m tests.bench.bench_compare [--directory D] [--rounds 3] [--only sample|small|large]

*sample* is the model that the project ships, *small* a llama of 124 million random weights in F16,
*large* Llama-2-7B's shape in F16, 13.5 GB, made once in the directory. Whole commands, seconds
and peak resident memory: `ggufscope attention`, and `ggufscope compare-attention` with three
candidates, in turn; the same with `--against` three files, where they are not too large. Then one
comparison more with a clock in it: thread-seconds, by what was done in them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ggufscope.container.file import open_gguf
from ggufscope.model.tokenizer.text import read_tokenizer
from ggufscope.recipes.apply import quantize_model
from ggufscope.recipes.options import PlanOptions
from tests.bench.bench_forward import LARGE, LARGE_IDS, SMALL, make_model
from tests.bench.bench_quantize import measure
from tests.bench.common import where

MOST_TO_WRITE = 1 << 30
TYPES = "Q8_0,Q4_K,Q2_K"
SAMPLE = Path(__file__).parents[2] / "samples" / "stories-f16.gguf"


def commands(path: Path, ids: list[int]) -> tuple[list[str], list[str]]:
    """One run, and one comparison."""
    head = [sys.executable, "-m", "ggufscope"]
    text = ["--ids", ",".join(map(str, ids))]
    attention = [*head, "attention", str(path), *text]
    compare = [*head, "compare-attention", str(path), *text, "--types", TYPES]
    return attention, compare


def bench(path: Path, ids: list[int], rounds: int) -> None:
    print(f"\n{path.name}: {path.stat().st_size:,} bytes, {len(ids)} tokens, {TYPES}")
    attention, compare = commands(path, ids)
    runs = [(measure(attention), measure(compare)) for _ in range(rounds)]
    medians = [statistics.median(run[side][0] for run in runs) for side in (0, 1)]
    for name, side in (("attention", 0), ("compare-attention", 1)):
        peak = max(run[side][1] for run in runs)
        print(f"{name:20}{medians[side]:9.2f} s {peak:8.0f} MiB")
    print(f"ratio {medians[1] / medians[0]:.2f}")
    if path.stat().st_size < MOST_TO_WRITE:
        against(path, ids, rounds)
    clocked = [sys.executable, "-m", "tests.bench.bench_compare", "--clocked", *compare[3:]]
    done = subprocess.run(clocked, capture_output=True, text=True, check=True)
    spent = json.loads(done.stderr.splitlines()[-1])
    total = spent.pop("whole command, seconds")
    print(f"once more, with a clock in it: {total:.1f} s; in thread-seconds:")
    for what, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"  {what:44}{seconds:9.1f}")


def against(path: Path, ids: list[int], rounds: int) -> None:
    """The same comparison with files that were quantized beforehand: no searching for scales."""
    with tempfile.TemporaryDirectory() as directory:
        files = {Path(directory) / f"{type_}.gguf": type_ for type_ in TYPES.split(",")}
        quantize_model(path, dict(files), options=PlanOptions(pure=True))
        attention, compare = commands(path, ids)
        at = compare.index("--types")
        compare[at : at + 2] = [word for file in files for word in ("--against", str(file))]
        runs = [(measure(attention)[0], measure(compare)[0]) for _ in range(rounds)]
    medians = [statistics.median(run[side] for run in runs) for side in (0, 1)]
    print(f"{'--against':20}{medians[1]:9.2f} s, ratio {medians[1] / medians[0]:.2f}")


def clocked(arguments: list[str]) -> None:
    """Run the command with its functions timed; the last line on standard error is JSON."""
    start = time.perf_counter()
    from ggufscope.blocks.kernels import Kernels
    from ggufscope.cli import app
    from ggufscope.forward import finite, held, weights
    from ggufscope.measure import compare, differences, measured

    spent: defaultdict[str, float] = defaultdict(float)
    lock = threading.Lock()

    def timed(name: Callable[..., str], function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*positional: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*positional, **named)
            finally:
                with lock:
                    spent[name(*positional)] += time.perf_counter() - began

        return call

    def after(text: str) -> Callable[..., str]:
        return lambda *_: text

    modules: Any = weights
    modules.quantize = timed(lambda _, type_: f"quantize to {type_.name}", modules.quantize)
    modules._StoredMatrix.blocks = timed(after("read the file"), weights._StoredMatrix.blocks)
    kept: Any = held
    kept.decoded = timed(after("dequantize the file"), kept.decoded)
    Kernels.multiply = timed(  # type: ignore[method-assign]  # to have a clock in it
        lambda _, layout, *__: f"multiply {layout.name}", Kernels.multiply
    )
    errors: Any = measured
    errors.stored_error = timed(after("measure the error of weights"), errors.stored_error)
    compared: Any = compare
    compared.layer_difference = timed(
        after("compare attention and outputs"), differences.layer_difference
    )
    whole: Any = finite
    whole.require_finite_weights = timed(
        after("look for NaN before the run"), finite.require_finite_weights
    )
    sys.argv = ["ggufscope", *arguments]
    try:
        app.main()
    except SystemExit as end:
        if end.code not in (0, None):
            raise
    spent["whole command, seconds"] = time.perf_counter() - start
    sys.stderr.write(json.dumps(spent) + "\n")


def main() -> None:
    if sys.argv[1:2] == ["--clocked"]:
        clocked(sys.argv[2:])
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["sample", "small", "large"])
    options = parser.parse_args()
    print(f"{where()}: two or more are used here")
    if options.only in (None, "sample"):
        with open_gguf(SAMPLE) as file:
            ids = read_tokenizer(file.metadata).encode("The cat sat on the mat")
        bench(SAMPLE, ids, options.rounds)
    for name, shape in (("small", SMALL), ("large", LARGE)):
        if options.only not in (None, name):
            continue
        path = options.directory / f"bench-compare-{name}-f16.gguf"
        if not path.exists():
            make_model(path, shape, "F16")
        bench(path, LARGE_IDS, 1 if name == "large" else options.rounds)


if __name__ == "__main__":
    main()
