"""Running a model and keeping its attention: against `transformers`, and in a small memory.

    python -m tests.bench.bench_forward [--directory D] [--rounds 3] [--only small|large]
        [--peer PATH-TO-LLAMA-BENCH]

Two models with random weights are made once in the directory. *small* is a llama of 124 million
parameters in F16, run with all attention maps kept, against `transformers` (with torch, on the CPU)
loading the same file with `output_attentions=True`. *large* is Llama-2-7B's shape in Q4_K_M, 4 GB:
the command `ggufscope attention`, as a whole process, in turn with llama.cpp's prompt pass alone on
as many threads (`llama-bench` where it is named, else `xllamacpp`), for 16 and for 256 tokens; for
one token with `cat` of the file, from memory and from the disk. Seconds, ratios, and peak resident
memory.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ggufscope.blocks.layouts import Layout, layout_named
from ggufscope.container.tensor_info import TensorInfo
from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Value
from ggufscope.container.writer import GGUFWriter, TensorSpec
from ggufscope.recipes.plan import plan
from tests.bench.bench_quantize import measure
from tests.bench.common import where

SLAB = 1 << 24


@dataclass(frozen=True)
class Shape:
    """A llama, by its sizes."""

    layers: int
    embedding: int
    feed_forward: int
    heads: int
    groups: int
    vocabulary: int = 32_000

    def tensors(self) -> dict[str, tuple[int, ...]]:
        e, f, size = self.embedding, self.feed_forward, self.embedding // self.heads
        layer = {
            "attn_norm": (e,),
            "attn_q": (e, e),
            "attn_k": (self.groups * size, e),
            "attn_v": (self.groups * size, e),
            "attn_output": (e, e),
            "ffn_norm": (e,),
            "ffn_gate": (f, e),
            "ffn_up": (f, e),
            "ffn_down": (e, f),
        }
        ends: dict[str, tuple[int, ...]] = {
            "token_embd.weight": (self.vocabulary, e),
            "output_norm.weight": (e,),
            "output.weight": (self.vocabulary, e),
        }
        each = {f"blk.{n}.{k}.weight": v for n in range(self.layers) for k, v in layer.items()}
        return ends | each

    def metadata(self) -> dict[str, Value]:
        numbers = {
            "block_count": self.layers,
            "embedding_length": self.embedding,
            "feed_forward_length": self.feed_forward,
            "attention.head_count": self.heads,
            "attention.head_count_kv": self.groups,
            "context_length": 2048,
            "vocab_size": self.vocabulary,
            "rope.dimension_count": self.embedding // self.heads,
        }
        names = ["<s>", "</s>", *(f"t{n}" for n in range(self.vocabulary - 2))]
        return {
            "general.architecture": Value.of(ValueType.STRING, "llama"),
            **{f"llama.{key}": Value.of(ValueType.UINT32, n) for key, n in numbers.items()},
            "llama.attention.layer_norm_rms_epsilon": Value.of(ValueType.FLOAT32, 1e-5),
            "llama.rope.freq_base": Value.of(ValueType.FLOAT32, 10000.0),
            "tokenizer.ggml.model": Value.of(ValueType.STRING, "gpt2"),
            "tokenizer.ggml.pre": Value.of(ValueType.STRING, "gpt-2"),
            "tokenizer.ggml.tokens": Value.array(ValueType.STRING, names),
            "tokenizer.ggml.token_type": Value.array(
                ValueType.INT32, [3, 3] + [1] * (self.vocabulary - 2)
            ),
            "tokenizer.ggml.merges": Value.array(ValueType.STRING, ["t 0"]),
            "tokenizer.ggml.bos_token_id": Value.of(ValueType.UINT32, 0),
            "tokenizer.ggml.eos_token_id": Value.of(ValueType.UINT32, 1),
        }


SMALL = Shape(layers=12, embedding=768, feed_forward=2048, heads=12, groups=4)
LARGE = Shape(layers=32, embedding=4096, feed_forward=11008, heads=32, groups=32)
SMALL_IDS = [int(n) for n in np.random.default_rng(5).integers(2, 32_000, 64)]
LARGE_IDS = SMALL_IDS[:16]


def make_model(path: Path, shape: Shape, preset: str) -> None:
    """Write random weights of about 0.02, in the types that a preset chooses."""
    tensors = shape.tensors()
    infos = [
        TensorInfo(name, extent[::-1], layout_named("F16" if len(extent) > 1 else "F32"), 0, 0)
        for name, extent in tensors.items()
    ]
    metadata = shape.metadata()
    chosen = plan(infos, {key: value.data for key, value in metadata.items()}, preset)
    types = {tensor.name: tensor.target for tensor in chosen.tensors}
    specs = []
    for name, extent in tensors.items():
        type_ = types[name]
        assert isinstance(type_, Layout)
        specs.append(TensorSpec(name, extent, type_))
    rng = np.random.default_rng(1)
    with GGUFWriter(path, metadata, specs, overwrite=True) as writer:
        for spec in specs:
            assert isinstance(spec.type, Layout)
            left = int(np.prod(spec.shape)) // spec.type.block_length
            while left:
                take = min(left, SLAB // spec.type.block_length)
                writer.write(spec.name, random_blocks(rng, spec.type, take, spec.name))
                left -= take


def random_blocks(
    rng: np.random.Generator, type_: Layout, count: int, name: str
) -> npt.NDArray[Any]:
    """Blocks that any reader accepts: random levels, and scales that make weights of about 0.02."""
    if type_.name in ("F32", "F16"):
        if "norm" in name:
            return np.ones(count, np.float32)
        weights = rng.standard_normal(count, dtype=np.float32) * np.float32(0.02)
        return weights.astype(np.float16 if type_.name == "F16" else np.float32)
    raw = rng.bytes(count * type_.block_bytes)
    blocks = np.frombuffer(bytearray(raw), type_.dtype)
    if type_.name == "Q4_K":  # d * scale * level - dmin * min: each about 30 * 7 times d
        blocks["d"] = 1.2e-4
        blocks["dmin"] = 9e-4
    elif type_.name == "Q6_K":  # d * scale * level: about 70 * 16 times d
        blocks["d"] = 1.8e-5
    else:
        raise NotImplementedError(type_.name)
    return blocks


def run_ours(path: str, ids: list[int], out: str) -> None:
    """Run a model, keep the attention of every layer, write it down."""
    import ggufscope

    trace = ggufscope.Trace({"kq_soft_max"})
    with ggufscope.open_gguf(path) as file:
        logits = ggufscope.Transformer.of(file).run(ids, trace=trace)
    save(out, logits, list(trace.values()))


def run_transformers(path: str, ids: list[int], out: str) -> None:
    """The same with `transformers`."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        str(Path(path).parent),
        gguf_file=Path(path).name,
        dtype=torch.float32,
        attn_implementation="eager",
    )
    with torch.no_grad():
        answer = model(torch.tensor([ids]), output_attentions=True)
    save(out, answer.logits[0].numpy(), [layer[0].numpy() for layer in answer.attentions])


