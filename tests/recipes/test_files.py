"""Whole files: byte for byte what real llama-quantize wrote."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from ggufscope.container.file import open_gguf
from ggufscope.errors import RecipeError
from ggufscope.recipes.apply import quantize_model
from ggufscope.recipes.mixes import MIXES
from tests.recipes import golden
from tests.slices import SLICES, write_importance, write_slice


@pytest.fixture(scope="module", params=SLICES)
def slice_of(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A slice as a file, and its golden data."""
    path = write_slice(tmp_path_factory.mktemp("slice") / f"{request.param}.gguf", request.param)
    found = golden.load(request.param)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == found["source"]["sha256"]
    return path, found


def _assert_written(source: Path, data: Any, tmp_path: Path) -> tuple[int, int]:
    """Hold every preset to its golden file, all in one run; count files and refusals."""
    targets: dict[Path, str] = {}
    refused = 0
    for preset in MIXES:
        expected = data["presets"].get(preset)
        if expected is None:
            continue
        target = tmp_path / f"{preset}.gguf"
        if "refused" in expected:
            with pytest.raises(RecipeError):
                quantize_model(source, {target: preset})
            refused += 1
        else:
            targets[target] = preset
    quantize_model(source, targets)
    for target, preset in targets.items():
        expected = data["presets"][preset]
        with open_gguf(target) as file:
            digests = {
                (name, tensor.type.name): hashlib.sha256(tensor.data()).hexdigest()[:16]
                for name, tensor in file.tensors.items()
            }
        for (name, type_), digest in digests.items():
            assert digest == data["digests"][name][type_], f"{preset}: {name} as {type_}"
        assert target.stat().st_size == expected["nbytes"], preset
        assert hashlib.sha256(target.read_bytes()).hexdigest() == expected["sha256"], preset
    return len(targets), refused


def test_every_preset_of_every_slice(slice_of: Any, tmp_path: Path) -> None:
    source, data = slice_of
    written, refused = _assert_written(source, data, tmp_path)
    assert written + refused == len(data["presets"])
    assert written >= 1


def test_every_preset_of_the_sample(sample: Path, tmp_path: Path) -> None:
    written, _ = _assert_written(sample, golden.load("stories"), tmp_path)
    assert written >= 20


def test_every_preset_of_every_slice_with_an_importance_matrix(
    slice_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole files, stacks of experts among them; the matrix is named as it was given."""
    source, data = slice_of
    name = f"{source.stem}.imatrix"
    monkeypatch.chdir(tmp_path)
    write_importance(Path(name), source.stem)
    targets: dict[Path, str] = {}
    for preset, expected in data["with importance"].items():
        target = tmp_path / f"{preset}.gguf"
        if "refused" in expected:
            with pytest.raises(RecipeError):
                quantize_model(source, {target: preset}, imatrix=name)
            continue
        targets[target] = preset
    quantize_model(source, targets, imatrix=name)
    for target, preset in targets.items():
        expected = data["with importance"][preset]
        with open_gguf(target) as file:
            digests = {
                name: (tensor.type.name, hashlib.sha256(tensor.data()).hexdigest()[:16])
                for name, tensor in file.tensors.items()
            }
        for tensor, by_type in data.get("digests with importance", {}).items():
            type_, digest = digests[tensor]
            assert digest == by_type[type_], f"{preset}: {tensor} as {type_}"
        assert target.stat().st_size == expected["nbytes"], preset
        assert hashlib.sha256(target.read_bytes()).hexdigest() == expected["sha256"], preset
    assert targets
