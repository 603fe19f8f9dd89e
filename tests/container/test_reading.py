"""Reading is held to the `gguf` package: the same metadata, the same tensors, the same bytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from ggufscope import errors
from ggufscope.blocks.layouts import LAYOUTS
from ggufscope.container.file import open_gguf
from ggufscope.container.header import read_header
from ggufscope.container.values import Array
from tests.models.makers import RECIPES, write_recipe

_VALUES: dict[str, tuple[str, Any]] = {
    "k.u8": ("add_uint8", 200),
    "k.i8": ("add_int8", -100),
    "k.u16": ("add_uint16", 60_000),
    "k.i16": ("add_int16", -30_000),
    "k.u32": ("add_uint32", 2**32 - 1),
    "k.i32": ("add_int32", -(2**31)),
    "k.u64": ("add_uint64", 2**64 - 1),
    "k.i64": ("add_int64", -(2**63)),
    "k.f32": ("add_float32", 1.5),
    "k.f64": ("add_float64", 1e300),
    "k.bool": ("add_bool", True),
    "k.string": ("add_string", "Grüße, 世界 \x1b[31m"),
    "k.strings": ("add_array", ["", "a", "ß" * 300]),
    "k.ints": ("add_array", [1, -2, 3]),
    "k.floats": ("add_array", [0.5, -1.5]),
    "k.bools": ("add_array", [True, False]),
}


def _write_all_types(path: Path, endianess: gguf.GGUFEndian) -> Path:
    writer = gguf.GGUFWriter(path, "llama", endianess=endianess)
    for key, (add, value) in _VALUES.items():
        getattr(writer, add)(key, value)
    rng = np.random.default_rng(3)
    writer.add_tensor("f32", rng.standard_normal((2, 3)).astype(np.float32))
    writer.add_tensor("f16", rng.standard_normal(5).astype(np.float16))
    writer.add_tensor("i8", np.arange(7, dtype=np.int8).reshape(1, 7, 1))
    for name in ("Q8_0", "Q4_K"):
        layout = LAYOUTS[name]
        raw = rng.integers(0, 256, (2, 2, layout.block_bytes), dtype=np.uint8)
        writer.add_tensor(name, raw.reshape(2, -1), raw_dtype=gguf.GGMLQuantizationType[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _theirs(field: gguf.ReaderField) -> Any:
    return field.contents()


def _assert_same(path: Path) -> None:
    theirs = gguf.GGUFReader(path)
    with open_gguf(path) as ours:
        for key, field in theirs.fields.items():
            if key.startswith("GGUF."):
                continue
            value = ours.metadata[key]
            assert (list(value) if isinstance(value, Array) else value) == _theirs(field), key
        assert len(ours.metadata) == sum(not k.startswith("GGUF.") for k in theirs.fields)
        assert list(ours.tensors) == [tensor.name for tensor in theirs.tensors]
        for tensor in theirs.tensors:
            found = ours.tensors[tensor.name]
            assert found.info.dims == tuple(int(n) for n in tensor.shape)
            assert found.type.number == tensor.tensor_type
            assert found.offset == tensor.data_offset
            assert found.nbytes == tensor.n_bytes
            raw = path.read_bytes()[found.offset : found.offset + found.nbytes]
            assert bytes(found.data()) == raw
            assert found.blocks().tobytes() == raw


@pytest.mark.parametrize("kind", RECIPES)
def test_models_read_as_gguf_py_reads_them(kind: str, make: Callable[[str], Path]) -> None:
    _assert_same(make(kind))


@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
def test_every_value_type_in_both_byte_orders(endian: str, tmp_path: Path) -> None:
    path = _write_all_types(tmp_path / "types.gguf", gguf.GGUFEndian[endian])
    _assert_same(path)
    with open_gguf(path) as file:
        assert {key: _plain(file.metadata[key]) for key in _VALUES} == {
            key: pytest.approx(value) if key == "k.floats" else value
            for key, (_, value) in _VALUES.items()
        }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, Array) else value


def test_blocks_are_a_view_with_fields_by_name(tmp_path: Path) -> None:
    path = _write_all_types(tmp_path / "types.gguf", gguf.GGUFEndian.LITTLE)
    with open_gguf(path) as file:
        blocks = file.tensor("Q4_K").blocks()
        assert blocks.shape == (2, 2)
        assert blocks["qs"].shape == (2, 2, 128)
        assert not blocks.flags.owndata
        assert not blocks.flags.writeable
        assert file.tensor("i8").blocks().shape == (1, 7, 1)


def test_views_outlive_the_file(make: Callable[[str], Path]) -> None:
    with open_gguf(make("llama-gqa")) as file:
        weights = file.tensor("token_embd.weight").blocks()
        total = weights.sum()
    assert weights.sum() == total


def test_a_tensor_that_is_not_there(make: Callable[[str], Path]) -> None:
    with open_gguf(make("llama-gqa")) as file, pytest.raises(errors.NotInModel, match="attn_z"):
        file.tensor("attn_z")


class _Slow:
    """A source that counts what it is asked for, as one over a network would."""

    name = "slow"

    def __init__(self, data: bytes) -> None:
        self.data, self.size, self.asked = data, len(data), 0

    def read(self, start: int, stop: int) -> bytes:
        assert start == self.asked, "nothing is read twice"
        self.asked = stop
        return self.data[start:stop]


def test_a_header_is_read_without_the_data_and_nothing_twice(
    make: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ggufscope.container.walk._FIRST_READ", 16)
    path = make("llama-gqa")
    source = _Slow(path.read_bytes())
    header = read_header(source)
    assert header.tensors == open_gguf(path).header.tensors
    assert source.asked < 2 * header.data_offset < source.size


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("missing.gguf", errors.SourceNotFound),
        (".", errors.NotAFile),
        ("model.gguf/inside", errors.SourceNotFound),
        ("pipe", errors.NotAFile),
        ("nul\0byte", errors.SourceUnreadable),
        ("n" * 300, errors.SourceUnreadable),
    ],
)
def test_paths_that_are_no_files(path: str, kind: type[Exception], tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(kind):
        open_gguf(tmp_path / path)


def test_a_directory_hints_at_the_models_in_it(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(errors.NotAFile) as caught:
        open_gguf(tmp_path)
    assert "model.gguf" in caught.value.hint


def _split(tmp_path: Path) -> list[Path]:
    """A model in three shards, as the `gguf` package splits it."""
    recipe = RECIPES["llama-gqa"]()
    write_recipe(tmp_path / "model.gguf", recipe, split_max_tensors=12)
    paths = sorted(tmp_path.glob("model-0*.gguf"))
    assert len(paths) == 3
    return paths


@pytest.mark.parametrize("entry", range(3))
def test_shards_open_as_one_from_any_of_them(entry: int, tmp_path: Path) -> None:
    whole = open_gguf(write_recipe(tmp_path / "whole.gguf", RECIPES["llama-gqa"]()))
    file = open_gguf(_split(tmp_path)[entry])
    assert [shard.source.path.name for shard in file.shards] == [
        f"model-0000{n}-of-00003.gguf" for n in (1, 2, 3)
    ]
    assert file.metadata["llama.block_count"] == 3
    assert set(file.tensors) == set(whole.tensors)
    for name, tensor in whole.tensors.items():
        assert bytes(file.tensors[name].data()) == bytes(tensor.data())


def _lose(paths: list[Path]) -> None:
    paths[1].unlink()


def test_missing_shards_are_counted(tmp_path: Path) -> None:
    first, second, third = _split(tmp_path)
    for lost, said in (
        (third, f"{third.name} of the 3 shards of this model is not in "),
        (second, f"{second.name} and 1 more of the 3 shards of this model are not in "),
    ):
        lost.unlink()
        with pytest.raises(errors.ShardMissing, match=said):
            open_gguf(first)


def _double(paths: list[Path]) -> None:
    paths[1].write_bytes(paths[2].read_bytes())


def _rename(paths: list[Path]) -> None:
    paths[0].rename(paths[0].with_name("renamed.gguf"))


@pytest.mark.parametrize(
    ("harm", "kind", "entry"),
    [
        (_lose, errors.ShardMissing, "model-00001-of-00003.gguf"),
        (_double, errors.ShardMismatch, "model-00001-of-00003.gguf"),
        (_rename, errors.ShardMismatch, "renamed.gguf"),
    ],
)
def test_shards_that_do_not_fit(
    harm: Callable[[list[Path]], None], kind: type[Exception], entry: str, tmp_path: Path
) -> None:
    harm(_split(tmp_path))
    with pytest.raises(kind) as caught:
        open_gguf(tmp_path / entry)
    assert isinstance(caught.value, errors.ShardError)
    assert caught.value.hint
