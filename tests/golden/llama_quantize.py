"""Running real llama-quantize, and reading what it said and what it wrote."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from ggufscope.container.file import open_gguf
from tests.recipes.golden import stem

Typed = list[tuple[str, str]]
"""(name, type) in the order of writing."""


@dataclass(frozen=True)
class Run:
    """One run: what was written, or the words with which it was refused."""

    files: list[Path]
    said: str
    refused: str | None

    def tensors(self) -> dict[tuple[str, str], str]:
        """Return (name, type) -> the first 16 hex digits of the SHA-256 of its bytes, in order."""
        found = {}
        for path in self.files:
            with open_gguf(path) as file:  # the `gguf` package cannot read all of the types
                for tensor in file.tensors.values():
                    found[tensor.name, tensor.type.name] = sha256(tensor.data())[:16]
        return found

    def listed(self) -> Typed:
        """Return the types that a dry run printed."""
        line = re.compile(r"\[ *\d+/ *\d+\] (\S+) +- \[.*type = +(\w+), size = .*?(?:\((\w+)\))?$")
        found = [line.match(text) for text in self.said.splitlines()]
        return [(each[1], (each[3] or each[2]).upper()) for each in found if each]

    @property
    def quant_size(self) -> str:
        """The size that it printed, as `4.83 MiB (4.54 BPW)`."""
        found = re.search(r"quant size  = +(.*)", self.said)
        assert found, self.said[-2000:]
        return found[1]


class LlamaQuantize:
    """llama-quantize of a folder of programs, run in a folder of models."""

    def __init__(self, programs: Path, models: Path) -> None:
        self._program = (programs / "llama-quantize").resolve()
        self._models = models

    def presets(self) -> list[str]:
        """Return the presets, in its own order, without the aliases."""
        usage = self._said([])[1]
        listed = re.findall(r"^ +(?:\d+ +or +)?(\w+) *: (.*)$", usage.partition("allowed")[2], re.M)
        return [name for name, words in listed if not words.lstrip().startswith("alias")]

    def run(self, model: str, preset: str, arguments: Sequence[str] = ()) -> Run:
        """Quantize a model of the folder with two threads; earlier output is removed."""
        for old in self._models.glob("out*.gguf"):
            old.unlink()
        dry = "--dry-run" in arguments
        target = [] if dry else ["out.gguf"]
        code, said = self._said([*arguments, f"{model}.gguf", *target, preset, "2"])
        files = sorted(self._models.glob("out*.gguf"))
        return Run(files, said, None if code == 0 else _refusal(said))

    def _said(self, arguments: Sequence[str]) -> tuple[int, str]:
        done = subprocess.run(
            [self._program, *arguments],
            cwd=self._models,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        return done.returncode, done.stdout.decode(errors="replace")


def _refusal(said: str) -> str:
    """Return the error, or where and why it aborted: the path without the tree's own place."""
    if found := re.search(r"failed to quantize: (.*)", said):
        return found[1]
    found = re.search(r"^load_imatrix: (.*imatrix.*)", said, re.MULTILINE)
    found = found or re.search(r"((?:ggml/)?src/[\w.-]+:\d+: .*)", said)
    assert found, said[-2000:]
    return found[1]


def sha256(data: bytes | memoryview) -> str:
    """Return the digest in hex."""
    return hashlib.sha256(data).hexdigest()


def fold(types: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Fold (name, type) by stem: `{"blk.*.attn_v.weight": "Q4_K*3 Q6_K"}`."""
    stems: dict[str, list[str]] = defaultdict(list)
    for name, type_ in types:
        stems[stem(name)].append(type_)
    return {name: " ".join(map(_times, groupby(runs))) for name, runs in stems.items()}


def _times(group: tuple[str, Any]) -> str:
    count = len(list(group[1]))
    return group[0] if count == 1 else f"{group[0]}*{count}"


def settle_always(folded: dict[str, dict[str, str]]) -> dict[str, str]:
    """Take out of each preset's folded types what is the same in all of them, and return it."""
    first, *others = folded.values()
    same = {
        name: runs
        for name, runs in first.items()
        if all(other.get(name) == runs for other in others)
    }
    for types in folded.values():
        for name in same:
            del types[name]
    return same
