"""An importance matrix under way, killed at any moment: nothing, or whole chunks; never a half."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from ggufscope.recipes.imatrix_file import read_imatrix
from tests.program import start

pytestmark = pytest.mark.slow

CHUNK, CHUNKS = 64, 34


def test_a_killed_run_loses_a_chunk_at_the_most(sample: Path, tmp_path: Path) -> None:
    whole, target = tmp_path / "whole.gguf", tmp_path / "target.gguf"
    words = ("imatrix", sample, "--text", sample.parent / "heldout.txt", "-c", CHUNK, "-q")
    child = start(*words, "-o", whole)
    begin = time.monotonic()
    _, complaint = child.communicate()
    assert child.returncode == 0, complaint
    took = time.monotonic() - begin
    dice, done, kills = random.Random(4), 0, 0
    while True:
        child = start(*words, "-o", target, "--resume")
        time.sleep(dice.uniform(0.4, 0.9) * took)
        child.kill()
        child.communicate()
        kills += 1
        if not target.exists():
            continue
        saved = read_imatrix(target)
        assert saved.chunk_count >= done
        assert max(int(entry.counts.max()) for entry in saved.entries.values()) % CHUNK == 0
        done = saved.chunk_count
        if not saved.unfinished:
            break
        assert kills < 40
    assert done == CHUNKS
    assert target.read_bytes() == whole.read_bytes()
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == {
        "whole.gguf",
        "target.gguf",
    }
