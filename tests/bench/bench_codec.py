"""Time the codecs against their peers: ``python -m tests.bench.bench_codec [--json]``.

Ours and the peer's runs alternate on the same data in one process, one thread each, after one run
of each to warm up; the figures are medians. Dequantization is held to ``gguf.quants.dequantize``
and to ggml, which make a new output each time, as ours does or into one that the caller keeps;
quantization to ``ggml_quantize_chunk``. Timings are printed, never asserted: the
machine decides them. Memory is the peak of NumPy's allocations during a conversion, less the
output.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from statistics import median

import gguf
import numpy as np

from ggufscope.blocks.codec import CODECS, dequantize, quantize
from ggufscope.blocks.layouts import LAYOUTS
from tests.oracles import ggml_dequantize, ggml_quantize

ROW = 4096
MAIN = ("Q8_0", "Q4_K", "Q6_K", "Q2_K")
GGUF_PY_READS = tuple(name for name in CODECS if hasattr(gguf.quants, name))


@dataclass(frozen=True)
class Line:
    """Ours against a peer's, in millions of weights a second."""

    what: str
    type: str
    peer: str
    ours: float
    theirs: float

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs


def alternate(
    ours: Callable[[], object], theirs: Callable[[], object], weights: int, rounds: int
) -> tuple[float, float]:
    """Millions of weights a second of each, from the medians of ``rounds`` alternating runs."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for run, kept in zip((ours, theirs), times, strict=True):
            start = time.perf_counter()
            run()
            if turn:
                kept.append(time.perf_counter() - start)
    first, second = (weights / median(kept) / 1e6 for kept in times)
    return first, second


def weights_of(rows: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.random.default_rng(1).standard_normal((rows, ROW), np.float32) * np.float32(0.02)


def time_dequantize(name: str, rows: int, rounds: int) -> list[Line]:
    layout = LAYOUTS[name]
    packed = ggml_quantize(weights_of(rows), layout)
    out = np.empty((rows, ROW), np.float32)
    kind = gguf.GGMLQuantizationType[name]

    def owned() -> object:
        return dequantize(packed, layout, out=out, threads=1)

    def fresh() -> object:
        return dequantize(packed, layout, threads=1)

    def gguf_py() -> object:
        return gguf.quants.dequantize(packed, kind)

    def ggml() -> object:
        return ggml_dequantize(packed, layout)

    return [
        Line(what, name, peer, *alternate(ours, theirs, rows * ROW, rounds))
        for what, peer, ours, theirs in (
            ("dequantize into out", "gguf-py", owned, gguf_py),
            ("dequantize", "gguf-py", fresh, gguf_py),
            ("dequantize", "ggml", fresh, ggml),
        )
    ]


def time_quantize(name: str, rows: int, rounds: int) -> Line:
    layout, x = LAYOUTS[name], weights_of(rows)
    speeds = alternate(
        lambda: quantize(x, layout, threads=1), lambda: ggml_quantize(x, layout), x.size, rounds
    )
    return Line("quantize", name, "ggml", *speeds)


def peak_beyond_arrays(name: str, rows: int) -> tuple[float, float]:
    """MB that quantize and dequantize allocate at their peak, one thread, output not counted."""
    layout, x = LAYOUTS[name], weights_of(rows)
    blocks = quantize(x, layout, threads=1)
    out = np.empty(x.shape, np.float32)
    peaks = []
    for run, output in (
        (lambda: quantize(x, layout, threads=1), blocks.nbytes),
        (lambda: dequantize(blocks, layout, out=out, threads=1), 0),
    ):
        tracemalloc.start()
        kept = run()
        peaks.append((tracemalloc.get_traced_memory()[1] - output) / 1e6)
        tracemalloc.stop()
        del kept
    return peaks[0], peaks[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="every type that can be made")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, default=4096, help=f"rows of {ROW} weights to read")
    parser.add_argument("--made", type=int, default=1024, help=f"rows of {ROW} weights to make")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    made = [name for name, each in CODECS.items() if each.quantize and not each.needs_importance]
    names = made if options.all else list(MAIN)
    lines = [
        line
        for name in names
        if name in GGUF_PY_READS
        for line in time_dequantize(name, options.rows, options.rounds)
    ]
    lines += [time_quantize(name, options.made, options.rounds) for name in names]
    memory = {name: peak_beyond_arrays(name, options.made) for name in names}
    setting = {
        "weights read": options.rows * ROW,
        "weights made": options.made * ROW,
        "rounds": options.rounds,
        "threads": 1,
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("numpy", "gguf", "xllamacpp")},
    }
    if options.json:
        rows = [asdict(line) | {"ratio": line.ratio} for line in lines]
        json.dump({"setting": setting, "speeds": rows, "peak_MB": memory}, sys.stdout, indent=1)
        return
    print(", ".join(f"{key} {value}" for key, value in setting.items()))
    print(f"{'':20}{'type':9}{'peer':9}{'ours':>9}{'theirs':>9}{'ratio':>7}   Mweights/s")
    for line in lines:
        speeds = f"{line.ours:9.1f}{line.theirs:9.1f}{line.ratio:7.2f}"
        print(f"{line.what:20}{line.type:9}{line.peer:9}{speeds}")
    print("peak MB beyond input and output: quantize, dequantize")
    for name, (making, reading) in memory.items():
        print(f"{name:9}{making:6.1f}{reading:6.1f}")


if __name__ == "__main__":
    main()
