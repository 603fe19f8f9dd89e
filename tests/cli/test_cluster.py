"""`ggufscope quantize --scheduler`: real worker processes, and what can go wrong with them."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ggufscope import __version__, errors
from ggufscope.cli.cluster import cluster
from ggufscope.recipes import apply, elsewhere, resume
from ggufscope.recipes.apply import Progress
from ggufscope.recipes.jobs import Job
from ggufscope.recipes.request import Request, prepare
from tests.cli.conftest import Run
from tests.cluster import Cluster, running
from tests.program import refused
from tests.program import run as start
from tests.recipes import golden

PRESETS = golden.load("stories")["presets"]
TYPES = ("Q8_0", "Q4_K_M", "Q2_K")
SMALL_JOBS = 64 << 10


@pytest.fixture(scope="module")
def farm() -> Iterator[Cluster]:
    with running() as cluster:
        yield cluster


@pytest.fixture
def model(sample: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sample, tmp_path / "stories-f16.gguf"))


def whole(folder: Path) -> bool:
    for preset in TYPES:
        data = (folder / f"stories-{preset}.gguf").read_bytes()
        assert hashlib.sha256(data).hexdigest() == PRESETS[preset]["sha256"], preset
    return len([*folder.iterdir()]) == len(TYPES)


def unheard(words: str) -> None:
    raise AssertionError(words)


def test_the_files_are_those_of_this_machine(
    farm: Cluster, model: Path, tmp_path: Path, run: Run
) -> None:
    words = ["--types", ",".join(TYPES), "--brief"]
    code, printed, complaint = run(
        *("quantize", model.name, *words, "-o", "there", "--scheduler", farm.address)
    )
    assert (code, complaint) == (0, "")
    assert whole(tmp_path / "there")
    assert run("quantize", model.name, *words, "-o", "here", "-q")[1] == printed.replace(
        "there/", "here/"
    )


def test_a_worker_that_is_killed_in_the_middle(farm: Cluster, model: Path, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill(progress: Progress) -> None:
        if len(killed) < 2 and progress.done > progress.total * (1 + len(killed)) // 4:
            killed.append(max(farm.ask()[1]))
            os.kill(killed[-1], signal.SIGKILL)

    prepared = prepare(Request(model, TYPES, directory=tmp_path / "out"))
    with cluster(farm.address, unheard) as (executor, threads):
        results = apply.run(
            prepared,
            executor=executor,
            threads=threads,
            buffer_bytes=SMALL_JOBS,
            progress=kill,
            warn=unheard,
        )
    assert len(killed) == 2
    assert whole(tmp_path / "out")
    assert all(result.costs for result in results)


def test_it_goes_on_where_it_was_ended(
    farm: Cluster, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun here, gone on with there."""
    monkeypatch.setattr(resume, "EVERY", 0.0)
    prepared = prepare(Request(model, TYPES, directory=tmp_path / "out"))

    def end(progress: Progress) -> None:
        if progress.done > progress.total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply.run(prepared, resume=True, progress=end)
    seen: list[Progress] = []
    with cluster(farm.address, unheard) as (executor, threads):
        apply.run(prepared, executor=executor, threads=threads, resume=True, progress=seen.append)
    assert whole(tmp_path / "out")


def test_what_a_worker_finds_is_one_line(farm: Cluster, model: Path, tmp_path: Path) -> None:
    data = bytearray(model.read_bytes())
    data[-64:-62] = b"\x00\x7c"  # an infinity
    model.write_bytes(data)
    done = start("quantize", model, "Q8_0", "--scheduler", farm.address)
    refused(done, "tensor 'output.weight' has a NaN or an infinity in row 1023")
    assert [path.name for path in tmp_path.iterdir()] == [model.name]


def test_another_version_is_refused(
    farm: Cluster, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elsewhere, "__version__", "0.0.1")
    prepared = prepare(Request(model, TYPES, directory=tmp_path / "out"))
    with (
        pytest.raises(errors.ClusterError, match=r"has ggufscope .*, and this is 0\.0\.1"),
        cluster(farm.address, unheard) as (executor, threads),
    ):
        apply.run(prepared, executor=executor, threads=threads)
    assert [path.name for path in tmp_path.iterdir()] == [model.name]


