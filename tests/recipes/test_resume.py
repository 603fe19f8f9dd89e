"""A run that is ended and gone on with: the same bytes, no job done twice, no other run's work."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ggufscope import errors
from ggufscope.container import partial
from ggufscope.container.journal import write_at
from ggufscope.container.ledger import Ledger, begun_of, pieces_of
from ggufscope.container.leftovers import ledger_name, leftovers
from ggufscope.container.partial import PartialFile
from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Value
from ggufscope.recipes import apply, resume
from ggufscope.recipes import jobs as jobs_module
from ggufscope.recipes.apply import Progress, Result, quantize_model
from ggufscope.recipes.imatrix_file import read_imatrix
from ggufscope.recipes.jobs import Job
from tests.program import run
from tests.recipes import golden

PRESETS = golden.load("stories")["presets"]
SHA = {preset: PRESETS[preset]["sha256"] for preset in ("Q8_0", "Q4_K_M")}
TYPES = ",".join(SHA)


@pytest.fixture(autouse=True)
def saved_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each job on the disk before the next: the sample takes less than a second in all."""
    monkeypatch.setattr(resume, "EVERY", 0.0)
    monkeypatch.setattr(resume, "_SHARE", 0)


@pytest.fixture
def model(sample: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sample, tmp_path / "stories-f16.gguf"))


@pytest.fixture
def targets(tmp_path: Path) -> dict[Path, str]:
    return {tmp_path / f"{preset}.gguf": preset for preset in SHA}


class Ended(BaseException):
    """What a signal raises."""


def after(jobs: int) -> Callable[[Progress], None]:
    """End a run when so many jobs are done."""
    count = 0

    def progress(_: Progress) -> None:
        nonlocal count
        count += 1
        if count > jobs:
            raise Ended

    return progress


def begin(source: Path, targets: dict[Path, str], jobs: int = 12, **options: Any) -> None:
    with pytest.raises(Ended):
        quantize_model(source, targets, threads=1, resume=True, progress=after(jobs - 1), **options)


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """What jobs are done from now on: tensor, first row, and how many types."""
    jobs: list[tuple[str, int, int]] = []
    work = jobs_module.run

    def noted(job: Job) -> Any:
        jobs.append((job.tensor, job.first_row, len(job.outputs)))
        return work(job)

    monkeypatch.setattr(apply, "run_job", noted)
    return jobs


def whole(targets: dict[Path, str]) -> bool:
    """Whether all is written as it ought to be, and nothing else is left."""
    for path, preset in targets.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA[preset], preset
    (folder,) = {path.parent for path in targets}
    return not [path.name for path in folder.iterdir() if path.name.startswith(".")]


def finish(source: Path, targets: dict[Path, str], **options: Any) -> list[Result]:
    return quantize_model(source, targets, threads=1, resume=True, **options)


def test_a_run_goes_on_where_it_was_ended(
    model: Path, targets: dict[Path, str], tmp_path: Path, done: list[tuple[str, int, int]]
) -> None:
    whole_run = quantize_model(model, {tmp_path / p: p for p in SHA}, threads=1)
    every = list(done)
    for path in SHA:
        (tmp_path / path).unlink()
    done.clear()
    begin(model, targets, jobs=12)
    assert len(done) == 12
    seen: list[Progress] = []
    results = finish(model, targets, progress=seen.append)
    assert whole(targets)
    assert done == every
    assert len(seen) == len(every)  # what was there counts at once
    assert seen[-1].done == seen[-1].total
    assert [r.costs for r in results] == [r.costs for r in whole_run]


