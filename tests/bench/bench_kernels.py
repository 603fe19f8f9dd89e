"""Time the kernels against ggml: ``python -m tests.bench.bench_kernels [TYPE ...] [--rounds N]``.

Each instruction set that this processor runs, and ggml, take turns at the same data: 64 rows that
stay in the cache. In one thread the time is the processor's for this process, the best of all
rounds: a machine that does other things beside it slows it less so. With ``--threads`` each takes
its share of the rows, and the time is the clock's. Figures are millions of weights a second, in
brackets the ratio to ggml (``ggml_quantize_chunk``, ``dequantize_row_*``).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from ggufscope.arrays import Floats
from ggufscope.blocks.codec import CODECS
from ggufscope.blocks.kernels import Kernels, load
from ggufscope.blocks.layouts import LAYOUTS, Layout
from tests.blocks.test_importance import WEIGHED
from tests.oracles import ggml_dequantize, ggml_quantize

IMPORTANCE = np.random.default_rng(2).lognormal(0, 2, 4096).astype(np.float32)
X = np.random.default_rng(1).standard_normal((64, 4096), np.float32) * np.float32(0.02)


Run = Callable[[slice], object]
"""What is done to some of the rows."""


def best_of(rounds: int, threads: int, runs: Mapping[str, Run]) -> dict[str, float]:
    """Return the shortest time of each."""
    found = dict.fromkeys(runs, float("inf"))
    clock = time.process_time if threads == 1 else time.perf_counter
    step = -(-len(X) // threads)
    shares = [slice(first, first + step) for first in range(0, len(X), step)]
    with ThreadPoolExecutor(threads) as pool:
        side_by_side = map if threads == 1 else pool.map
        for _ in range(rounds):
            for name, run in runs.items():
                start = clock()
                list(side_by_side(run, shares))
                found[name] = min(found[name], clock() - start)
    return found


def runs_of(
    layout: Layout, kernels: Mapping[str, Kernels], importance: Floats | None
) -> tuple[dict[str, Run], dict[str, Run]]:
    """Return what makes the type, and what reads it, by who does it."""
    blocks = np.empty((len(X), X.shape[1] // layout.block_length), layout.dtype)
    weights = np.empty((*blocks.shape, layout.block_length), np.float32)
    making: dict[str, Run] = {"ggml": lambda rows: ggml_quantize(X[rows], layout, importance)}
    reading: dict[str, Run] = {"ggml": lambda rows: ggml_dequantize(blocks[rows], layout)}
    for which, each in kernels.items():

        def make(rows: slice, each: Kernels = each) -> None:
            each.quantize(layout, X[rows], blocks[rows], importance)

        def read(rows: slice, each: Kernels = each) -> None:
            flat = weights[rows].reshape(-1, layout.block_length)
            each.dequantize(layout, blocks[rows].reshape(-1), flat)

        making[which], reading[which] = make, read
    return making, reading


def line(what: str, seconds: Mapping[str, float]) -> str:
    cells = (
        f"{name} {X.size / each / 1e6:7.0f} ({seconds['ggml'] / each:5.2f})"
        for name, each in seconds.items()
    )
    return "  ".join([f"{what:15}", *cells])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("types", nargs="*", help="all that can be made, by default")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    kernels, why_not = load()
    if not kernels:
        raise SystemExit(why_not)
    print(next(iter(kernels.values())).compiler)
    made = [name for name, codec in CODECS.items() if codec.quantize and name != "F32"]
    for name in options.types or made:
        best = partial(best_of, options.rounds, options.threads)
        making, reading = runs_of(LAYOUTS[name], kernels, None)
        print(line(f"make {name}", best(making)), flush=True)
        if name in WEIGHED:
            weighing, _ = runs_of(LAYOUTS[name], kernels, IMPORTANCE)
            print(line("  with a matrix", best(weighing)), flush=True)
        print(line(f"read {name}", best(reading)), flush=True)


if __name__ == "__main__":
    main()
