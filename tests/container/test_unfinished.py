"""A file whose end is zeros, as a download leaves it that was given its room and not finished."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ggufscope.container.file import open_gguf
from ggufscope.container.source import read_into
from ggufscope.container.unfinished import require_finished
from ggufscope.errors import UnfinishedFile
from ggufscope.forward.transformer import Transformer
from ggufscope.measure.compare import compare
from ggufscope.recipes.apply import quantize_model
from tests.models.families import SMALL, write


def cut_off(source: Path, target: Path, tensor: str, more: int = 0) -> Path:
    """Copy a model with zeros in place of all bytes from a tensor (and ``more`` bytes) on."""
    raw = source.read_bytes()
    with open_gguf(source) as file:
        start = file.tensor(tensor).offset + more
    target.write_bytes(raw[:start] + bytes(len(raw) - start))
    return target


def test_the_first_of_them_is_named(sample: Path, tmp_path: Path) -> None:
    with open_gguf(sample) as file:
        names = list(file.tensors)
        require_finished(file)
    path = cut_off(sample, tmp_path / "m.gguf", names[-5])
    with open_gguf(path) as file, pytest.raises(UnfinishedFile) as caught:
        require_finished(file)
    assert caught.value.message == (
        f"{path}: every tensor from {names[-5]!r} on is zero, 5 of {len(names)}: "
        "an unfinished download?"
    )
    assert caught.value.hint


def test_where_it_broke_off_inside_a_tensor_the_next_is_named(sample: Path, tmp_path: Path) -> None:
    with open_gguf(sample) as file:
        names = list(file.tensors)
    path = cut_off(sample, tmp_path / "m.gguf", names[-5], more=2)
    with open_gguf(path) as file, pytest.raises(UnfinishedFile, match=repr(names[-4])):
        require_finished(file)


def test_in_a_split_model_the_shard_is_named(sample: Path, tmp_path: Path) -> None:
    (whole,) = quantize_model(sample, {tmp_path / "m.gguf": "COPY"}, split_max_size=1_500_000)
    second = whole.paths[1]
    raw = second.read_bytes()
    with open_gguf(second) as file:
        in_it = [t for t in file.tensors.values() if t.shard.source.path == second]
        start = in_it[-2].offset
    second.write_bytes(raw[:start] + bytes(len(raw) - start))
    with open_gguf(whole.paths[0]) as file, pytest.raises(UnfinishedFile) as caught:
        require_finished(file)
    assert caught.value.message.startswith(f"{second}: every tensor from {in_it[-2].name!r} on")
    assert f"2 of {len(in_it)}" in caught.value.message


def _zeroed(path: Path, *names: str) -> Path:
    """A small model, whose last tensors are a matrix and a norm, with some of them all zero."""
    tensors = SMALL["llama-gqa"].tensors()
    last = ("output.weight", "output_norm.weight")
    tensors |= {name: tensors.pop(name) for name in last}
    tensors |= {name: np.zeros_like(tensors[name]) for name in names}
    return write(path, SMALL["llama-gqa"], tensors)


@pytest.mark.parametrize(
    ("names", "sound"),
    [
        ((), True),
        (("output_norm.weight",), True),  # a vector may be zero
        (("output.weight",), True),  # something follows it that is not
        (("output_norm.weight", "output.weight"), False),
    ],
)
def test_a_matrix_must_be_among_them(names: tuple[str, ...], sound: bool, tmp_path: Path) -> None:
    with open_gguf(_zeroed(tmp_path / "m.gguf", *names)) as file:
        if sound:
            require_finished(file)
        else:
            with pytest.raises(UnfinishedFile, match=r"from 'output\.weight' on is zero, 2 of 30"):
                require_finished(file)


def test_rows_of_zeros_at_the_end_are_read_on(tmp_path: Path) -> None:
    """An embedding is often padded with rows of zeros, more than are looked at first."""
    small = SMALL["llama-gqa"]
    tensors = small.tensors()
    tensors["output.weight"] = tensors.pop("output.weight")
    tensors["output.weight"][1:] = 0
    with open_gguf(write(tmp_path / "m.gguf", small, tensors)) as file:
        require_finished(file)


def test_of_a_sound_file_no_more_than_an_end_is_read(
    sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def noted(path: Any, identity: Any, offset: int, buffer: memoryview, what: str) -> None:
        read.append(len(buffer))
        read_into(path, identity, offset, buffer, what)

    monkeypatch.setattr("ggufscope.container.file.read_into", noted)
    with open_gguf(sample) as file:
        require_finished(file)
    assert len(read) == 1
    assert read[0] <= 4096


def test_the_library_refuses_it_wherever_weights_are_read(sample: Path, tmp_path: Path) -> None:
    with open_gguf(sample) as file:
        last = list(file.tensors)[-4]
    path = cut_off(sample, tmp_path / "m.gguf", last)
    with pytest.raises(UnfinishedFile, match=last):
        quantize_model(path, {tmp_path / "out.gguf": "Q8_0"})
    assert not (tmp_path / "out.gguf").exists()
    with open_gguf(path) as file:
        with pytest.raises(UnfinishedFile, match=last):
            Transformer.of(file)
        with pytest.raises(UnfinishedFile, match=last):
            compare(file, [1, 2, 3], ["Q8_0"])
