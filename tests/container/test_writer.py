from __future__ import annotations

import os
import resource
import signal
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ggufscope import errors
from ggufscope.blocks.layouts import LAYOUTS, Layout, layout_named
from ggufscope.container.file import open_gguf
from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Value
from ggufscope.container.writer import GGUFWriter, TensorSpec
from tests.container.test_values import typed_values
from tests.models.makers import RECIPES, pair, raw_gguf, tensor, text
from tests.oracles import llama_cpp_reads

F32 = layout_named("F32")


def _copy(source: Path, target: Path) -> None:
    with open_gguf(source) as file, GGUFWriter.copy_of(file, target) as writer:
        for each in file.tensors.values():
            writer.write(each.name, each.data())


@pytest.mark.parametrize("kind", RECIPES)
def test_a_copy_is_identical(kind: str, make: Callable[[str], Path], tmp_path: Path) -> None:
    source = make(kind)
    _copy(source, tmp_path / "copy.gguf")
    assert (tmp_path / "copy.gguf").read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    "data",
    [
        raw_gguf([pair("k", 4, struct.pack("<I", 7))], version=2),
        raw_gguf([pair("nan", 6, struct.pack("<I", 0x7F800001))]),
        raw_gguf([pair(b"\xff", 8, text(b"\xfe"))], [tensor(b"\xfd")], bytes(128)),
        raw_gguf([], [tensor("fork", (7,), 199), tensor("t", offset=64)], bytes(64 + 128)),
        raw_gguf(
            [pair("general.alignment", 4, struct.pack("<I", 8))],
            [tensor("t", (2, 3))],
            bytes(24),
            alignment=8,
        ),
    ],
    ids=["version 2", "nan", "no utf-8", "foreign type", "alignment 8"],
)
def test_a_copy_of_an_odd_file_is_identical(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "odd.gguf").write_bytes(data)
    _copy(tmp_path / "odd.gguf", tmp_path / "copy.gguf")
    assert (tmp_path / "copy.gguf").read_bytes() == data


def test_a_copy_of_a_big_endian_file_is_identical(tmp_path: Path) -> None:
    source = tmp_path / "big.gguf"
    writer = gguf.GGUFWriter(source, "llama", endianess=gguf.GGUFEndian.BIG)
    writer.add_array("strings", ["a", "bc"])
    writer.add_tensor("t", np.arange(40, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    _copy(source, tmp_path / "copy.gguf")
    assert (tmp_path / "copy.gguf").read_bytes() == source.read_bytes()


@st.composite
def _specs(draw: st.DrawFn) -> TensorSpec:
    layout = draw(st.sampled_from([LAYOUTS[name] for name in ("F32", "F16", "I8", "Q8_0", "Q4_K")]))
    outer = draw(st.lists(st.integers(0, 3), max_size=3))
    shape = (*outer, draw(st.integers(0, 2)) * layout.block_length)
    return TensorSpec(draw(st.text(min_size=1, max_size=15)), shape, layout)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.text(min_size=1, max_size=10), typed_values(), max_size=5),
    st.lists(_specs(), max_size=5, unique_by=lambda spec: spec.name),
    st.randoms(use_true_random=False),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    metadata: dict[str, tuple[Value, Any]],
    specs: list[TensorSpec],
    random: Any,
) -> None:
    path = tmp_path_factory.mktemp("round") / "trip.gguf"
    values = {k: v for k, (v, _) in metadata.items() if k != "general.alignment"}
    contents = {spec.name: random.randbytes(spec.nbytes) for spec in specs}
    with GGUFWriter(path, values, specs) as writer:
        for name, data in random.sample(sorted(contents.items()), len(contents)):
            middle = random.randint(0, len(data))
            writer.write(name, data[:middle])
            writer.write(name, data[middle:])
    assert path.stat().st_size == writer.nbytes
    with open_gguf(path) as file:
        assert {k: (v.type, bytes(v.raw)) for k, v in file.metadata.typed.items()} == {
            k: (v.type, bytes(v.raw)) for k, v in values.items()
        }
        assert [TensorSpec.like(t) for t in file.tensors.values()] == specs
        assert {name: bytes(t.data()) for name, t in file.tensors.items()} == contents
        assert not file.warnings()


def _write_one(path: Path, *, overwrite: bool = False) -> None:
    specs = [TensorSpec("w", (2, 3), F32), TensorSpec("empty", (0, 5), F32)]
    metadata = {"general.architecture": Value.of(ValueType.STRING, "llama")}
    with GGUFWriter(path, metadata, specs, overwrite=overwrite) as writer:
        writer.write("w", np.arange(6, dtype=np.float32).reshape(2, 3))


