"""Time the kernels against ggml: ``python -m tests.bench.bench_kernels [TYPE ...] [--rounds N]``.

Each instruction set that this processor runs, and ggml, take turns at the same data in one thread:
64 rows that stay in the cache. The time is the processor's for this process, the best of all
rounds: a machine that does other things beside it slows it less so. Figures are millions of weights
a second, in brackets the ratio to ggml (``ggml_quantize_chunk``, ``dequantize_row_*``). Types that
ggml makes by importance alone are made by one that is random.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from ggufscope.blocks.codec import CODECS
from ggufscope.blocks.kernels import load
from ggufscope.blocks.layouts import LAYOUTS
from tests.oracles import ggml, ggml_dequantize, ggml_quantize

X = np.random.default_rng(1).standard_normal((64, 4096), np.float32) * np.float32(0.02)
COLUMNS = np.random.default_rng(2).random((1, X.shape[1]), np.float32)[0]


def best_of(rounds: int, runs: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return the shortest time of each."""
    found = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            run()
            found[name] = min(found[name], time.process_time() - start)
    return found


def line(what: str, seconds: Mapping[str, float]) -> str:
    cells = (
        f"{name} {X.size / each / 1e6:7.0f} ({seconds['ggml'] / each:5.2f})"
        for name, each in seconds.items()
    )
    return "  ".join([f"{what:13}", *cells])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("types", nargs="*", help="all that can be made, by default")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    kernels, why_not = load()
    if not kernels:
        raise SystemExit(why_not)
    print(next(iter(kernels.values())).compiler)
    made = [name for name, codec in CODECS.items() if codec.quantize and name != "F32"]
    for name in options.types or made:
        layout = LAYOUTS[name]
        blocks = np.empty((len(X), X.shape[1] // layout.block_length), layout.dtype)
        flat = blocks.reshape(-1)
        weights = np.empty((blocks.size, layout.block_length), np.float32)
        ggml().ggml_quantize_init(layout.number)
        importance = COLUMNS if CODECS[name].needs_importance else None
        making: dict[str, Callable[[], object]] = {
            "ggml": partial(ggml_quantize, X, layout, importance)
        }
        reading: dict[str, Callable[[], object]] = {}
        for which, each in kernels.items():
            making[which] = partial(each.quantize, layout, X, blocks, importance)
            reading[which] = partial(each.dequantize, layout, flat, weights)
        print(line(f"make {name}", best_of(options.rounds, making)), flush=True)
        reading = {"ggml": partial(ggml_dequantize, blocks, layout), **reading}
        print(line(f"read {name}", best_of(options.rounds, reading)), flush=True)


if __name__ == "__main__":
    main()