def test_ctrl_c_ends_it(farm: Cluster, model: Path, tmp_path: Path) -> None:
    before = """
import os, signal
import ggufscope.recipes.apply as apply
enter = apply._Work.enter
def ended(self, *arguments):
    enter(self, *arguments)
    os.kill(os.getpid(), signal.SIGINT)
apply._Work.enter = ended
"""
    words = ("quantize", model, "Q2_K", "--scheduler", farm.address, "--max-buffer-size", "16K")
    done = start(*words, before=before)
    assert done.returncode == 130
    (line,) = done.stderr.splitlines()
    assert line.startswith("interrupted: the temporary file of ")
    assert [path.name for path in tmp_path.iterdir()] == [model.name]


# ---- without a cluster ----


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nonsense", "no scheduler at 'nonsense': missing port"),
        ("xx://1.2.3.4:5", "unknown address scheme"),
        ("", "missing port"),
        ("none.json", "No such file"),
        ("127.0.0.1:1", "'127.0.0.1:1': Timed out"),
    ],
)
def test_no_scheduler(
    address: str, said: str, model: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ggufscope.cli.cluster._PATIENCE", 0.3)
    code, printed, complaint = run("quantize", model, "Q8_0", "--scheduler", address)
    assert (code, printed) == (2, "")
    error, hint = complaint.splitlines()
    assert error.startswith("error: no scheduler at ")
    assert said in error
    assert "`dask scheduler`" in hint
    assert [path.name for path in model.parent.iterdir()] == [model.name]


@pytest.mark.parametrize("said", [b"", b"HTTP/1.0 400 Bad Request\r\nServer: other\r\n\r\n"])
def test_another_server_is_no_scheduler(
    said: bytes, model: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one that says nothing nor one that says something else is waited for."""
    monkeypatch.setattr("ggufscope.cli.cluster._PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        held: list[socket.socket] = []

        def answer() -> None:
            with suppress(OSError):
                while True:
                    held.append(server.accept()[0])
                    held[-1].sendall(said)

        threading.Thread(target=answer, daemon=True).start()
        code, _, complaint = run("quantize", model, "Q8_0", "--scheduler", address)
        for each in held:
            each.close()
    assert code == 2
    assert complaint.splitlines()[0].startswith(f"error: no scheduler at '{address}': ")
    assert len(complaint.splitlines()) == 2


@pytest.mark.parametrize("text", ["", "{}", '{"address": 5}', "[]"])
def test_a_file_that_no_scheduler_wrote(text: str, model: Path, run: Run) -> None:
    path = model.with_name("s.json")
    path.write_text(text)
    code, _, complaint = run("quantize", model, "Q8_0", "--scheduler", path)
    path.unlink()
    assert code == 2
    assert complaint.startswith(f"error: no scheduler at '{path}': ")
    assert "\nhint: " in complaint


def test_dask_that_is_not_installed(model: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    code, _, complaint = run("quantize", model, "Q8_0", "--scheduler", "127.0.0.1:1")
    assert code == 2
    assert "not installed" in complaint
    assert "\nhint: pip install 'ggufscope[cluster]'\n" in complaint


def test_threads_are_the_workers_own(model: Path, run: Run) -> None:
    words = ("quantize", model, "Q8_0", "--scheduler", "127.0.0.1:1", "--threads", "2")
    code, _, complaint = run(*words)
    assert code == 2
    assert "--threads is about this machine" in complaint


# ---- what a worker does ----


@pytest.fixture
def job(model: Path, tmp_path: Path) -> Job:
    """A job as it travels."""
    jobs: list[Job] = []

    class Taken(Executor):
        def submit(self, work: Any, job: Job) -> Any:  # type: ignore[override]  # one argument
            jobs.append(job)
            raise BrokenExecutor

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        prepared = prepare(Request(model.name, {"out.gguf": "Q8_0"}))
        with pytest.raises(errors.WorkersLost):
            apply.run(prepared, executor=Taken())
    return jobs[0]


def test_a_job_names_files_that_any_machine_finds(job: Job, model: Path) -> None:
    assert job.path == str(model)
    assert (job.identity.device, job.identity.inode) == (0, 0)
    ((place, _),) = job.outputs[0].places
    assert Path(place.path).is_absolute()
    assert (place.device, place.inode) == (0, 0)


def test_a_worker_that_does_not_see_a_file_says_so(job: Job, tmp_path: Path) -> None:
    unseen = str(tmp_path / "elsewhere" / "model.gguf")
    with pytest.raises(errors.ClusterError, match="does not see") as caught:
        elsewhere.serve(__version__, replace(job, path=unseen))
    assert unseen in caught.value.message
    assert "same paths" in caught.value.hint


def test_a_worker_without_kernels_says_so_once(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elsewhere, "why_slow", lambda: "they were not compiled")
    said: list[str] = []
    prepared = prepare(Request(model, TYPES, directory=tmp_path / "out"))
    with ThreadPoolExecutor(2) as pool:
        apply.run(prepared, executor=pool, warn=said.append)
    assert whole(tmp_path / "out")
    (words,) = said
    assert "NumPy converts, several times slower: they were not compiled" in words


def test_what_the_executor_cancels_is_done_again(model: Path, tmp_path: Path) -> None:
    """As Dask's does where the connection to its scheduler was lost for a while."""
    lost: list[Any] = []

    class Forgetful(ThreadPoolExecutor):
        def submit(self, *arguments: Any, **named: Any) -> Any:
            if len(lost) < 7:
                lost.append(Future())
                lost[-1].cancel()
                return lost[-1]
            return super().submit(*arguments, **named)

    prepared = prepare(Request(model, TYPES, directory=tmp_path / "out"))
    with Forgetful(2) as pool:
        apply.run(prepared, executor=pool)
    assert len(lost) == 7
    assert whole(tmp_path / "out")


def test_what_workers_lack_is_said_in_our_words(monkeypatch: pytest.MonkeyPatch) -> None:
    class Client:
        def nthreads(self) -> dict[str, int]:
            return {}

        def get_executor(self, **_: Any) -> object:
            return object()

        def close(self, timeout: float) -> None:
            raise TimeoutError

    monkeypatch.setattr("ggufscope.cli.cluster._connected", lambda *_: Client())
    said: list[str] = []
    with (
        pytest.raises(errors.ClusterError, match="a worker has no ggufscope"),
        cluster("there:1", said.append),
    ):
        raise ModuleNotFoundError("No module named 'ggufscope'", name="ggufscope")
    assert said == ["there:1 has no worker yet: the first one is waited for"]
    with (
        pytest.raises(errors.ClusterError, match="connection to the scheduler at there:1"),
        cluster("there:1", said.append),
    ):
        raise errors.WorkersLost("lost")


@pytest.mark.slow
def test_a_cluster_that_is_lost(model: Path, tmp_path: Path) -> None:
    with running() as farm:
        prepared = prepare(Request(model, TYPES, directory=tmp_path / "out"))

        def lose(progress: Progress) -> None:
            if farm.process.poll() is None:
                for pid in [*farm.ask()[1], farm.process.pid]:
                    os.kill(pid, signal.SIGKILL)
                farm.process.wait()

        with (
            pytest.raises(errors.ClusterError, match="was lost"),
            cluster(farm.address, unheard) as (executor, threads),
        ):
            apply.run(
                prepared,
                executor=executor,
                threads=threads,
                buffer_bytes=SMALL_JOBS,
                progress=lose,
            )
    assert [path.name for path in tmp_path.iterdir()] == [model.name]


@pytest.mark.slow
def test_what_ends_every_worker_is_named(tmp_path: Path) -> None:
    with (
        running(DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0") as farm,
        pytest.raises(errors.ClusterError, match="1 workers ended while they did one job"),
        cluster(farm.address, unheard) as (executor, _),
    ):
        executor.submit(os._exit, 3).result()
