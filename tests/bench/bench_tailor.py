"""What a mix chosen by measurement takes: beside one preset, one importance matrix; and in memory.

    python -m tests.bench.bench_tailor [--tokens 2048] [--only small|large]

*small*: a llama of 124 million parameters in F16 with random weights: `quantize --type Q4_K_M`,
`imatrix` over as many tokens as are chosen by (two chunks at the least), `quantize --target-bpw
5.09`, which is Q4_K_M's size, with all it does, and the same again with its sensitivities kept: the
difference is what measuring took. *large*: layers of Llama-2-7B's shape, as many as `--layers`
says; a layer more takes no more memory. Whole processes, each once; seconds by the clock and of the
processors, and peak resident memory.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.bench.bench_forward import LARGE, SMALL, make_model
from tests.bench.bench_imatrix import CONTEXT, LETTERS, lettered, timed
from tests.bench.common import where


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--only", choices=["small", "large"])
    given = parser.parse_args()
    print(f"{where()}: all cores are used here; {given.tokens:,} tokens to choose by, and to try")
    text = given.directory / "bench-tailor.txt"
    rng = np.random.default_rng(1)
    lines = rng.integers(0, len(LETTERS), (1 + 2 * given.tokens // (CONTEXT - 1), CONTEXT - 1))
    text.write_text("\n\n".join("".join(LETTERS[i] for i in line) for line in lines) + "\n")
    if given.only != "large":
        path = given.directory / "bench-imatrix-124m.gguf"
        if not path.exists():
            make_model(path, lettered(SMALL), "F16")
        _compare(path, text, given.tokens)
    if given.only != "small":
        shape = lettered(replace(LARGE, layers=given.layers))
        path = given.directory / f"bench-7b-{given.layers}-layers.gguf"
        if not path.exists():
            make_model(path, shape, "F16")
        known = path.with_suffix(".sensitivities.json")
        known.unlink(missing_ok=True)
        _show(
            f"7B shape, {given.layers} layers",
            _ours(path, "--target-bpw", "5.09", *_by(text, given.tokens, known)),
        )


def _compare(path: Path, text: Path, tokens: int) -> None:
    known = path.with_suffix(".sensitivities.json")
    known.unlink(missing_ok=True)
    wish = ("--target-bpw", "5.09", *_by(text, tokens, known))
    _show("quantize --type Q4_K_M", _ours(path, "--type", "Q4_K_M"))
    matrix = ["imatrix", str(path), "--text", str(text), "-c", str(CONTEXT), "--no-ppl", "-q"]
    matrix += ["--chunks", str(max(2, tokens // CONTEXT)), "--force"]
    matrix += ["-o", str(path.with_suffix(".imatrix.gguf"))]
    _show("imatrix", [sys.executable, "-m", "ggufscope", *matrix])
    _show("--target-bpw, all of it", _ours(path, *wish))
    _show("--target-bpw, measured before", _ours(path, *wish))


def _by(text: Path, tokens: int, known: Path) -> list[str]:
    return ["--text", str(text), "--tokens", str(tokens), "--sensitivities", str(known)]


def _ours(path: Path, *arguments: str) -> list[str]:
    command = [sys.executable, "-m", "ggufscope", "quantize", str(path), *arguments]
    return [*command, "-q", "--force", "-o", str(path.parent / "bench-tailor")]


def _show(name: str, command: list[str]) -> None:
    seconds, used, peak = timed(command)
    said = f"{name:30}{seconds:8.2f} s {used:8.2f} s of processors {peak:8.0f} MiB"
    print(said, flush=True)


if __name__ == "__main__":
    main()