_KILLED = """
import os
import ggufscope.recipes.apply as apply, ggufscope.recipes.resume as resume
resume.EVERY, resume._SHARE = 0.0, 0
enter, left = apply._Work.enter, {jobs}
def counted(self, *arguments):
    global left
    enter(self, *arguments)
    left -= 1
    if not left:
        os.kill(os.getpid(), {number})
apply._Work.enter = counted
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_in_the_middle(
    number: signal.Signals, model: Path, tmp_path: Path, done: list[tuple[str, int, int]]
) -> None:
    folder = tmp_path / "out"
    words = ["quantize", model, "--types", TYPES, "-o", folder, "--resume"]
    for jobs in (9, 10):
        killed = run(*words, before=_KILLED.format(jobs=jobs, number=int(number)))
        assert killed.returncode == (-number if number == signal.SIGKILL else 128 + number)
        assert not [path for path in folder.iterdir() if not path.name.startswith(".")]
        if number == signal.SIGINT:
            assert "interrupted: what is done of " in killed.stderr
            assert "\nhint: --resume goes on from it" in killed.stderr
    targets = {folder / f"stories-{preset}.gguf": preset for preset in SHA}
    finish(model, targets)
    assert whole(targets)
    assert len(done) == 39 - 9 - 10


def test_without_it_nothing_is_kept(model: Path, targets: dict[Path, str]) -> None:
    with pytest.raises(Ended):
        quantize_model(model, targets, progress=after(9))
    assert [*model.parent.iterdir()] == [model]


def test_a_run_without_it_begins_anew(
    model: Path, targets: dict[Path, str], done: list[tuple[str, int, int]]
) -> None:
    begin(model, targets)
    done.clear()
    quantize_model(model, targets)
    assert len(done) == 39
    assert whole(targets)


def test_before_the_first_job_there_is_nothing_to_keep(
    model: Path, targets: dict[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise errors.TargetUnwritable("no room")

    monkeypatch.setattr(apply, "run_job", full)
    with pytest.raises(errors.TargetUnwritable):
        finish(model, targets)
    assert [*model.parent.iterdir()] == [model]


def test_targets_are_gone_on_with_alone_or_with_others(
    model: Path, targets: dict[Path, str], done: list[tuple[str, int, int]]
) -> None:
    one, two = targets
    begin(model, {one: targets[one]}, jobs=20)
    begin(model, targets, jobs=20)  # 20 of the second, of which the first has no need
    done.clear()
    finish(model, {two: targets[two]})
    assert len(done) == 19
    assert [path.name for path in leftovers(one)]
    finish(model, {one: targets[one]})
    assert len(done) == 2 * 19
    assert whole(targets)


@pytest.mark.parametrize("overwrite", [False, True])
def test_ended_between_two_names(
    overwrite: bool,
    model: Path,
    targets: dict[Path, str],
    monkeypatch: pytest.MonkeyPatch,
    done: list[tuple[str, int, int]],
) -> None:
    if overwrite:
        for path in targets:
            path.write_bytes(b"GGUF, the old file")
    commit = PartialFile.commit
    named: list[Path] = []

    def second_fails(self: PartialFile) -> None:
        if named:
            raise Ended
        commit(self)
        named.append(self.target)

    monkeypatch.setattr(PartialFile, "commit", second_fails)
    with pytest.raises(Ended):
        finish(model, targets, overwrite=overwrite)
    monkeypatch.setattr(PartialFile, "commit", commit)
    before = named[0].stat()
    done.clear()
    results = finish(model, targets, overwrite=overwrite)
    assert done == []
    assert named[0].stat() == before
    assert whole(targets)
    assert all(result.costs for result in results)
    with pytest.raises(errors.TargetExists):
        finish(model, targets)


# ---- what a ledger is worth ----


def _spoilt(ledger: Path, how: str) -> None:
    data = ledger.read_bytes()
    lines = data.splitlines(keepends=True)
    spoilt: dict[str, bytes] = {
        "cut in a line": data[:-7],
        "zeros at its end": b"".join(lines[:-3]) + bytes(4096),
        "cut in the first line": lines[0][:-9],
        "empty": b"",
        "one line": lines[0],
        "a line twice": b"".join([*lines, lines[-1]]),
        "strangers' lines": b"".join([lines[0], b'["a"]\n[[],{},0,0,0,0]\n7\n"x"\n', *lines[1:]]),
        "a nest": lines[0] + b"[" * 60_000 + b"\n" + b"".join(lines[1:]),
        "a long line": lines[0] + b'"' + b"x" * (1 << 17) + b'"\n' + b"".join(lines[1:]),
        "a number of many digits": lines[0] + b"9" * 10_000 + b"\n" + b"".join(lines[1:]),
        "no object first": b"[]\n" + b"".join(lines[1:]),
    }
    ledger.write_bytes(spoilt[how])


@pytest.mark.parametrize(
    ("how", "lost"),
    [
        ("cut in a line", 1),
        ("zeros at its end", 3),
        ("cut in the first line", 12),
        ("empty", 12),
        ("one line", 12),
        ("a line twice", 0),
        ("strangers' lines", 0),
        ("a nest", 12),
        ("a long line", 12),
        ("a number of many digits", 12),
        ("no object first", 12),
    ],
)
def test_a_ledger_is_what_its_whole_lines_say(
    how: str, lost: int, model: Path, tmp_path: Path, done: list[tuple[str, int, int]]
) -> None:
    targets = {tmp_path / "out.gguf": "Q8_0"}
    begin(model, targets)
    _spoilt(ledger_name(tmp_path / "out.gguf"), how)
    done.clear()
    begin(model, targets, jobs=12 - lost + 5)  # those that are left are told of, and 5 more done
    assert len(done) == 5
    (result,) = finish(model, targets)
    assert whole(targets)
    assert len(done) == 39 - 12 + lost
    sizes = {tensor.name: tensor.n_elements for tensor in result.plan.tensors if tensor.converted}
    assert {name: cost.n for name, cost in result.costs.items()} == sizes


def test_a_line_is_written_after_its_bytes(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.gguf"
    events: list[tuple[str, int]] = []
    sync, enter = os.fsync, apply._Work.enter

    def synced(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        sync(descriptor)
        events.append((name.rpartition(".")[2], len(list(pieces_of(target)))))

    def entered(self: Any, job: Job, *arguments: Any) -> None:
        events.append(("job", len(list(pieces_of(target)))))
        enter(self, job, *arguments)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(apply._Work, "enter", entered)
    finish(model, {target: "Q8_0"})
    jobs = 0
    secured = 0
    for what, pieces in events:
        if what == "job":
            jobs += 1
        elif what == "partial":
            secured = jobs
        assert pieces <= secured
    assert secured == 39


def test_a_disk_that_fills(
    model: Path,
    targets: dict[Path, str],
    monkeypatch: pytest.MonkeyPatch,
    done: list[tuple[str, int, int]],
) -> None:
    write, left = write_at, 20

    def full(file: Any, offset: int, data: memoryview) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(28, "No space left on device")
        write(file, offset, data)

    monkeypatch.setattr(partial, "write_at", full)
    with pytest.raises(errors.TargetUnwritable, match="No space left"):
        finish(model, targets)
    monkeypatch.setattr(partial, "write_at", write)
    first = len(done) - 1
    assert first > 5
    finish(model, targets)
    assert whole(targets)
    assert len(done) == 39 + 1


def test_a_ledger_that_cannot_be_written_ends_the_run(
    model: Path, targets: dict[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = Ledger.flush

    def full(self: Ledger) -> None:
        if self.pieces == 7:
            raise OSError(28, "No space left on device")
        flush(self)

    monkeypatch.setattr(Ledger, "flush", full)
    with pytest.raises(errors.TargetUnwritable, match="No space left"):
        finish(model, targets)
    monkeypatch.setattr(Ledger, "flush", flush)
    finish(model, targets)
    assert whole(targets)


# ---- what is not gone on with ----


def _touched(model: Path) -> None:
    later = model.stat().st_mtime_ns + 3 * 10**9
    os.utime(model, ns=(later, later))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("source", "another source, or that was changed"),
        ("type", "another choice of types, metadata or options"),
        ("metadata", "another choice of types, metadata or options"),
        ("matrix", "another importance matrix"),
        ("buffer", "another --max-buffer-size"),
        ("version", "another version of ggufscope"),
    ],
)
def test_another_run_is_refused(
    what: str, said: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.gguf"
    begin(model, {target: "Q8_0"})
    before = {path: path.read_bytes() for path in [ledger_name(target), *leftovers(target)]}
    options: dict[str, Any] = {}
    if what == "source":
        _touched(model)
    elif what == "metadata":
        options["overrides"] = {"general.name": Value.of(ValueType.STRING, "another")}
    elif what == "matrix":
        monkeypatch.setattr(resume, "_of_matrix", lambda _: [b"another"])
    elif what == "buffer":
        options["buffer_bytes"] = 1 << 20
    elif what == "version":
        monkeypatch.setattr(resume, "__version__", "0.0.1")
    with pytest.raises(errors.NotResumable, match=said) as caught:
        finish(model, {target: "Q4_0" if what == "type" else "Q8_0"}, **options)
    assert str(target) in caught.value.message
    assert "without --resume" in caught.value.hint
    assert {path: path.read_bytes() for path in before} == before
    quantize_model(model, {target: "Q8_0"}, **{k: v for k, v in options.items() if k[0] == "b"})
    assert whole({target: "Q8_0"})


def test_a_matrix_is_known_by_its_numbers(sample: Path) -> None:
    path = sample.parent.parent / "tests" / "golden" / "imatrix" / "stories.gguf"
    matrix = read_imatrix(path)
    first = next(iter(matrix.entries.values()))
    before = resume._digest(resume._of_matrix(matrix))
    first.sums.flags.writeable = True
    first.sums.flat[0] += 1
    assert resume._digest(resume._of_matrix(matrix)) != before


def test_a_source_that_was_moved_is_the_same(model: Path, targets: dict[Path, str]) -> None:
    begin(model, targets)
    elsewhere = model.parent / "moved" / "model.gguf"
    elsewhere.parent.mkdir()
    model.rename(elsewhere)
    finish(elsewhere, targets)
    assert whole(targets)


def test_two_do_not_go_on_with_one_target(model: Path, tmp_path: Path) -> None:
    targets = {tmp_path / "out.gguf": "Q8_0"}

    def another(progress: Progress) -> None:
        with pytest.raises(errors.TargetBusy):
            finish(model, targets)

    begin(model, targets)
    finish(model, targets, progress=another)
    assert whole(targets)


@pytest.mark.parametrize("size", [0, 5000])
def test_a_file_that_was_cut_is_not_gone_on_with(
    size: int, model: Path, targets: dict[Path, str]
) -> None:
    """What is not there would read as zeros."""
    begin(model, targets)
    (folder,) = {path.parent for path in targets}
    for path in folder.glob(".*.partial"):
        os.truncate(path, size)
    with pytest.raises(errors.NotResumable, match=r"cannot be resumed: .* has") as caught:
        finish(model, targets)
    assert "without --resume" in (caught.value.hint or "")
    quantize_model(model, targets, threads=1)
    assert whole(targets)


def test_where_the_file_is_gone_it_begins_anew(
    model: Path, tmp_path: Path, done: list[tuple[str, int, int]]
) -> None:
    target = tmp_path / "out.gguf"
    begin(model, {target: "Q8_0"})
    for path in leftovers(target):
        path.unlink()
    assert begun_of(target)
    done.clear()
    finish(model, {target: "Q8_0"})
    assert len(done) == 39
    assert whole({target: "Q8_0"})


@pytest.mark.parametrize("what", ["ledger", "partial"])
def test_links_are_not_followed(what: str, model: Path, tmp_path: Path) -> None:
    target, victim = tmp_path / "out.gguf", tmp_path / "victim"
    begin(model, {target: "Q8_0"})
    bait = ledger_name(target) if what == "ledger" else leftovers(target)[0]
    bait.rename(victim)
    said = victim.read_bytes()
    bait.symlink_to(victim)
    with pytest.raises(errors.TargetUnwritable):
        finish(model, {target: "Q8_0"})
    assert victim.read_bytes() == said
