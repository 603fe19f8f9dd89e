"""The documents that show what the program prints, and how their commands are run again.

A ``console`` block has a command after ``$ `` and below it what the command prints, at 80 columns.
A line ``...`` stands for any lines. ``$ echo $?`` shows the exit code of the command above it,
which is 0 where it is not shown. ``python -m tests.documents`` writes what the commands print now
into the blocks that show all of it, and names the others that no longer fit. A file such as
``stories-q4_k_m.gguf`` that a command reads is what ``quantize`` makes of the sample.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from tests import program
from tests.container.stored import ollama

ROOT: Final = Path(__file__).parent.parent
SAMPLE: Final = ROOT / "samples" / "stories-f16.gguf"
GUIDE: Final = sorted((ROOT / "samples" / "guide").glob("*.md"))
COURSE: Final = sorted(
    (path for path in GUIDE if path.name.startswith("learn-")),
    key=lambda path: int(path.name.split("-")[1]),
)
REPLAYED: Final = [ROOT / "README.md", *GUIDE]
MATRIX: Final = "samples/imatrix.gguf"
MAKE_MATRIX: Final = (
    "ggufscope imatrix samples/stories-f16.gguf --text samples/heldout.txt -c 128 -o " + MATRIX
)
DOCUMENTS: Final = [
    *REPLAYED,
    ROOT / "samples" / "README.md",
    ROOT / "ggufscope" / "README.md",
    ROOT / "tests" / "README.md",
    ROOT / "tests" / "golden" / "README.md",
    *sorted((ROOT / ".github").glob("*.md")),
]

_BLOCK: Final = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MADE: Final = re.compile(r"stories-(q\w+)\.gguf")
_EXIT_CODE: Final = "$ echo $?\n"


@dataclass(frozen=True, slots=True)
class Shown:
    """What one block shows of one command."""

    document: Path
    command: str
    printed: str
    exit_code: int

    @property
    def whole(self) -> bool:
        """Whether no line is left out."""
        return "...\n" not in self.printed.splitlines(keepends=True)

    def fits(self, printed: str) -> bool:
        """Whether a command that printed this is shown rightly."""
        parts = [
            r"(?:.*\n)+?" if line == "...\n" else re.escape(line)
            for line in self.printed.splitlines(keepends=True)
        ]
        return re.fullmatch("".join(parts), printed) is not None


def shown_in(document: Path) -> list[Shown]:
    """Return every command of a document, with what is said to follow."""
    found = []
    for block in _BLOCK.findall(document.read_text(encoding="utf-8")):
        for part in re.split(r"^(?=\$ (?!echo))", block, flags=re.MULTILINE):
            if part:
                first, _, printed = part.partition("\n")
                printed, _, code = printed.partition(_EXIT_CODE)
                found.append(Shown(document, first.removeprefix("$ "), printed, int(code or 0)))
    return found


@cache
def run(command: str) -> subprocess.CompletedProcess[str]:
    """Run a command, once, in a folder where ``samples/`` has the sample and its text, and no more.

    But for an importance matrix, or a quantization of the sample, where a command reads one. What
    other tools have, where it asks, is the sample: twice with Ollama, once with LM Studio.
    """
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder) / "samples"
        samples.mkdir()
        shutil.copy(SAMPLE, samples)  # some commands write beside their source
        shutil.copy(SAMPLE.parent / "heldout.txt", samples)
        environment = program.environment()
        arguments = shlex.split(command)
        if "--local" in arguments or any(word.startswith("ollama:") for word in arguments):
            fill_stores(Path(folder))
            gone = {"OLLAMA_MODELS", "LLAMA_CACHE", "HF_HOME", "HF_HUB_CACHE", "XDG_DATA_HOME"}
            environment = {k: v for k, v in environment.items() if k not in gone}
            environment |= {"HOME": folder, "XDG_CACHE_HOME": f"{folder}/.cache"}
        if MATRIX in command and command != MAKE_MATRIX:
            (Path(folder) / MATRIX).write_bytes(_matrix())
        for argument in arguments:
            if made := _MADE.fullmatch(argument):
                program.run("quantize", SAMPLE, argument, made[1].upper(), cwd=Path(folder))
        return _run(command, folder, environment)


@cache
def _matrix() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(SAMPLE.parent, Path(folder) / "samples")
        done = _run(MAKE_MATRIX, folder, program.environment())
        assert done.returncode == 0, done.stdout
        return (Path(folder) / MATRIX).read_bytes()


def _run(
    command: str, folder: str, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    name, *arguments = shlex.split(command)
    assert name == "ggufscope"
    return program.run(*arguments, cwd=Path(folder), env=environment, stderr=subprocess.STDOUT)


def fill_stores(home: Path) -> None:
    """Lay the sample out as Ollama and LM Studio would have it."""
    data = SAMPLE.read_bytes()
    for tag in ("3m", "latest"):
        name = f"registry.ollama.ai/library/stories/{tag}"
        ollama(home / ".ollama" / "models", name, ("model", data))
    folder = home / ".lmstudio" / "models" / "owner" / "stories-GGUF"
    folder.mkdir(parents=True)
    (folder / "stories-F16.gguf").write_bytes(data)


def run_all(commands: Iterable[str]) -> dict[str, subprocess.CompletedProcess[str]]:
    """Run each command once, some side by side."""
    each = list(dict.fromkeys(commands))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(each, pool.map(run, each), strict=True))


def main() -> None:
    """Write what the commands print now into the documents."""
    every = [shown for document in REPLAYED for shown in shown_in(document)]
    done = run_all(shown.command for shown in every)
    for shown in every:
        now = done[shown.command].stdout
        if shown.whole and now != shown.printed:
            text = shown.document.read_text(encoding="utf-8")
            head = f"$ {shown.command}\n"
            shown.document.write_text(text.replace(head + shown.printed, head + now), "utf-8")
            print(f"written: {shown.document.name}: {shown.command}")
        elif not shown.fits(now):
            print(f"does not fit: {shown.document.name}: {shown.command}")


if __name__ == "__main__":
    main()
