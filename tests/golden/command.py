"""What the programs that make golden files share: the command line, and how a file is held to ours.

Each program makes its files anew with real llama.cpp. With `--check` it holds them to the files
here and reports what differs; with a folder it writes them there. It never writes here by itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
_SAMPLES = HERE.parent.parent / "samples"
SAMPLE, HELDOUT = _SAMPLES / "stories-f16.gguf", _SAMPLES / "heldout.json"


@dataclass(frozen=True)
class Outcome:
    """What came of one golden file, or of one part of it."""

    name: str
    agrees: bool
    words: str = "identical"


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of `--check` or a folder to write to."""
    made = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    where = made.add_mutually_exclusive_group(required=True)
    where.add_argument("--check", action="store_true", help="hold the result to the files here")
    where.add_argument("folder", nargs="?", type=Path, help="write the files here")
    return made


def folder_of(options: argparse.Namespace) -> Path | None:
    """Return the folder to write to, made if need be; None when files are only checked."""
    folder: Path | None = options.folder
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def text_outcome(name: str, made: str, folder: Path | None) -> Outcome:
    """Write a text file, or hold it to the one here, byte for byte."""
    if folder:
        (folder / name).write_text(made, encoding="utf-8")
        return Outcome(name, True, "written")
    mine = (HERE / name).read_text(encoding="utf-8").splitlines()
    lines = made.splitlines()
    if mine == lines:
        return Outcome(name, True)
    pairs = enumerate(zip(mine, lines, strict=False), 1)
    first = next((n for n, (a, b) in pairs if a != b), min(len(mine), len(lines)) + 1)
    return Outcome(name, False, f"DIFFERS from line {first} on")


def report(outcomes: Iterable[Outcome]) -> int:
    """Print each outcome as it comes, and a sum; return the exit code."""
    found = []
    for outcome in outcomes:
        sys.stdout.write(f"{outcome.name}: {outcome.words}\n")
        sys.stdout.flush()
        found.append(outcome)
    failed = sum(not outcome.agrees for outcome in found)
    sys.stdout.write(f"{len(found) - failed} of {len(found)} agree\n")
    return 1 if failed or not found else 0
