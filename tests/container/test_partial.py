from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from ggufscope.container import partial
from ggufscope.container.leftovers import leftovers
from ggufscope.container.partial import PartialFile
from ggufscope.errors import TargetBusy


def test_a_file_under_way_is_hidden_until_it_is_committed(tmp_path: Path) -> None:
    target = tmp_path / "model.gguf"
    file = PartialFile(target, 10)
    file.write_at(3, memoryview(b"abc"))
    assert not target.exists()
    file.commit()
    file.discard()
    assert target.read_bytes() == b"\0\0\0abc\0\0\0\0"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(ValueError, match="under way"):
        file.write_at(0, memoryview(b"x"))


def test_two_do_not_write_one_target(tmp_path: Path) -> None:
    first = PartialFile(tmp_path / "model.gguf", 4)
    with pytest.raises(TargetBusy, match=r"model\.gguf"):
        PartialFile(tmp_path / "model.gguf", 4)
    first.write_at(0, memoryview(b"kept"))
    first.commit()
    assert (tmp_path / "model.gguf").read_bytes() == b"kept"


def _die_writing(target: Path) -> None:
    file = PartialFile(target, 100)
    file.write_at(0, memoryview(b"x" * 100))
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    target = tmp_path / "model.gguf"
    child = multiprocessing.get_context("spawn").Process(target=_die_writing, args=(target,))
    child.start()
    child.join()
    assert list(tmp_path.iterdir()) == leftovers(target)
    assert len(leftovers(target)) == 1
    file = PartialFile(target, 5)
    assert leftovers(target) == [file.path]
    file.commit()
    assert target.read_bytes() == bytes(5)
    assert list(tmp_path.iterdir()) == [target]


def test_a_signal_just_when_it_was_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(partial, "lock", interrupted)
    monkeypatch.setattr(partial, "REMOVED", [])
    target = tmp_path / "new" / "model.gguf"
    with pytest.raises(KeyboardInterrupt):
        PartialFile(target, 1)
    assert list(tmp_path.iterdir()) == []
    assert [target] == partial.REMOVED


def test_a_name_of_full_length_has_a_temporary_one(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 255)
    PartialFile(target, 1).commit()
    assert target.read_bytes() == b"\0"