def save(out: str, logits: npt.NDArray[Any], scores: Sequence[npt.NDArray[Any]]) -> None:
    if out:
        arrays: dict[str, Any] = {f"layer{n}": layer for n, layer in enumerate(scores)}
        np.savez(out, logits=logits, **arrays)


def run_llama_cpp(path: str, ids: list[int], out: str) -> None:
    """The prompt pass of llama.cpp alone, in milliseconds, after the model is loaded."""
    import xllamacpp

    answers = os.fdopen(os.dup(1), "w")  # llama.cpp logs to standard output
    os.dup2(2, 1)
    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.n_ctx = 512
    parameters.n_parallel = 1
    parameters.no_extra_bufts = True
    parameters.warmup = False
    parameters.fit_params = False
    threads = len(os.sched_getaffinity(0))
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.verbosity = 0
    server = xllamacpp.Server(parameters)
    request = {"n_predict": 1, "temperature": 0, "cache_prompt": False, "ignore_eos": True}
    passes = []
    for turn in range(3):  # the first one reads the weights from the disk
        # another first token, so that nothing of the turn before can be used again
        answer = server.handle_completions({"prompt": [ids[turn], *ids[1:]]} | request)
        passes.append(answer["timings"]["prompt_ms"])
    answers.write(json.dumps(passes) + "\n")
    answers.flush()


RUNNERS: dict[str, Callable[[str, list[int], str], None]] = {
    "ours": run_ours,
    "transformers": run_transformers,
    "llama.cpp": run_llama_cpp,
}


