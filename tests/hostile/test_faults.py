"""The old file or the whole new one, whatever ends a command; and nothing else is left."""

from __future__ import annotations

import os
import shutil
import signal
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ggufscope import Edits, edit_model, errors, open_gguf
from ggufscope.container import journal, partial
from ggufscope.container.journal import Change, settle
from ggufscope.container.leftovers import journal_name
from ggufscope.recipes.apply import quantize_model
from tests.documents import SAMPLE
from tests.hostile.faults import WRITERS, Writer, digest, ended, moments, steps_of
from tests.program import refused, run, start

SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
TURNS = 10
"""Cases of each command and signal, and moments of each."""
EACH = 3
LAST = 900
"""Steps at the end of a change in place that have its writing among them."""


@cache
def known(name: str) -> tuple[int, str]:
    """How many steps a command takes, and the digest of what it writes when nobody ends it."""
    writer = WRITERS[name]
    with TemporaryDirectory() as folder:
        source, target = writer.files(SAMPLE, Path(folder))
        steps = steps_of(writer.words(source, target), Path(folder) / "note")
        return steps, digest(target)


@pytest.mark.parametrize("turn", range(TURNS))
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("name", WRITERS)
def test_ended_at_any_step(
    name: str,
    number: signal.Signals,
    turn: int,
    sample: Path,
    tmp_path: Path,
) -> None:
    writer, (steps, whole) = WRITERS[name], known(name)
    for moment in moments(f"{name} {number} {turn}", steps, EACH):
        source, target = writer.files(sample, tmp_path)
        before, status = digest(target), source.stat()
        words = writer.words(source, target)
        code, complaint = ended(words, number, moment)
        assert "Traceback" not in complaint, (moment, complaint)
        assert code in (0, -number if number == signal.SIGKILL else 128 + number)
        names = writer.left(tmp_path)
        if number != signal.SIGKILL:
            assert names == {source.name, target.name}, moment
        torn = is_torn(target)
        assert not (torn and number != signal.SIGKILL), moment
        states = (before, whole)
        assert torn or digest(target) in states or writer.under_way(target), moment
        if not writer.changes_its_source:
            assert (source.stat().st_mtime_ns, digest(source)) == (
                status.st_mtime_ns,
                digest(sample),
            )
        assert run(*words).returncode == 0  # the next run, which cleans up
        assert digest(target) == whole
        assert {path.name for path in tmp_path.iterdir()} == {source.name, target.name}


def is_torn(path: Path) -> bool:
    try:
        journal.require_settled(path)
    except errors.HalfEdited:
        return True
    return False


