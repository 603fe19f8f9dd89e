"""A file and its tensors in the hand: shown at a prompt, as an array, and closed."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ggufscope import errors
from ggufscope.blocks.codec import quantize
from ggufscope.blocks.layouts import ForeignType, layout_named
from ggufscope.container.file import open_gguf
from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Value
from ggufscope.container.writer import GGUFWriter, TensorSpec

F32, Q8_0 = layout_named("F32"), layout_named("Q8_0")
METADATA = {"general.architecture": Value.of(ValueType.STRING, "llama")}
WEIGHTS = np.linspace(-1, 1, 2 * 3 * 32, dtype=np.float32).reshape(2, 3, 32)


def _write(path: Path) -> Path:
    specs = [
        TensorSpec("full", WEIGHTS.shape, F32),
        TensorSpec("small", WEIGHTS.shape, Q8_0),
        TensorSpec("one", (), F32),
        TensorSpec("none", (0, 32), Q8_0),
        TensorSpec("odd", (4,), ForeignType("type 99", 99), 4),
    ]
    with GGUFWriter(path, METADATA, specs) as writer:
        writer.write("full", WEIGHTS)
        writer.write("small", quantize(WEIGHTS, "Q8_0"))
        writer.write("one", np.float32(7).tobytes())
        writer.write("odd", b"1234")
    return path


def test_a_tensor_is_an_array_of_its_weights(tmp_path: Path) -> None:
    with open_gguf(_write(tmp_path / "model.gguf")) as file:
        full = np.asarray(file.tensor("full"))
        assert full.dtype == np.float32
        assert (full == WEIGHTS).all()
        small = np.asarray(file.tensor("small"))
        assert small.shape == WEIGHTS.shape
        assert np.abs(small - WEIGHTS).max() < 1 / 127
        assert np.asarray(file.tensor("one")) == np.float32(7)
        assert np.asarray(file.tensor("one")).shape == ()
        assert np.asarray(file.tensor("none")).shape == (0, 32)
        assert np.asarray(file.tensor("small"), np.float16).dtype == np.float16
        assert np.array(file.tensor("small"), copy=True).shape == WEIGHTS.shape
        assert float(np.mean(file.tensor("full"))) == pytest.approx(0, abs=1e-6)
        with pytest.raises(ValueError, match="copy"):
            np.array(file.tensor("full"), copy=False)
        with pytest.raises(errors.UnknownType):
            np.asarray(file.tensor("odd"))


def test_big_endian_weights_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "big.gguf"
    with GGUFWriter(path, METADATA, [TensorSpec("w", WEIGHTS.shape, F32)], order=">") as writer:
        writer.write("w", WEIGHTS.astype(">f4"))
    with open_gguf(path) as file:
        assert (np.asarray(file.tensor("w")) == WEIGHTS).all()


def test_what_a_prompt_shows_is_a_line(make: Callable[[str], Path]) -> None:
    path = make("llama-gqa")
    with open_gguf(path) as file:
        tensor = file.tensor("blk.0.attn_q.weight")
        assert repr(tensor) == f"Tensor('blk.0.attn_q.weight', F32, shape={tensor.shape})"
        assert repr(file) == f"GGUFFile({str(path)!r}, {len(file.tensors)} tensors)"
        shown = (file, tensor, tensor.shard, file.header, file.metadata, tensor.shard.source)
        assert all(len(repr(each)) < 80 + len(str(path)) for each in shown)
        assert len(repr(file.tensors)) < 120 * len(file.tensors)
    assert repr(file) == f"GGUFFile({str(path)!r}, closed)"


def test_a_closed_file_says_so(make: Callable[[str], Path]) -> None:
    path = make("llama-gqa")
    file = open_gguf(path)
    tensor = file.tensor("token_embd.weight")
    _ = tensor.data()
    file.close()
    file.close()
    for use in (
        lambda: file.tensor("token_embd.weight"),
        lambda: file.tensors,
        lambda: file.metadata,
        lambda: file.header,
        lambda: file.shards,
        lambda: file.nbytes,
        file.require_unchanged,
        file.warnings,
        tensor.data,
        tensor.blocks,
        lambda: np.asarray(tensor),
    ):
        with pytest.raises(errors.FileClosed, match=r"gqa\.gguf is closed"):
            use()
    assert file.path == path


def test_closing_unmaps_the_file(make: Callable[[str], Path]) -> None:
    file = open_gguf(make("llama-gqa"))
    source = file.shards[0].source
    view = file.tensor("token_embd.weight").data()
    mapped = source._map
    assert isinstance(mapped, mmap.mmap)
    assert not mapped.closed
    del view
    file.close()
    assert mapped.closed
