"""The whole command on a model of a billion parameters, F16, against `llama-quantize`.

    python -m tests.bench.bench_quantize --peer PATH-TO-LLAMA-QUANTIZE [--directory D] [--threads 2]

The model is TinyLlama's shape with seeded random weights, 2.2 GB, made once in the directory.
Beside both stands `cp` of what was written: the least that writing so much takes here.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from ggufscope.blocks.layouts import layout_named
from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Value
from ggufscope.container.writer import GGUFWriter, TensorSpec
from tests.bench.common import where

LAYERS, E, F, V, HEADS, SHARED = 22, 2048, 5632, 32_000, 32, 4
PRESETS = ("Q8_0", "Q4_K_M", "Q2_K")


def make_model(path: Path) -> None:
    """Write the model, a tensor at a time."""
    size = E // HEADS
    layer = {
        "attn_norm": (E,),
        "attn_q": (E, E),
        "attn_k": (SHARED * size, E),
        "attn_v": (SHARED * size, E),
        "attn_output": (E, E),
        "ffn_norm": (E,),
        "ffn_gate": (F, E),
        "ffn_up": (F, E),
        "ffn_down": (E, F),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (V, E),
        "output_norm.weight": (E,),
        "output.weight": (V, E),
    }
    shapes |= {f"blk.{n}.{k}.weight": shape for n in range(LAYERS) for k, shape in layer.items()}
    numbers = {
        "block_count": LAYERS,
        "embedding_length": E,
        "feed_forward_length": F,
        "attention.head_count": HEADS,
        "attention.head_count_kv": SHARED,
        "context_length": 2048,
        "vocab_size": V,
    }
    metadata = {"general.architecture": Value.of(ValueType.STRING, "llama")}
    metadata |= {f"llama.{k}": Value.of(ValueType.UINT32, n) for k, n in numbers.items()}
    metadata["llama.attention.layer_norm_rms_epsilon"] = Value.of(ValueType.FLOAT32, 1e-5)
    specs = [
        TensorSpec(name, shape, layout_named("F16" if len(shape) > 1 else "F32"))
        for name, shape in shapes.items()
    ]
    rng = np.random.default_rng(1)
    with GGUFWriter(path, metadata, specs) as writer:
        for spec in specs:
            weights = rng.standard_normal(spec.shape, dtype=np.float32) * np.float32(0.02)
            writer.write(spec.name, weights.astype(np.float16 if len(spec.shape) > 1 else "<f4"))


def measure(command: list[str], most: int = 0) -> tuple[float, float]:
    """Seconds, and peak resident MiB of the process and its workers together.

    ``most`` is the highest exit code that is no failure.
    """
    start = time.perf_counter()
    # As it is installed: not compiling its own Python anew each time, which some settings ask for.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    silent = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=silent, stderr=silent, env=environment)
    peaks: dict[int, int] = {}

    def look() -> None:
        while process.returncode is None:
            for pid in _family(process.pid):
                peaks[pid] = max(peaks.get(pid, 0), _peak_kib(pid))
            time.sleep(0.02)

    looking = threading.Thread(target=look)
    looking.start()
    process.wait()
    seconds = time.perf_counter() - start
    looking.join()
    if not 0 <= process.returncode <= most:
        sys.exit(f"{command[0]} failed")
    return seconds, sum(peaks.values()) / 1024


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return [pid]
    return [pid, *map(int, children)]


def _peak_kib(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) if found else 0


def main() -> None:
    """Print a line for each preset."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", required=True)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    source = options.directory / "bench-1b-f16.gguf"
    if not source.exists():
        make_model(source)
    print(f"{where()}; {options.threads} threads; {source.stat().st_size:,} bytes")
    print(f"{'':8}{'ggufscope':>22}{'llama-quantize':>22}{'ratio':>8}{'cp':>10}")
    for preset in PRESETS:
        target = str(options.directory / "bench-out.gguf")
        threads = str(options.threads)
        ours = [sys.executable, "-m", "ggufscope", "quantize", str(source), target, preset]
        ours += ["--force", "--threads", threads]
        theirs = [options.peer, str(source), target, preset, threads]
        copy = ["cp", target, f"{target}.copy"]
        runs = [(measure(ours), measure(theirs), measure(copy)) for _ in range(options.rounds)]
        mine, peer, copied = (statistics.median(run[n][0] for run in runs) for n in range(3))
        memory = [max(run[side][1] for run in runs) for side in (0, 1)]
        print(
            f"{preset:8}{mine:11.1f} s {memory[0]:5.0f} MiB{peer:11.1f} s {memory[1]:5.0f} MiB"
            f"{peer / mine:8.2f}{copied:8.1f} s"
        )
        Path(target).unlink()
        Path(copy[-1]).unlink()


if __name__ == "__main__":
    main()
