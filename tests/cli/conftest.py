from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ggufscope.cli import app
from ggufscope.recipes.options import DEFAULTS, PlanOptions
from ggufscope.recipes.plan import TensorLike
from ggufscope.sizing import overview
from ggufscope.sizing.file_size import PresetSizes, preset_sizes
from ggufscope.sizing.shapes import SHAPES

Run = Callable[..., tuple[int, str, str]]
_KNOWN: dict[Any, PresetSizes] = {}


def _remembered(
    tensors: Iterable[TensorLike],
    metadata: Mapping[str, Any],
    presets: Sequence[str] = (),
    options: PlanOptions = DEFAULTS,
) -> PresetSizes:
    """Work out the sizes of a known shape once: most tests of `size` ask for the same few."""
    shape = next((each.name for each in SHAPES.values() if each.tensors is tensors), None)
    if shape is None or options != DEFAULTS:
        return preset_sizes(tensors, metadata, presets, options)
    key = shape, *presets
    if key not in _KNOWN:
        _KNOWN[key] = preset_sizes(tensors, metadata, presets)
    return _KNOWN[key]


@pytest.fixture(scope="session", autouse=True)
def sizes_worked_out_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overview, "preset_sizes", _remembered)
        yield


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run the program in this process; gives the exit code and what it printed."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ggufscope", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            app.main()
        printed = capsys.readouterr()
        text = "" if {"--json", "--markdown"} & {*arguments} else printed.out
        # A path is printed whole, and how long this folder's is differs from machine to machine.
        text = text.replace(f"{tmp_path}/", "")
        assert all(len(line) <= 80 for line in text.splitlines())
        return int(caught.value.code or 0), printed.out, printed.err

    return run
