"""Make `imatrix/*` anew: importance matrices of real llama-imatrix, and what takes them.

    python -m tests.golden.make_imatrix --llama-bin llama.cpp/build/bin --check

Of the small models of `tests/models/families.py` and of the sample, the files that llama-imatrix
writes, and what it says of them; of the matrices of `tests/matrices.py`, what llama-quantize makes
of slices with them.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from ggufscope.recipes.apply import quantize_model
from tests import matrices
from tests.golden.command import (
    HERE,
    SAMPLE,
    Outcome,
    folder_of,
    parser,
    report,
    text_outcome,
)
from tests.golden.llama_quantize import LlamaQuantize, sha256
from tests.models.families import SMALL, write
from tests.recipes.golden import load
from tests.slices import write_slice

NUMBERS = ("-t", "2", "-fa", "off", "-ctk", "f32", "-ctv", "f32")
"""As the forward pass here: no flash attention, and a cache in float32."""

TYPES = ("F16", "BF16")
"""What a small model is quantized to where its name ends so."""

MATRICES: dict[str, tuple[str, tuple[str, ...]]] = {
    **{
        name: (name, ("-c", "32", "-b", "128"))
        for name in (
            *("llama-mha", "llama-gqa", "llama-mqa", "llama-biased"),
            *("mixtral", "qwen2moe", "qwen3moe", "phi3", "gpt2", "gemma2"),
        )
    },
    "llama-gqa-output": ("llama-gqa", ("-c", "32", "-b", "128", "--process-output")),
    "llama-gqa-from-3": ("llama-gqa", ("-c", "32", "-b", "128", "--from-chunk", "3")),
    **{
        name: (name, ("-c", "32", "-b", "128", "--process-output"))
        for name in ("llama-gqa-F16", "llama-mqa-F16", "mixtral-F16", "qwen2moe-BF16")
    },
    "stories": ("stories", ("-c", "128")),
    "stories-F32": ("stories-F32", ("-c", "128")),
}
"""File -> model, arguments."""

WRITTEN: dict[str, tuple[str, ...]] = {
    "one": ("stories.gguf",),
    "one as dat": ("stories.gguf", "--output-format", "dat"),
    "two": ("stories.gguf", "--in-file", "stories-F32.gguf"),
    "experts as dat": ("mixtral.gguf", "--output-format", "dat"),
    "dat": ("one as dat",),
    "dat and one": ("one as dat", "--in-file", "stories.gguf"),
    "experts of dat": ("experts as dat", "--in-file", "mixtral.gguf"),
}
"""What comes out when matrices are merged or written anew -> first `--in-file`, arguments."""

STATISTICS = ("stories", "mixtral", "qwen2moe")

Case = tuple[str, str, str, tuple[str, ...]]
CASES: list[Case] = [
    *((kind, "Q6_K", "sound", ()) for kind in ("llama-mha", "mixtral", "llama-tied")),
    *((kind, "COPY", "sound", ()) for kind in ("llama-mha", "mixtral")),
    *(
        ("llama-mha", "IQ4_XS", change, ())
        for change in matrices.CHANGED
        if change not in {"sound", "experts never reached", "uneven counts"}
    ),
    *(
        ("mixtral", preset, change, ())
        for preset in ("Q6_K", "Q4_K_M", "IQ2_XS")
        for change in ("experts never reached", "uneven counts", "legacy", "zeros", "hot column")
    ),
    *(
        ("llama-mha", preset, "sound", options)
        for preset in ("Q6_K", "Q4_K_M", "IQ2_XS")
        for options in (
            ("--include-weights", "ffn"),
            ("--include-weights", "ffn_up", "--include-weights", "attn_v"),
            ("--exclude-weights", "blk.1"),
            ("--exclude-weights", "weight"),
            ("--prune-layers", "1,3"),
            ("--override-kv", "quantize.imatrix.file=str:mine", "--override-kv", "other=int:3"),
        )
    ),
    ("llama-mha", "IQ2_XXS", "no layer 1", ()),
    ("llama-mha", "Q4_K_M", "zeros", ()),
    ("llama-mha", "Q2_K", "hot column", ()),
]
"""Slice, preset, matrix, arguments."""


class Programs:
    """llama-imatrix and llama-quantize, run in a folder of models."""

    def __init__(self, programs: Path, models: Path) -> None:
        self._programs, self._models = programs.resolve(), models
        self.quantize = LlamaQuantize(programs, models)

    def imatrix(self, *arguments: str, until: str = "") -> str:
        """Run llama-imatrix; return what it said.

        It ends without waiting for its log to be printed, so it is run until the words are there.
        """
        for _ in range(200):
            done = subprocess.run(
                [self._programs / "llama-imatrix", *arguments],
                cwd=self._models,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=True,
            )
            if re.search(until, done.stdout.decode()):
                return done.stdout.decode()
        raise AssertionError(f"llama-imatrix never said {until!r}")


def write_model(folder: Path, name: str) -> Path:
    """Write a small model, or the sample, and beside it the text that it is run on."""
    path, text = folder / f"{name}.model", folder / "text.txt"
    kind, _, type_ = name.rpartition("-")
    if name == "stories":
        shutil.copyfile(SAMPLE, path)
    elif name == "stories-F32":  # the same bytes as llama-quantize's, which a test says
        quantize_model(SAMPLE, {path: "F32"})
        assert sha256(path.read_bytes()) == load("stories")["presets"]["F32"]["sha256"]
    elif type_ in TYPES:
        quantize_model(write(folder / kind, SMALL[kind]), {path: type_}, overwrite=True)
    else:
        write(path, SMALL[name])
    heldout = SAMPLE.parent / "heldout.txt"
    text.write_bytes(heldout.read_bytes() if name.startswith("stories") else matrices.TEXT + b"\n")
    return path


def of_models(programs: Programs, models: Path, folder: Path | None) -> Iterator[Outcome]:
    """Matrices, what llama-imatrix says of the text meanwhile, and of them afterwards."""
    said: dict[str, Any] = {"perplexity": {}, "written": {}, "statistics": {}}
    for name, (model, arguments) in MATRICES.items():
        write_model(models, model)
        made = ("-m", f"{model}.model", "-f", "text.txt", "-o", f"{name}.gguf")
        out = programs.imatrix(*made, *arguments, *NUMBERS, until="Final estimate")
        said["perplexity"][name] = [float(each) for each in re.findall(r"\[\d+\]([\d.]+),", out)]
        yield _held(models / f"{name}.gguf", folder)
    for name, (first, *more) in WRITTEN.items():
        run = ("-m", "none", "--in-file", first, "-c", "128", "-o", name)
        programs.imatrix(*run, *more)
        said["written"][name] = sha256((models / name).read_bytes())
    for name in STATISTICS:
        show = ("-m", "none", "--in-file", f"{name}.gguf", "--show-statistics")
        last = _layers(models / f"{name}.gguf") - 1
        out = programs.imatrix(*show, until=rf" {last}\t[^\t\n]+\t[^\t\n]+%\t[^\t\n]+\n")
        rows = [re.sub(r"^[\d.]+ I", "", line).split() for line in out.splitlines()]
        said["statistics"][name] = [row for row in rows if len(row) in (4, 13) and "%" in row[-2]]
    lines = [f' "{key}": {_laid_out(value)}' for key, value in said.items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    yield text_outcome("imatrix/said.json", text, folder)


def _layers(path: Path) -> int:
    names = [tensor.name for tensor in gguf.GGUFReader(path).tensors]
    return 1 + max(int(name.split(".")[1]) for name in names if name.startswith("blk."))


def _held(path: Path, folder: Path | None) -> Outcome:
    """Write a matrix, or hold its numbers to those here: another compilation sums otherwise."""
    name = f"imatrix/{path.name}"
    if folder:
        shutil.copyfile(path, folder / name)
        return Outcome(name, True, "written")
    pairs = zip(gguf.GGUFReader(path).tensors, gguf.GGUFReader(HERE / name).tensors, strict=True)
    agree = all(
        one.name == other.name and np.allclose(one.data, other.data, rtol=1e-4)
        for one, other in pairs
    )
    return Outcome(name, agree, "within 1e-4" if agree else "DIFFERS")


def _laid_out(value: dict[str, Any]) -> str:
    def rows(each: Any) -> str:
        if isinstance(each, list) and each and isinstance(each[0], list):
            return "[\n   " + ",\n   ".join(map(json.dumps, each)) + "\n  ]"
        return json.dumps(each)

    return "{\n" + ",\n".join(f'  "{k}": {rows(v)}' for k, v in value.items()) + "\n }"


def of_cases(programs: Programs, models: Path) -> str:
    """What llama-quantize makes of slices with the matrices of `tests/matrices.py`."""
    lines = []
    for kind, preset, change, arguments in CASES:
        write_slice(models / f"{kind}.gguf", kind)
        matrices.CHANGED[change](models / "a.imatrix", kind)
        run = programs.quantize.run(kind, preset, ["--imatrix", "a.imatrix", *arguments])
        case: dict[str, Any] = {
            "model": kind,
            "preset": preset,
            "matrix": change,
            "arguments": list(arguments),
        }
        if run.refused:
            case["refused"] = run.refused
        else:
            case["types"] = sorted({type_ for _, type_ in run.tensors()})
            case["sha256"] = sha256(run.files[0].read_bytes())
        lines.append(json.dumps(case))
    return "[\n" + ",\n".join(lines) + "\n]\n"


def _make(programs: Path, folder: Path | None) -> Iterator[Outcome]:
    if folder:
        (folder / "imatrix").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        models = Path(made)
        both = Programs(programs, models)
        yield from of_models(both, models, folder)
        yield text_outcome("imatrix/cases.json", of_cases(both, models), folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the files, or hold them to those here."""
    options = parser(__doc__)
    options.add_argument("--llama-bin", type=Path, required=True, help="the folder of llama.cpp")
    given = options.parse_args(arguments)
    return report(_make(given.llama_bin, folder_of(given)))


if __name__ == "__main__":
    sys.exit(main())