@pytest.mark.parametrize("count", [10, pytest.param(30, marks=pytest.mark.slow)])
def test_within_a_change_in_place(count: int, sample: Path, tmp_path: Path) -> None:
    """Its last steps, evenly: the moments of which there are few among all."""
    writer, (steps, whole) = WRITERS["edit in place"], known("edit in place")
    states = set()
    for step in range(steps - LAST, steps + 1, LAST // count):
        source, target = writer.files(sample, tmp_path)
        words = writer.words(source, target)
        ended(words, signal.SIGKILL, step)
        left = digest(target)
        states.add("torn" if is_torn(target) else "new" if left == whole else "old")
        assert is_torn(target) or left in (whole, digest(sample)), step
        assert run(*words).returncode == 0
        assert digest(target) == whole
        assert [*tmp_path.iterdir()] == [target]
    assert states == {"old", "torn", "new"}


_FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
"""


@pytest.mark.parametrize("limit", [0, 100, 20_000, 40_000, 1_000_000])
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk(name: str, limit: int, sample: Path, tmp_path: Path) -> None:
    writer = WRITERS[name]
    source, target = writer.files(sample, tmp_path)
    before = digest(source), digest(target)
    words = writer.words(source, target)
    done = run(*words, before=_FULL.format(limit=limit))
    if done.returncode:
        lines = done.stderr.splitlines()
        assert done.returncode == 2
        assert [line.split(":")[0] for line in lines if line[:4] != "note"] == ["error", "hint"]
        assert (digest(source), digest(target)) == before
    else:
        assert limit > 40_000  # where all that it writes fits, be it a header and a journal of it
        assert name in {"edit in place", "imatrix"}
    assert {path.name for path in tmp_path.iterdir()} == {source.name, target.name}


_UNREADABLE = """
import io, os
import ggufscope.container.source as source
left = {reads}
class Failing(io.FileIO):
    def readinto(self, buffer):
        global left
        left -= 1
        if left < 0:
            raise OSError(5, "Input/output error")
        return super().readinto(buffer)
source.FileIO = Failing
def refuse(*arguments):
    raise OSError(5, "Input/output error")
os.copy_file_range = refuse
"""


@pytest.mark.parametrize("reads", [0, 1, 2, 3, 5, 8])
@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_cannot_be_read(name: str, reads: int, sample: Path, tmp_path: Path) -> None:
    writer = WRITERS[name]
    source, target = writer.files(sample, tmp_path)
    before = digest(source), digest(target)
    done = run(*writer.words(source, target), before=_UNREADABLE.format(reads=reads))
    if done.returncode:
        assert done.returncode == 2
        (said,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert "cannot be read at byte" in said
        assert (digest(source), digest(target)) == before
    else:
        assert reads >= 2  # and no more reading was needed
    assert writer.left(tmp_path) == {source.name, target.name}


_SLOW = """
import os, pathlib, time
here, go = pathlib.Path({here!r}), pathlib.Path({go!r})
synced = os.fsync
def fsync(descriptor):
    synced(descriptor)
    here.touch()
    while not go.exists():
        time.sleep(0.01)
os.fsync = fsync
"""


@pytest.mark.parametrize("name", WRITERS)
def test_of_two_at_once_one_wins_whole(name: str, sample: Path, tmp_path: Path) -> None:
    folder, notes = tmp_path / "models", tmp_path / "notes"
    folder.mkdir()
    notes.mkdir()
    writer: Writer = WRITERS[name]
    source, target = writer.files(sample, folder)
    words = writer.words(source, target)
    slow = _SLOW.format(here=str(notes / "here"), go=str(notes / "go"))
    first = start(*words, before=slow)
    while not (notes / "here").exists():
        assert first.poll() is None
        os.sched_yield()
    second = run(*words, "-q")
    refused(second, "is being")
    assert str(target) in second.stderr
    (notes / "go").touch()
    _, complaint = first.communicate(timeout=60)
    assert first.returncode == 0, complaint
    assert {path.name for path in folder.iterdir()} == {source.name, target.name}
    won = digest(target)
    assert run(*words).returncode == 0
    assert digest(target) == won


# ---- what a killed change in place leaves ----


@pytest.fixture
def torn(sample: Path, tmp_path: Path) -> tuple[Path, Change, bytes]:
    """A model with half of a change, its journal beside it, and the whole new file."""
    model = Path(shutil.copy(sample, tmp_path / "model.gguf"))
    after = Path(shutil.copy(sample, tmp_path / "after.gguf"))
    old = model.read_bytes()
    edit_model(after, Edits(set={"general.name": "Talez"}))
    new = after.read_bytes()
    after.unlink()
    size = open_gguf(model).header.data_offset
    change = Change(0, old[:size], new[:size])
    half = 512 * (size // 1024)
    model.write_bytes(new[:half] + old[half:])
    journal_name(model).write_bytes(change.encode())
    return model, change, new


def test_nobody_takes_a_torn_file_for_a_model(torn: tuple[Path, Change, bytes]) -> None:
    model, _, _ = torn
    before = model.read_bytes()
    for words in (["list", model], ["quantize", model, "Q8_0"], ["edit", model, "x.gguf"]):
        done = run(*words, cwd=model.parent)
        refused(done, "an edit was killed")
        assert "`ggufscope edit` with this file finishes it" in done.stderr
    refused(run("edit", model, "--remove", "general.name", "--dry-run"), "an edit was killed")
    assert model.read_bytes() == before


def test_the_next_edit_finishes_it(torn: tuple[Path, Change, bytes]) -> None:
    model, _, new = torn
    done = run("edit", model)
    assert (done.returncode, done.stdout) == (0, "Nothing is different.\n")
    assert "is finished now" in done.stderr
    assert model.read_bytes() == new
    assert [*model.parent.iterdir()] == [model]
    refused(run("edit", model), "nothing is to be changed")


def test_so_does_whoever_writes_that_file(torn: tuple[Path, Change, bytes], sample: Path) -> None:
    model, _, new = torn
    with pytest.raises(errors.UnencodableValue):
        edit_model(model, Edits(set={"llama.block_count": -1}))
    assert model.read_bytes() == new  # finished, though what was asked for could not be done
    assert [*model.parent.iterdir()] == [model]


def test_replacing_it_makes_the_journal_needless(
    torn: tuple[Path, Change, bytes], sample: Path
) -> None:
    model, _, _ = torn
    quantize_model(sample, {model: "Q8_0"}, overwrite=True)
    assert [*model.parent.iterdir()] == [model]
    assert open_gguf(model).tensor("blk.0.attn_q.weight").type.name == "Q8_0"


@pytest.mark.parametrize("state", ["old", "new", "another file", "a shorter file"])
def test_a_journal_of_what_is_whole_is_removed(
    state: str, torn: tuple[Path, Change, bytes], sample: Path
) -> None:
    model, _, new = torn
    content = {
        "old": sample.read_bytes(),
        "new": new,
        "another file": bytes(range(1, 256)) * 1000,
        "a shorter file": new[:1000],
    }[state]
    model.write_bytes(content)
    journal.require_settled(model)
    assert settle(model) is False
    assert model.read_bytes() == content
    assert [*model.parent.iterdir()] == [model]


def test_a_journal_of_a_stranger_is_left(torn: tuple[Path, Change, bytes]) -> None:
    model, change, _ = torn
    before, there = model.read_bytes(), journal_name(model)
    aside = model.with_name("aside")
    aside.write_bytes(change.encode())
    damaged = change.encode()[:-1] + b"?"
    for spoil in (
        lambda: there.symlink_to(aside),
        lambda: there.hardlink_to(aside),
        lambda: os.mkfifo(there),
        lambda: there.write_bytes(damaged),
        lambda: there.write_bytes(b""),
    ):
        there.unlink()
        spoil()
        assert not is_torn(model)
        assert settle(model) is False
        assert model.read_bytes() == before
        assert os.path.lexists(there)


def test_a_change_that_fails_half_way_is_taken_back(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Path(shutil.copy(sample, tmp_path / "model.gguf"))

    def half(file: object, offset: int, data: bytes) -> None:
        journal.write_at(file, offset, data[: len(data) // 2])  # type: ignore[arg-type]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ggufscope.container.rewriting.write_at", half)
    with pytest.raises(errors.TargetUnwritable, match="No space left"):
        edit_model(model, Edits(set={"general.name": "Talez"}))
    assert model.read_bytes() == sample.read_bytes()
    assert [*tmp_path.iterdir()] == [model]


def test_a_file_that_is_replaced_meanwhile_is_said(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Path(shutil.copy(sample, tmp_path / "model.gguf"))

    def replaced(self: partial.PartialFile) -> None:
        committed(self)
        Path(shutil.copy(sample, tmp_path / "new")).replace(model)

    committed = partial.PartialFile.commit
    monkeypatch.setattr(partial.PartialFile, "commit", replaced)
    with pytest.raises(errors.SourceChanged, match="was replaced while it was changed"):
        edit_model(model, Edits(set={"general.name": "Talez"}))
    assert model.read_bytes() == sample.read_bytes()
    assert [*tmp_path.iterdir()] == [model]


def test_a_private_file_has_a_private_journal(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Path(shutil.copy(sample, tmp_path / "model.gguf"))
    model.chmod(0o600)
    seen = []

    def look(file: object, offset: int, data: bytes) -> None:
        seen.append(journal_name(model).stat().st_mode & 0o777)
        journal.write_at(file, offset, data)  # type: ignore[arg-type]

    monkeypatch.setattr("ggufscope.container.rewriting.write_at", look)
    edit_model(model, Edits(set={"general.name": "Talez"}))
    assert seen == [0o600]
    assert model.stat().st_mode & 0o777 == 0o600
