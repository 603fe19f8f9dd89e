"""Workers that are killed, refused or cut off: the work is done all the same, or it is said."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import pytest

from ggufscope import errors
from ggufscope.blocks.codec import ENGINE_VARIABLE
from ggufscope.container.leftovers import leftovers
from ggufscope.recipes import apply
from ggufscope.recipes.apply import Progress, quantize_model
from tests.program import WORKERS, refused, run
from tests.recipes import golden

SHA_Q8 = golden.load("stories")["presets"]["Q8_0"]["sha256"]
SMALL_JOBS = 16 << 10


@pytest.fixture
def model(sample: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sample, tmp_path / "model.gguf"))


@pytest.fixture(autouse=True)
def by_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have NumPy convert: where kernels do, threads serve and there are no workers."""
    monkeypatch.setenv(ENGINE_VARIABLE, "numpy")


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the sample taken for a large model, which processes work on."""
    monkeypatch.setattr(apply, "_LARGE", 1)


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _kill_workers(times: int) -> Callable[[Progress], None]:
    """Kill a worker, as the system does when memory is short, until ``times`` were killed."""
    killed: set[int] = set()

    def kill(progress: Progress) -> None:
        alive = {child.pid for child in multiprocessing.active_children() if child.pid} - killed
        if len(killed) < times and alive and progress.done > progress.total // 10:
            pid = min(alive)
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)

    return kill


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.usefixtures("large")
def test_a_worker_that_is_killed_is_replaced(times: int, model: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    kill = _kill_workers(times)
    (result,) = quantize_model(
        model, {target: "Q8_0"}, threads=2, buffer_bytes=SMALL_JOBS, progress=kill
    )
    assert _sha(target) == SHA_Q8
    assert result.costs.keys()
    assert leftovers(target) == []


@pytest.mark.usefixtures("large")
def test_workers_that_are_killed_again_and_again_end_the_run(model: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    with pytest.raises(
        errors.WorkersLost, match="5 worker processes were ended from outside"
    ) as caught:
        quantize_model(
            *(model, {target: "Q2_K"}),
            threads=2,
            buffer_bytes=SMALL_JOBS,
            progress=_kill_workers(10),
        )
    assert "--threads" in (caught.value.hint or "")
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


def test_an_executor_that_was_lent_is_not_replaced(model: Path, tmp_path: Path) -> None:
    with (
        ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool,
        pytest.raises(errors.WorkersLost, match="executor that was given"),
    ):
        quantize_model(
            *(model, {tmp_path / "out.gguf": "Q2_K"}),
            executor=pool,
            buffer_bytes=SMALL_JOBS,
            progress=_kill_workers(1),
        )
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


def test_the_command_line_says_so_too(model: Path, tmp_path: Path) -> None:
    before = """
import multiprocessing, os, threading, time
def kill():
    while True:
        for child in multiprocessing.active_children():
            try:
                os.kill(child.pid, 9)
            except OSError:
                pass
        time.sleep(0.05)
threading.Thread(target=kill, daemon=True).start()
"""
    target = tmp_path / "out.gguf"
    done = run("quantize", model, target, "Q2_K", *WORKERS, workers=True, before=before)
    refused(done, "5 worker processes were ended from outside")
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


@pytest.mark.parametrize("granted", [0, 1, 2])
def test_where_processes_are_rationed_the_others_do_it(
    granted: int, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply, "_LARGE", 1)
    start, started = SpawnProcess.start, [0]

    def rationed(process: SpawnProcess) -> None:
        if started[0] == granted:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        started[0] += 1
        start(process)

    monkeypatch.setattr(SpawnProcess, "start", rationed)
    said: list[str] = []
    target = tmp_path / "out.gguf"
    quantize_model(model, {target: "Q8_0"}, threads=3, buffer_bytes=SMALL_JOBS, warn=said.append)
    assert _sha(target) == SHA_Q8
    assert started == [granted]
    (words,) = said
    assert "Resource temporarily unavailable" in words
    assert words.endswith(f"): {granted or 'threads'} do the work, slower")


def test_where_threads_are_rationed_one_does_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuse)
    said: list[str] = []
    target = tmp_path / "out.gguf"
    quantize_model(model, {target: "Q8_0"}, threads=2, warn=said.append)
    monkeypatch.undo()
    assert _sha(target) == SHA_Q8
    assert said == []


@pytest.mark.parametrize("count", [-1, 257, 10**9])
def test_a_number_of_threads_has_a_ceiling(count: int, model: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.BadUsage):
        quantize_model(model, {tmp_path / "out.gguf": "Q8_0"}, threads=count)


@pytest.mark.parametrize("how", ["replaced", "removed", "touched", "grown"])
@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_one_source_for_one_run(
    processes: bool, how: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply, "_LARGE", 1 if processes else 1 << 60)
    other = tmp_path / "other.gguf"
    other.write_bytes(model.read_bytes())
    later = model.stat().st_mtime_ns + 1

    def change(progress: Progress) -> None:
        if how == "replaced" and other.exists():
            other.replace(model)
        elif how == "removed":
            model.unlink(missing_ok=True)
        elif how == "touched":
            os.utime(model, ns=(later, later))
        elif how == "grown":
            with model.open("ab") as file:
                file.write(b"more")

    with pytest.raises(errors.SourceChanged):
        quantize_model(
            *(model, {tmp_path / "out.gguf": "Q8_0"}),
            threads=2,
            buffer_bytes=SMALL_JOBS,
            progress=change,
        )
    assert {path.name for path in tmp_path.iterdir()} <= {"model.gguf", "other.gguf"}


def test_a_source_replaced_after_the_last_job_is_noticed(model: Path, tmp_path: Path) -> None:
    def replace_at_the_end(progress: Progress) -> None:
        if progress.done == progress.total:
            data = model.read_bytes()
            model.unlink()
            model.write_bytes(data)

    with pytest.raises(errors.SourceChanged):
        quantize_model(model, {tmp_path / "out.gguf": "Q8_0"}, progress=replace_at_the_end)
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_a_temporary_file_that_vanishes_ends_the_run(
    processes: bool, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply, "_LARGE", 1 if processes else 1 << 60)
    target = tmp_path / "out.gguf"

    def remove(progress: Progress) -> None:
        for path in leftovers(target):
            path.unlink()

    with pytest.raises(errors.TargetUnwritable, match="temporary file was removed"):
        quantize_model(
            *(model, {target: "Q8_0"}), threads=2, buffer_bytes=SMALL_JOBS, progress=remove
        )
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


def test_a_disk_that_fills_while_workers_write_leaves_nothing(model: Path, tmp_path: Path) -> None:
    # The space of a sparse file is not taken before it is written: a limit on the workers' files
    # comes, like a full disk, in the middle.
    before = """
import ggufscope.recipes.workers as w
serve = w._serve
def limited(*arguments):
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    serve(*arguments)
w._serve = limited
"""
    script = tmp_path / "limited.py"  # workers import what they do by its name
    script.write_text(before)
    target = tmp_path / "out.gguf"
    done = run(
        *("quantize", model, target, "Q8_0", *WORKERS),
        workers=True,
        before=f"import sys\nsys.path.append({str(tmp_path)!r})\nimport limited",
    )
    refused(done, str(target), "cannot be written", "File too large")
    script.unlink()
    shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]
