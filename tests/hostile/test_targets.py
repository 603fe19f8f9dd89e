"""What is written, and what never is: links, devices, models that are read, files of others."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from ggufscope import errors
from ggufscope.container import partial
from ggufscope.container.leftovers import leftovers
from ggufscope.container.partial import PartialFile
from ggufscope.container.target import check_target
from ggufscope.recipes.apply import Progress, quantize_model
from tests.program import refused, run

SECRET = b"the key of a stranger's victim"


@pytest.fixture
def model(sample: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sample, tmp_path / "model-f16.gguf"))


@pytest.mark.parametrize("link", ["symlink", "hardlink", "dangling", "pipe", "folder"])
@pytest.mark.parametrize(
    "name", [".model-Q8_0.gguf.partial", ".model-Q8_0.gguf.0123456789abcdef.partial"]
)
def test_what_lies_under_a_temporary_name_is_not_followed(
    name: str, link: str, model: Path, tmp_path: Path
) -> None:
    victim, bait = tmp_path / "key", tmp_path / name
    victim.write_bytes(SECRET)
    before = model.read_bytes()
    {
        "symlink": lambda: bait.symlink_to(victim),
        "hardlink": lambda: bait.hardlink_to(victim),
        "dangling": lambda: bait.symlink_to(tmp_path / "made"),
        "pipe": lambda: os.mkfifo(bait),
        "folder": lambda: bait.mkdir(),
    }[link]()
    done = run("quantize", model, "Q8_0")
    assert done.returncode == 0, done.stderr
    assert victim.read_bytes() == SECRET
    assert model.read_bytes() == before
    assert not (tmp_path / "made").exists()
    target = tmp_path / "model-Q8_0.gguf"
    assert target.lstat().st_nlink == 1
    assert stat.S_ISREG(target.lstat().st_mode)
    assert os.path.lexists(bait)  # it is not this program's to remove


def test_the_name_it_is_about_to_take_cannot_be_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Even one who could foretell the name gains nothing by a link under it.
    victim, bait = tmp_path / "key", tmp_path / ".out.bin.0000000000000000.partial"
    victim.write_bytes(SECRET)
    bait.symlink_to(victim)
    monkeypatch.setattr(partial, "temporary_name", lambda _: bait)
    with pytest.raises(errors.TargetUnwritable):
        PartialFile(tmp_path / "out.bin", 100)
    assert victim.read_bytes() == SECRET


def test_a_job_writes_only_into_the_file_it_was_told(tmp_path: Path) -> None:
    victim = tmp_path / "key"
    victim.write_bytes(SECRET)
    file = PartialFile(tmp_path / "out.bin", 100)
    place = file.under_way
    with place.opened() as write:
        write(0, memoryview(b"good"))
    file.path.unlink()
    for replaced in (file.path.hardlink_to, file.path.symlink_to):
        replaced(victim)
        with pytest.raises(errors.TargetUnwritable), place.opened() as write:
            write(0, memoryview(b"evil"))
        file.path.unlink()
    with (
        pytest.raises(errors.TargetUnwritable, match="temporary file was removed"),
        place.opened() as write,
    ):
        write(0, memoryview(b"evil"))
    with pytest.raises(errors.TargetUnwritable, match="temporary file was removed"):
        file.commit()
    assert victim.read_bytes() == SECRET
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_leftovers_of_others_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out.bin"
    left = tmp_path / ".out.bin.0123456789abcdef.partial"
    left.write_bytes(b"another user's")
    monkeypatch.setattr(os, "geteuid", lambda: left.stat().st_uid + 1)
    PartialFile(target, 1).commit()
    assert leftovers(target) == [left]
    monkeypatch.undo()
    PartialFile(target, 1, overwrite=True).commit()
    assert leftovers(target) == []


def test_a_new_target_is_an_ordinary_file(tmp_path: Path) -> None:
    target, plain = tmp_path / "out.bin", tmp_path / "plain"
    before = os.umask(0o027)
    try:
        PartialFile(target, 1).commit()
        plain.write_bytes(b"")
    finally:
        os.umask(before)
    assert target.stat().st_mode == plain.stat().st_mode
    assert target.stat().st_uid == os.geteuid()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_a_private_target_stays_private(mode: int, tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    target.write_bytes(b"old")
    target.chmod(mode)
    file = PartialFile(target, 1, overwrite=True)
    assert stat.S_IMODE(file.path.stat().st_mode) == mode  # while it grows, too
    file.commit()
    assert stat.S_IMODE(target.stat().st_mode) == mode


def test_a_target_that_appears_while_it_is_written_is_kept(model: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"

    def appear(_: Progress) -> None:
        target.write_bytes(SECRET)

    with pytest.raises(errors.TargetExists, match="appeared while it was written"):
        quantize_model(model, {target: "Q8_0"}, progress=appear)
    assert target.read_bytes() == SECRET
    assert leftovers(target) == []


def test_it_is_kept_without_hard_links_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / "out.bin"
    PartialFile(target, 3).commit()
    assert target.read_bytes() == bytes(3)
    target.unlink()
    file = PartialFile(target, 3)
    target.write_bytes(SECRET)
    with pytest.raises(errors.TargetExists):
        file.commit()
    assert target.read_bytes() == SECRET
    assert leftovers(target) == []


def test_force_on_a_link_replaces_what_it_points_to(model: Path, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    there, link = tmp_path / "far" / "there.gguf", tmp_path / "link.gguf"
    there.write_bytes(b"old")
    link.symlink_to(there)
    quantize_model(model, {link: "Q8_0"}, overwrite=True)
    assert link.is_symlink()
    assert there.read_bytes()[:4] == b"GGUF"


def test_force_on_a_device_is_refused(model: Path, tmp_path: Path) -> None:
    # As root, whom CI may be, a link to the system's own /dev/stdout would have been replaced.
    link = tmp_path / "out.gguf"
    for device in (os.devnull, "/dev/stdout", "/dev/fd/1", "/dev/zero"):
        link.unlink(missing_ok=True)
        link.symlink_to(device)
        for target in (device, link):
            refused(run("quantize", model, target, "Q8_0", "--force"), str(target), "regular file")
        assert link.is_symlink()
        assert not stat.S_ISREG(os.lstat(device).st_mode)
    link.unlink()
    link.symlink_to(tmp_path / "nowhere")
    refused(run("quantize", model, link, "Q8_0", "--force"), "not there")


@pytest.mark.parametrize(
    ("command", "option"),
    [("attention", "--html"), ("attention", "--save"), ("compare-attention", "--html")],
)
@pytest.mark.parametrize("by", ["name", "symlink", "hardlink", "prompt"])
def test_what_is_read_is_never_written(
    by: str, command: str, option: str, model: Path, tmp_path: Path
) -> None:
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("Once upon a time")
    link = tmp_path / "link"
    if by == "symlink":
        link.symlink_to(model)
    elif by == "hardlink":
        link.hardlink_to(model)
    before = model.read_bytes()
    target = {"name": model, "prompt": prompt}.get(by, link)
    words = [command, model, "--prompt-file", prompt, option, target, "--force"]
    refused(run(*words), "is a file that is read")
    assert model.read_bytes() == before
    assert prompt.read_text() == "Once upon a time"


def test_a_second_model_is_never_written_either(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    quantize_model(model, {other: "Q8_0"})
    before = other.read_bytes()
    words = ["--against", other, "--ids", "1,2", "--html", other, "--force"]
    refused(run("compare-attention", model, *words), "is a file that is read")
    assert other.read_bytes() == before


@pytest.mark.parametrize("option", ["--html", "--save"])
def test_the_next_run_removes_what_a_killed_one_left(
    option: str, model: Path, tmp_path: Path
) -> None:
    target = tmp_path / "result"
    killed = "import os, ggufscope.container.partial as p\n" + (
        "p.PartialFile.commit = lambda self: os.kill(os.getpid(), 9)\n"
    )
    words: list[str | Path] = ["attention", model, "--prompt", "Once", option, target]
    assert run(*words, before=killed).returncode == -9
    assert len(leftovers(target)) == 1
    assert run(*words).returncode == 0
    assert leftovers(target) == []
    assert target.stat().st_size > 1000


def test_a_target_that_is_checked_is_the_one_that_is_meant(tmp_path: Path) -> None:
    there, link = tmp_path / "there", tmp_path / "link"
    there.write_bytes(b"")
    link.symlink_to(there)
    assert check_target(link, overwrite=True) == there.resolve()