def test_gguf_py_and_llama_cpp_read_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "ours.gguf"
    _write_one(path)
    assert llama_cpp_reads(path)
    reader = gguf.GGUFReader(path)
    assert reader.fields["general.architecture"].contents() == "llama"
    assert reader.tensors[0].data.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_the_mode_is_what_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        _write_one(tmp_path / "ours.gguf")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "ours.gguf").stat().st_mode) == 0o640


def test_an_existing_file_is_kept_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "there.gguf"
    path.write_bytes(b"old")
    with pytest.raises(errors.TargetExists):
        _write_one(path)
    assert path.read_bytes() == b"old"
    _write_one(path, overwrite=True)
    assert llama_cpp_reads(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_of_the_old_file_keeps_it(make: Callable[[str], Path]) -> None:
    path = make("llama-gqa")
    with open_gguf(path) as file:
        weights = file.tensor("output.weight").blocks()
        before = weights.tobytes()
        _write_one(path, overwrite=True)
        assert weights.tobytes() == before


def test_an_error_inside_leaves_the_old_state(tmp_path: Path) -> None:
    path = tmp_path / "there.gguf"
    path.write_bytes(b"old")
    writing = GGUFWriter(path, {}, [TensorSpec("w", (2,), F32)], overwrite=True)
    with pytest.raises(TypeError), writing as writer:
        writer.write("w", 5)  # type: ignore[arg-type]  # the error that is wanted
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("there.gguf", b"old")]


@pytest.mark.parametrize("nbytes", [0, 4, 12])
def test_too_few_or_too_many_bytes(nbytes: int, tmp_path: Path) -> None:
    with (
        pytest.raises(errors.IncompleteTensor, match=f"'w' takes 8 bytes, .*{nbytes}"),
        GGUFWriter(tmp_path / "w.gguf", {}, [TensorSpec("w", (2,), F32)]) as writer,
    ):
        writer.write("w", bytes(nbytes))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_leaves_nothing(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, limits[1]))
    try:
        with (
            pytest.raises(errors.TargetUnwritable, match=r"big\.gguf"),
            GGUFWriter(tmp_path / "big.gguf", {}, [TensorSpec("w", (1 << 20,), F32)]),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there_is_made(tmp_path: Path) -> None:
    _write_one(tmp_path / "new" / "deep" / "w.gguf")
    assert (tmp_path / "new" / "deep" / "w.gguf").is_file()
    with pytest.raises(errors.TargetUnwritable):  # a file where a directory is needed
        _write_one(tmp_path / "new" / "deep" / "w.gguf" / "w.gguf")


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (TensorSpec("n" * 64, (1,), F32), errors.TensorNameTooLong),
        (TensorSpec("w", (1, 1, 1, 1, 1), F32), errors.TooManyDimensions),
        (TensorSpec("w", (48,), LAYOUTS["Q4_0"]), errors.RaggedRow),
        (TensorSpec("w", (2**40, 2**40), F32), errors.ShapeOverflow),
    ],
)
def test_tensors_that_no_reader_takes(
    spec: TensorSpec, kind: type[Exception], tmp_path: Path
) -> None:
    with pytest.raises(kind):
        GGUFWriter(tmp_path / "w.gguf", {}, [spec])


def test_names_that_no_reader_takes(tmp_path: Path) -> None:
    twice = [TensorSpec("w", (1,), F32)] * 2
    with pytest.raises(errors.DuplicateTensor):
        GGUFWriter(tmp_path / "w.gguf", {}, twice)
    with pytest.raises(errors.EmptyKey):
        GGUFWriter(tmp_path / "w.gguf", {"": Value.of(ValueType.UINT8, 1)}, [])
    with pytest.raises(errors.BadAlignment):
        GGUFWriter(tmp_path / "w.gguf", {"general.alignment": Value.of(ValueType.UINT32, 7)}, [])


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_blocks_of_every_type_go_through(layout: Layout, tmp_path: Path) -> None:
    raw = np.random.default_rng(5).integers(0, 256, 6 * layout.block_bytes, dtype=np.uint8)
    blocks = raw.view(layout.dtype).reshape(3, 2)
    spec = TensorSpec("w", (3, 2 * layout.block_length), layout)
    with GGUFWriter(tmp_path / "w.gguf", {}, [spec]) as writer:
        writer.write("w", blocks[:1])
        writer.write("w", blocks[1:])
    assert open_gguf(tmp_path / "w.gguf").tensor("w").blocks().tobytes() == raw.tobytes()


def _damage(writer: GGUFWriter) -> None:
    with writer:
        writer.write("name", bytes(8))
        path = Path(writer.region("name").file.path)
        path.write_bytes(path.read_bytes().replace(b"name", b"gone"))


def test_a_file_that_reads_back_otherwise_does_not_get_its_name(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "w.gguf", {}, [TensorSpec("name", (2,), F32)])
    with pytest.raises(errors.TargetCorrupt, match=r"w\.gguf"):
        _damage(writer)
    assert list(tmp_path.iterdir()) == []
