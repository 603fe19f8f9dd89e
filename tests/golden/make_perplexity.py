"""Make `perplexity/*` anew: what real llama-perplexity says of small models and of the sample.

    python -m tests.golden.make_perplexity --llama-bin llama.cpp/build/bin --check

Perplexities after each chunk; a file of logits of one small model; and of the sample's
quantizations all that `--kl-divergence` says, the sample in F32 being the base.
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

import numpy as np

from ggufscope.recipes.apply import quantize_model
from ggufscope.recipes.options import PlanOptions
from tests.golden.command import HERE, SAMPLE, Outcome, folder_of, parser, report
from tests.golden.make_imatrix import NUMBERS, write_model

SMALL_RUNS = (
    *("llama-mha", "llama-gqa", "llama-mqa", "llama-biased"),
    *("mixtral", "qwen2moe", "qwen3moe", "phi3", "gpt2", "gemma2"),
)
SAMPLE_RUNS = ("stories", "stories-F32")
WITH_LOGITS = "llama-gqa"
QUANTIZED = ("Q8_0", "Q4_0", "Q4_K_M", "Q2_K")
"""Presets of the sample that are held to it. With ` as F32` their numbers, stored in F32: there
llama.cpp rounds nothing that enters a matrix."""
_LINE = re.compile(r"^(.+?) *: +(-?[\d.]+)%?(?: ± +(-?[\d.]+))?", re.MULTILINE)


def context_of(name: str) -> int:
    """Return the tokens of a chunk."""
    return 128 if name.startswith("stories") else 32


def write_quantized(folder: Path, preset: str) -> Path:
    """Write the sample in a preset, or the numbers that it stands for in F32."""
    plain = preset.removesuffix(" as F32")
    path = folder / f"{plain}.gguf"
    if not path.exists():
        quantize_model(SAMPLE, {path: plain})
    if plain == preset:
        return path
    wide = folder / f"{plain}-F32.gguf"
    options = PlanOptions(allow_requantize=True)
    quantize_model(path, {wide: "F32"}, options=options)
    return wide


class Program:
    """llama-perplexity, run in a folder."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._path, self._folder = programs.resolve() / "llama-perplexity", folder

    def run(self, *arguments: str, until: str) -> str:
        """Return what it said. It may end before all is printed, so it runs until it has."""
        for _ in range(50):
            done = subprocess.run(
                [self._path, *arguments, *NUMBERS],
                cwd=self._folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=True,
            )
            said = done.stdout.decode()
            if re.search(until, said):
                return said
        raise AssertionError(f"llama-perplexity never said {until!r}")


def perplexity(program: Program, folder: Path, name: str, *more: str) -> dict[str, Any]:
    """Return the perplexity after each chunk, the last one and its error."""
    write_model(folder, name)
    context = str(context_of(name))
    batch = () if name.startswith("stories") else ("-b", "128")
    run = ("-m", f"{name}.model", "-f", "text.txt", "-c", context, *batch, *more)
    said = program.run(*run, until="Final estimate")
    value, error = re.findall(r"PPL = ([\d.]+) \+/- ([\d.]+)", said)[0]
    so_far = [float(each) for each in re.findall(r"\[\d+\]([\d.]+),", said)]
    return {"value": float(value), "error": float(error), "so_far": so_far}


def divergence(program: Program, model: Path) -> dict[str, list[float]]:
    """Return the number, and where it has one the error, of every line of the statistics."""
    run = ("-m", model.name, "-c", "128", "--kl-divergence", "--kl-divergence-base", "base")
    said = program.run(*run, until="Same top p:")
    found = {}
    for name, value, error in _LINE.findall(said[said.index("======") :]):
        found[" ".join(name.split())] = [float(value), *([float(error)] if error else [])]
    return found


def _make(programs: Path, folder: Path | None) -> Iterator[Outcome]:
    if folder:
        (folder / "perplexity").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        models = Path(made)
        program = Program(programs, models)
        said: dict[str, Any] = {"perplexity": {}, "divergence": {}}
        for name in (*SMALL_RUNS, *SAMPLE_RUNS):
            more = ("--save-all-logits", "base") if name in (WITH_LOGITS, "stories-F32") else ()
            said["perplexity"][name] = perplexity(program, models, name, *more)
            if name == WITH_LOGITS:
                yield _logits(models / "base", folder)
        for preset in (*QUANTIZED, "Q2_K as F32"):
            model = write_quantized(models, preset)
            said["divergence"][preset] = divergence(program, model)
        yield _said(said, folder)


def _logits(path: Path, folder: Path | None) -> Outcome:
    """Write the file of logits, or hold its size to that here: another build rounds others."""
    name = f"perplexity/{WITH_LOGITS}.logits"
    if folder:
        shutil.copyfile(path, folder / name)
        return Outcome(name, True, "written")
    mine, theirs = ((where).read_bytes() for where in (HERE / name, path))
    agree = len(mine) == len(theirs) and mine[:20] == theirs[:20]
    return Outcome(name, agree, "of the same size" if agree else "DIFFERS")


def _said(said: dict[str, Any], folder: Path | None) -> Outcome:
    name = "perplexity/said.json"
    if folder:
        parts = [
            f' "{key}": {{\n'
            + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            + "\n }"
            for key, value in said.items()
        ]
        (folder / name).write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")
        return Outcome(name, True, "written")
    mine = json.loads((HERE / name).read_text(encoding="utf-8"))
    ours, theirs = (
        [each for _, value in sorted(of["perplexity"].items()) for each in value["so_far"]]
        for of in (mine, said)
    )
    agree = len(ours) == len(theirs) and np.allclose(ours, theirs, rtol=1e-4)
    return Outcome(name, agree, "within 1e-4" if agree else "DIFFERS")


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the files, or hold them to those here."""
    options = parser(__doc__)
    options.add_argument("--llama-bin", type=Path, required=True, help="the folder of llama.cpp")
    given = options.parse_args(arguments)
    return report(_make(given.llama_bin, folder_of(given)))


if __name__ == "__main__":
    sys.exit(main())