def child(runner: str, path: Path, ids: list[int], out: str = "") -> list[str]:
    head = [
        sys.executable,
        "-m",
        "tests.bench.bench_forward",
        "--run",
        runner,
        "--model",
        str(path),
    ]
    return [*head, "--ids", ",".join(map(str, ids)), "--out", out]


def bench_small(directory: Path, rounds: int) -> None:
    path = directory / "bench-124m-f16.gguf"
    if not path.exists():
        make_model(path, SMALL, "F16")
    print(f"\n{path.stat().st_size:,} bytes, {len(SMALL_IDS)} tokens, every attention map kept")
    names = ["ours"]
    if all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
        names.append("transformers")
    else:
        print("!!! NOT COMPARED: torch and transformers are not installed (development only)")
    outs = {name: str(directory / f"bench-forward-{name}.npz") for name in names}
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            runs[name].append(measure(child(name, path, SMALL_IDS, outs[name])))
    for name in names:
        seconds = statistics.median(run[0] for run in runs[name])
        peak = max(run[1] for run in runs[name])
        print(f"{name:14}{seconds:8.2f} s {peak:8.0f} MiB")
    if len(names) == 2:
        with np.load(outs["ours"]) as mine, np.load(outs["transformers"]) as theirs:
            assert set(mine.files) == set(theirs.files)
            for what in ("logits", "layer0", f"layer{SMALL.layers - 1}"):
                print(
                    f"largest difference in {what}: {np.abs(mine[what] - theirs[what]).max():.1e}"
                )


def llama_cpp_pass(peer: str | None, path: Path, tokens: int) -> float:
    """Seconds of llama.cpp's prompt pass, its weights in memory."""
    if peer is None:
        ids = [int(n) for n in np.random.default_rng(6).integers(2, 32_000, tokens)]
        done = subprocess.run(
            child("llama.cpp", path, ids), capture_output=True, text=True, check=True
        )
        return float(min(json.loads(done.stdout.splitlines()[-1]))) / 1e3
    threads = str(len(os.sched_getaffinity(0)))
    command = [peer, "-m", str(path), "-p", str(tokens), "-n", "0", "-t", threads, "-r", "1"]
    done = subprocess.run([*command, "-o", "json"], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)[0]["avg_ns"]) / 1e9


def bench_large(directory: Path, rounds: int, peer: str | None) -> None:
    path = directory / "bench-7b-q4_k_m.gguf"
    if not path.exists():
        start = time.perf_counter()
        make_model(path, LARGE, "Q4_K_M")
        print(f"made {path.name} in {time.perf_counter() - start:.0f} s")
    print(f"\n{path.stat().st_size:,} bytes, `ggufscope attention` as a whole process")
    for tokens, cold in ((1, True), (1, False), (16, False), (256, False)):
        ids = ",".join(str(n) for n in np.random.default_rng(6).integers(2, 32_000, tokens))
        ours = [sys.executable, "-m", "ggufscope", "attention", str(path), "--ids", ids]
        other = "llama.cpp's pass"
        if tokens == 1:
            other = "cat from the disk" if cold else "cat from memory"
        runs = []
        for _ in range(rounds):
            settle(path, cold)
            mine = measure(ours)
            if tokens == 1:
                settle(path, cold)
                runs.append((*mine, measure(["cat", str(path)])[0]))
            else:
                runs.append((*mine, llama_cpp_pass(peer, path, tokens)))
        seconds, theirs = (statistics.median(run[n] for run in runs) for n in (0, 2))
        print(
            f"{tokens:4} tokens {seconds:7.2f} s {max(run[1] for run in runs):6.0f} MiB, "
            f"{other} {theirs:.2f} s, ratio {seconds / theirs:.2f}"
        )


def settle(path: Path, cold: bool) -> None:
    """Have the system keep a file in memory, or nothing of it."""
    with path.open("rb") as file:
        if cold:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return
        while file.read(SLAB):
            pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["small", "large"])
    parser.add_argument("--peer", help="llama.cpp's llama-bench; without it xllamacpp serves")
    parser.add_argument("--run", choices=RUNNERS, help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--ids", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        RUNNERS[options.run](options.model, [int(n) for n in options.ids.split(",")], options.out)
        return
    print(f"{where()}: two or more are used here")
    if options.only != "large":
        bench_small(options.directory, options.rounds)
    if options.only != "small":
        bench_large(options.directory, options.rounds, options.peer)


if __name__ == "__main__":
    main()
