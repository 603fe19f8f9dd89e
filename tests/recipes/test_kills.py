"""Killed at any moment: the old file or the whole new one, no process left, no file for good."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ggufscope.container.leftovers import leftovers
from tests.program import WORKERS, start
from tests.recipes import golden

pytestmark = pytest.mark.slow

OLD = b"the old file"
MOMENTS = 20
WHOLE = golden.load("stories")["presets"]["Q2_K"]["sha256"]
SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@pytest.fixture
def words(sample: Path, tmp_path: Path) -> list[object]:
    source = shutil.copy(sample, tmp_path / "model.gguf")
    return ["quantize", source, tmp_path / "out.gguf", "Q2_K", "--force", *WORKERS]


def _start(words: list[object]) -> subprocess.Popen[bytes]:
    # As a shell with job control starts it: the leader of a group that its workers are in.
    return start(*words, workers=True, start_new_session=True)


def _seconds_of(words: list[object]) -> float:
    begin = time.monotonic()
    child = _start(words)
    _, complaint = child.communicate()
    assert child.returncode == 0, complaint
    return time.monotonic() - begin


def _workers(leader: int) -> list[int]:
    """The workers of a group: not the process that keeps track of semaphores."""
    return [
        process
        for process in _group(leader)
        if b"spawn_main" in Path(f"/proc/{process}/cmdline").read_bytes()
    ]


def _group(leader: int) -> list[int]:
    """The processes of a group that are not zombies."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(words[2]) == leader and words[0] != "Z":
                found.append(int(entry.name))
    return found


def _nobody_is_left(leader: int) -> None:
    deadline = time.monotonic() + 20
    while _group(leader):
        assert time.monotonic() < deadline, "a worker outlives its parent"
        time.sleep(0.02)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _moments(seed: int, seconds: float) -> Iterator[float]:
    chance = random.Random(seed)
    for _ in range(MOMENTS):
        yield chance.uniform(0, 1.1 * seconds)


@pytest.mark.parametrize("to_group", [False, True], ids=["process", "group"])
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_killed_at_any_moment(
    number: signal.Signals, to_group: bool, words: list[object], tmp_path: Path
) -> None:
    target, source = tmp_path / "out.gguf", tmp_path / "model.gguf"
    before = source.stat()
    untouched = 0
    for moment in _moments(int(number) + 100 * to_group, _seconds_of(words)):
        target.write_bytes(OLD)
        child = _start(words)
        time.sleep(moment)
        (os.killpg if to_group else os.kill)(child.pid, number)
        _, complaint = child.communicate(timeout=60)
        _nobody_is_left(child.pid)
        # A Ctrl-C that comes before Python has reached this program is Python's to report.
        for place in (b"ggufscope/cli/", b"ggufscope/recipes/", b"ggufscope/container/"):
            assert place not in complaint, complaint.decode()
        untouched += target.read_bytes() == OLD
        assert target.read_bytes() == OLD or _digest(target) == WHOLE
        left = set(tmp_path.iterdir()) - {target, source}
        assert left <= (set(leftovers(target)) if number == signal.SIGKILL else set())
    assert untouched  # some were early enough to matter
    _seconds_of(words)
    assert {path.name for path in tmp_path.iterdir()} == {"model.gguf", "out.gguf"}
    assert _digest(target) == WHOLE
    after = source.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_a_worker_killed_at_any_moment(words: list[object], tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    chance, killed = random.Random(7), 0
    for moment in _moments(7, _seconds_of(words)):
        target.write_bytes(OLD)
        child = _start(words)
        time.sleep(moment)
        if workers := _workers(child.pid):
            killed += 1
            os.kill(chance.choice(workers), signal.SIGKILL)
        _, complaint = child.communicate(timeout=60)
        assert child.returncode == 0, complaint.decode()
        assert complaint == b""
        assert _digest(target) == WHOLE
        _nobody_is_left(child.pid)
        assert {path.name for path in tmp_path.iterdir()} == {"model.gguf", "out.gguf"}
    assert killed > MOMENTS // 4
