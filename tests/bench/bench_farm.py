"""Twenty presets from one reading: what a core does, and what a farm would need.

    python -m tests.bench.bench_farm [--run SCHEDULER --directory D --thousandths 1]

Prints how fast one core makes each type and reads it back, which is how a loss is known, and from
that the arithmetic for the largest known shape. With ``--run`` a cluster makes the presets of a
model of some thousandths of its bytes; they are compared with those made here, and removed.
Start it with `dask scheduler`, and workers with `dask worker ADDRESS`.
"""

from __future__ import annotations

import argparse
import filecmp
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from ggufscope import PlanOptions, Request, open_gguf, plan, prepare, shape_named
from ggufscope.blocks.codec import dequantize, quantize
from ggufscope.blocks.layouts import layout_named
from ggufscope.cli.cluster import cluster
from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Value
from ggufscope.container.writer import GGUFWriter, TensorSpec
from ggufscope.recipes.apply import run
from ggufscope.recipes.plan import TensorLike
from tests.bench.common import where

SHAPE: Final = "deepseek-v3"
PRESETS: Final = (
    *("Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q4_1", "Q4_0", "IQ4_NL", "IQ4_XS"),
    *("Q3_K_L", "Q3_K_M", "Q3_K_S", "IQ3_M", "IQ3_XS", "IQ3_XXS", "Q2_K", "IQ2_M", "IQ2_S"),
    "IQ2_XS",
)
NEED_NO_MATRIX: Final = tuple(p for p in PRESETS if p not in {"IQ3_XS", "IQ3_XXS"} and p[2] != "2")
ROW, ROWS = 4096, 256


@cache
def rate(type_: str) -> float:
    """Weights that one core makes a type of and reads back in a second of its time."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, ROW), dtype=np.float32) * np.float32(0.02)
    importance, back, best = rng.random(ROW, dtype=np.float32) + 0.1, np.empty_like(x), np.inf
    for _ in range(3):
        begin = time.thread_time()
        blocks = quantize(x, type_, importance=importance, threads=1)
        dequantize(blocks, type_, x.shape, out=back, threads=1)
        best = min(best, time.thread_time() - begin)
    print(f"{type_:8} {x.size / best / 1e6:7.1f} million weights a second")
    return x.size / best


def arithmetic(
    name: str, tensors: Sequence[TensorLike], metadata: Mapping[str, Any], presets: Sequence[str]
) -> None:
    """Print what presets of a model take."""
    made: set[tuple[str, str]] = set()
    written, together, apart = 0, 0.0, 0.0
    for preset in presets:
        planned = plan(tensors, metadata, preset, PlanOptions(importance=True))
        written += planned.nbytes
        for tensor in (tensor for tensor in planned.tensors if tensor.converted):
            type_ = tensor.target.name
            took = tensor.n_elements / rate(type_)
            apart += took
            if (tensor.source_name, type_) not in made:
                made.add((tensor.source_name, type_))
                together += took
    read = sum(tensor.nbytes for tensor in tensors)
    print(
        f"{name}, {len(presets)} presets: {read / 1e9:,.2f} GB read, {written / 1e9:,.2f} written"
    )
    print(f"{together:,.0f} s of one core; one preset after another {apart:,.0f} s")


def make_model(path: Path, nbytes: int) -> None:
    """Write a llama of about so many bytes: noise, repeated."""
    e, f, vocabulary = 4096, 11008, 32000
    layer = {f"attn_{name}": (e, e) for name in ("q", "k", "v", "output")}
    layer |= {"ffn_gate": (f, e), "ffn_up": (f, e), "ffn_down": (e, f)}
    layers = max(1, (nbytes // 2 - 2 * vocabulary * e) // (4 * e * e + 3 * e * f))
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (vocabulary, e),
        "output_norm.weight": (e,),
        "output.weight": (vocabulary, e),
    }
    for n in range(layers):
        shapes |= {f"blk.{n}.{name}.weight": shape for name, shape in layer.items()}
        shapes |= {f"blk.{n}.{name}_norm.weight": (e,) for name in ("attn", "ffn")}
    numbers = {"block_count": layers, "embedding_length": e, "feed_forward_length": f}
    numbers |= {"attention.head_count": 32, "context_length": 4096}
    metadata = {"general.architecture": Value.of(ValueType.STRING, "llama")}
    metadata |= {f"llama.{key}": Value.of(ValueType.UINT32, n) for key, n in numbers.items()}
    metadata["llama.attention.layer_norm_rms_epsilon"] = Value.of(ValueType.FLOAT32, 1e-5)
    rng = np.random.default_rng(1)
    noise = (rng.standard_normal(1 << 22, dtype=np.float32) * np.float32(0.02)).astype("<f2")
    specs = [
        TensorSpec(name, shape, layout_named("F16" if len(shape) > 1 else "F32"))
        for name, shape in shapes.items()
    ]
    with GGUFWriter(path, metadata, specs) as writer:
        for spec in specs:
            left = spec.nbytes
            while left:
                part = noise[: left // 2] if len(spec.shape) > 1 else np.ones(e, np.float32)
                writer.write(spec.name, part)
                left -= part.nbytes


def through(address: str, directory: Path, thousandths: int, presets: Sequence[str]) -> None:
    """Have a cluster make presets of a model, and hold them to those made here."""
    source = directory / "bench-farm-f16.gguf"
    make_model(source, thousandths * 1_342_000_000)
    with open_gguf(source) as file:
        arithmetic(source.name, [*file.tensors.values()], file.metadata, presets)
    runs = [prepare(Request(source, presets, directory=directory / name)) for name in "ab"]
    with cluster(address, print) as (executor, threads):
        begin = time.perf_counter()
        run(runs[0], executor=executor, threads=threads)
        there = time.perf_counter() - begin
    begin = time.perf_counter()
    run(runs[1])
    here = time.perf_counter() - begin
    print(f"{there:.0f} s by the cluster, {here:.0f} s by this machine alone")
    for one, other in zip(runs[0].files, runs[1].files, strict=True):
        assert filecmp.cmp(one.path, other.path, shallow=False), one.path
    for path in [source, *(file.path for prepared in runs for file in prepared.files)]:
        path.unlink()


def main() -> None:
    """Print the arithmetic, and the run that is asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", metavar="SCHEDULER")
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--thousandths", type=int, default=1)
    parser.add_argument("--presets", default=",".join(NEED_NO_MATRIX))
    options = parser.parse_args()
    print(where())
    shape = shape_named(SHAPE)
    arithmetic(SHAPE, shape.tensors, shape.metadata, PRESETS)
    if options.run:
        presets = options.presets.split(",")
        through(options.run, options.directory, options.thousandths, presets)


if __name__ == "__main__":
    main()
