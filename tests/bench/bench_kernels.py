"""Time the kernels against their peers: ``python -m tests.bench.bench_kernels [TYPE ...]``.

Each instruction set that this processor runs takes turns with ggml (``ggml_quantize_chunk``,
``dequantize_row_*``), with libgguf where it is installed, with ``gguf.quants`` where it reads the
type, and with a copy of as many bytes, ``copy``: what memory allows. Every thread is pinned to a
core of its own and has 64 rows of its own, which stay in the cache, or ``--rows``; results go into
arrays that are kept, but for gguf-py, which has no such way. ``weigh`` is to make with a matrix.
Time is the processor's for the slowest thread, so that other work on the machine changes little.
Figures are medians: millions of weights a second, and in brackets the ratio to ggml.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from statistics import median
from typing import Any

import gguf
import numpy as np

from ggufscope.arrays import Floats
from ggufscope.blocks.codec import CODECS
from ggufscope.blocks.kernels import Kernels, load
from ggufscope.blocks.layouts import LAYOUTS, Layout
from tests.blocks.searched import TYPES as SEARCHED
from tests.blocks.test_importance import WEIGHED
from tests.oracles import ggml, ggml_dequantize, ggml_quantize

ROW = 4096

Work = Callable[[], object]
Seconds = dict[str, float]


def weights(rows: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    x = np.random.default_rng(1).standard_normal((rows, ROW), np.float32)
    return x * np.float32(0.02)


def copying(size: int) -> Work:
    """Copy, so that as many bytes as ``size`` are read and written together."""
    source = np.ones(size // 2, np.uint8)
    return partial(np.copyto, np.empty_like(source), source)


def by_libgguf(layout: Layout, x: Any, out: Any) -> None:
    """x -> out, some rows at a time: for more of them it starts threads of its own."""
    make = import_module("libgguf").quantize_rows_into_raw
    for part in range(0, len(x), 16):
        rows = x[part : part + 16]
        make(layout.number, rows, out[part : part + 16], len(rows), ROW)


def makers(
    layout: Layout, rows: int, kernels: Mapping[str, Kernels], importance: Floats | None = None
) -> dict[str, Work]:
    """Return what makes blocks of rows of its own, by who does it."""
    x = weights(rows)
    blocks = np.empty((rows, ROW // layout.block_length), layout.dtype)
    raw = blocks.view(np.uint8).reshape(rows, -1)
    runs: dict[str, Work] = {"ggml": partial(ggml_quantize, x, layout, importance, out=raw)}
    for isa, each in kernels.items():
        runs[isa] = partial(each.quantize, layout, x, blocks, importance)
    if find_spec("libgguf") and importance is None:
        make = partial(by_libgguf, layout, x, raw)
        try:
            make()
            runs["libgguf"] = make
        except (ValueError, RuntimeError):
            pass  # a type that it does not make
    return {**runs, "copy": copying(x.nbytes + blocks.nbytes)}


def weighers(layout: Layout, rows: int, kernels: Mapping[str, Kernels]) -> dict[str, Work]:
    """Return the same with an importance matrix."""
    importance = np.random.default_rng(2).lognormal(0, 2, ROW).astype(np.float32)
    return makers(layout, rows, kernels, importance)


def readers(layout: Layout, rows: int, kernels: Mapping[str, Kernels]) -> dict[str, Work]:
    """Return what reads blocks of its own, by who does it."""
    needed = np.ones(ROW, np.float32) if CODECS[layout.name].needs_importance else None
    raw = ggml_quantize(weights(rows), layout, needed)
    blocks = raw.reshape(-1).view(layout.dtype)
    out = np.empty((blocks.size, layout.block_length), np.float32)
    runs: dict[str, Work] = {"ggml": partial(ggml_dequantize, raw, layout, out.reshape(-1))}
    for isa, each in kernels.items():
        runs[isa] = partial(each.dequantize, layout, blocks, out)
    if hasattr(gguf.quants, layout.name):
        kind = gguf.GGMLQuantizationType[layout.name]
        runs["gguf-py"] = partial(gguf.quants.dequantize, raw, kind)
    return {**runs, "copy": copying(raw.nbytes + out.nbytes)}


def warm_seconds(work: Work) -> float:
    """Return the processor's time of the second of two runs: the first fills the cache."""
    work()
    start = time.thread_time()
    work()
    return time.thread_time() - start


def alternate(threads: ThreadPoolExecutor, rounds: int, each: list[dict[str, Work]]) -> Seconds:
    """Return the median over the rounds, in which all take turns, of the slowest thread's time."""
    times: dict[str, list[float]] = {who: [] for who in each[0]}
    for _ in range(rounds):
        for who, kept in times.items():
            kept.append(max(threads.map(warm_seconds, [runs[who] for runs in each])))
    return {who: median(kept) for who, kept in times.items()}


def pin(cores: Iterator[int]) -> None:
    """Keep this thread on the next core."""
    os.sched_setaffinity(0, {next(cores)})


def line(what: str, weights: int, seconds: Mapping[str, float]) -> str:
    cells = (
        f"{name} {weights / each / 1e6:.0f} ({seconds['ggml'] / each:.2f})"
        for name, each in seconds.items()
    )
    return "  ".join([f"{what:14}", *cells])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("types", nargs="*", help="all that can be made, by default")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--rows", type=int, default=64, help="of 4,096 weights, for each thread")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", help="instruction sets")
    options = parser.parse_args()
    kernels, why_not = load()
    if not kernels:
        raise SystemExit(why_not)
    print(next(iter(kernels.values())).compiler, end="; ")
    print("libgguf is there" if find_spec("libgguf") else "libgguf is not installed")
    kernels = {isa: each for isa, each in kernels.items() if isa in (options.only or kernels)}
    made = [name for name, codec in CODECS.items() if codec.quantize and name != "F32"]
    cores = sorted(os.sched_getaffinity(0))
    for threads in options.threads:
        if threads > len(cores):
            raise SystemExit(f"{threads} threads, but {len(cores)} cores")
        numbers = iter(cores)
        pool = ThreadPoolExecutor(threads, initializer=pin, initargs=(numbers,))
        for name in options.types or made:
            ggml().ggml_quantize_init(LAYOUTS[name].number)
            kinds = {"make": makers, "weigh": weighers, "read": readers}
            for what, kind in kinds.items():
                if kind is weighers and name not in (*WEIGHED, *SEARCHED):
                    continue
                if kind is makers and CODECS[name].needs_importance:
                    continue
                each = [kind(LAYOUTS[name], options.rows, kernels) for _ in range(threads)]
                seconds = alternate(pool, options.rounds, each)
                title = f"{threads} {what} {name}"
                print(line(title, threads * options.rows * ROW, seconds), flush=True)


if __name__ == "__main__":
    main()
