"""A file that is kept open and read in pieces: its bytes, its identity, what is asked for."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ggufscope.container import source
from ggufscope.container.source import AHEAD, Identity, KeptOpen
from ggufscope.errors import SourceChanged

BYTES = bytes(range(256)) * 16


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "some"
    path.write_bytes(BYTES)
    return path


def opened(path: Path) -> KeptOpen:
    return KeptOpen(path, Identity.of(path.stat()))


def piece(file: KeptOpen, offset: int, size: int, **how: bool) -> bytes:
    data = bytearray(size)
    file.read_into(offset, memoryview(data), "tensor 'w'", **how)
    return bytes(data)


@pytest.mark.parametrize("missing", ["", "preadv", "posix_fadvise"])
def test_pieces_are_the_bytes_of_the_file(
    missing: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing:  # as on other systems
        monkeypatch.delattr(os, missing, raising=False)
    file = opened(path)
    for offset, size in ((0, 4096), (4095, 1), (100, 1000), (7, 0)):
        assert piece(file, offset, size) == BYTES[offset : offset + size]


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(BYTES)
    other.replace(path)


def _write_on(path: Path) -> None:
    os.utime(path, ns=(0, 0))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_replace, "was replaced or changed"),
        (_write_on, "was replaced or changed"),
        (lambda path: path.write_bytes(BYTES[:50]), "was replaced or changed"),
        (Path.unlink, "is no longer there"),
    ],
)
def test_a_change_is_noticed_by_the_next_piece(
    change: Callable[[Path], Any], said: str, path: Path
) -> None:
    file = opened(path)
    assert piece(file, 0, 10) == BYTES[:10]
    change(path)
    with pytest.raises(SourceChanged, match=said):
        piece(file, 20, 10)


def test_a_piece_beyond_the_end_is_named(path: Path) -> None:
    with pytest.raises(SourceChanged, match="ends inside tensor 'w', at byte 4,096"):
        piece(opened(path), 4090, 10)


def test_a_file_that_changed_before_is_not_opened(path: Path) -> None:
    identity = Identity.of(path.stat())
    _write_on(path)
    with pytest.raises(SourceChanged):
        KeptOpen(path, identity)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no advice")
def test_what_follows_is_asked_for_where_a_disk_is_slow(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _, at, size, __: asked.append((at, size)))
    now = iter(range(100))
    monkeypatch.setattr(source, "perf_counter", lambda: next(now))  # a second for each piece
    file = opened(path)
    piece(file, 100, 50)
    piece(file, 200, 50, ahead=False)
    assert asked == [(100 + AHEAD, 50)]
    monkeypatch.setattr(source, "perf_counter", lambda: 0.0)
    piece(file, 300, 50)
    assert len(asked) == 1


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="nothing lists what is open here")
def test_it_is_closed_with_the_last_reference(path: Path) -> None:
    def times_open() -> int:
        return sum(
            os.path.realpath(each) == str(path.resolve())
            for each in Path("/proc/self/fd").iterdir()
        )

    file = opened(path)
    assert times_open() == 1
    del file
    gc.collect()
    assert times_open() == 0
