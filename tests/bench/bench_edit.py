"""One key of a large file, the whole command: in place, and as a copy, against gguf-new-metadata.

    python -m tests.bench.bench_edit MODEL [--directory D] [--runs 3]

The directory needs room for two copies of the model. The time of a copy ends when it is on the
disk: here `edit` sees to that, and for the peer the file is synced behind it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.common import where

NAMES = "A name of some length", "A name of some width"


def measured(words: list[object], synced: Path | None) -> tuple[float, float, float]:
    """Seconds of the clock, seconds of a processor and peak MiB of a command."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, words
    if synced is not None:
        _sync(synced)
    wall = time.perf_counter() - begun
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("model", type=Path)
    options.add_argument("--directory", type=Path)
    options.add_argument("--runs", type=int, default=3)
    given = options.parse_args()
    print(where())
    found: dict[str, list[tuple[float, float, float]]] = {}
    for _ in range(given.runs):
        with tempfile.TemporaryDirectory(dir=given.directory) as folder:
            theirs, ours = Path(folder, "theirs.gguf"), Path(folder, "ours.gguf")
            peer = ["-m", "gguf.scripts.gguf_new_metadata", "--general-name", NAMES[0]]
            edit = ["-m", "ggufscope", "edit"]
            runs: dict[str, tuple[list[object], Path | None]] = {
                "gguf-new-metadata": ([*peer, given.model, theirs], theirs),
                "edit MODEL COPY": (
                    [*edit, given.model, ours, "--set", f"general.name=str:{NAMES[0]}"],
                    None,
                ),
                "edit MODEL": (
                    [*edit, ours, "--set", f"general.name=str:{NAMES[1]}"],
                    None,
                ),
            }
            for name, (words, synced) in runs.items():
                os.sync()
                found.setdefault(name, []).append(measured(words, synced))
                theirs.unlink(missing_ok=True)
    for name, times in found.items():
        wall, busy, peak = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{name:18} {wall:6.2f} s, {busy:5.2f} s of a processor, {peak:6.0f} MiB")


if __name__ == "__main__":
    main()
