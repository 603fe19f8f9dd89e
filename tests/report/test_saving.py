"""Results in files: whole under their name, or not there at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ggufscope.container.target import check_target
from ggufscope.errors import TargetExists, TargetNotAFile, TargetUnwritable
from ggufscope.report.saving import ArraysFile, write_text


def test_arrays_are_what_numpy_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    arrays = {
        "ids": np.arange(3, dtype=np.int32),
        "kq_soft_max-0": np.random.default_rng(1).random((2, 3, 3), np.float32)[:, ::-1],
        "none": np.empty((0, 4), np.float32),
    }
    with ArraysFile(path, overwrite=False) as file:
        for name, array in arrays.items():
            file.add(name, array)
        assert not path.exists()
    with np.load(path, allow_pickle=False) as found:
        assert found.files == [*arrays]
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)
    assert [each.name for each in tmp_path.iterdir()] == ["a.npz"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"old")

    def fail() -> None:
        with ArraysFile(path, overwrite=True) as file:
            file.add("x", np.ones(3))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["a.npz"]


def test_text_is_utf_8_and_half_surrogates_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_text(path, "世界 \udce4", overwrite=False)
    assert path.read_bytes() == "世界 \\udce4".encode()


def test_what_cannot_be_written_is_known_before(tmp_path: Path) -> None:
    path = tmp_path / "a"
    check_target(path, overwrite=False)
    path.write_bytes(b"")
    check_target(path, overwrite=True)
    with pytest.raises(TargetExists):
        check_target(path, overwrite=False)
    with pytest.raises(TargetNotAFile):
        check_target(tmp_path, overwrite=True)
    with pytest.raises(TargetUnwritable):
        check_target(path / "b", overwrite=True)
    check_target(tmp_path / "none" / "b", overwrite=True)
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_made_and_goes_with_what_fails(tmp_path: Path) -> None:
    inside = tmp_path / "new" / "deep" / "a.npz"

    def fail(meanwhile: Path | None) -> None:
        with ArraysFile(inside, overwrite=False):
            if meanwhile is not None:
                meanwhile.touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail(None)
    assert list(tmp_path.iterdir()) == []
    other = inside.parent.parent / "other"
    with pytest.raises(ZeroDivisionError):
        fail(other)
    assert sorted(tmp_path.rglob("*")) == [other.parent, other]  # what is not ours stays
    write_text(inside, "x", overwrite=False)
    assert inside.read_text() == "x"


def test_a_directory_that_may_not_be_changed_is_known_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root, whom CI may be, may do anything
    with pytest.raises(TargetUnwritable, match="may not be changed"):
        check_target(tmp_path / "a", overwrite=False)
