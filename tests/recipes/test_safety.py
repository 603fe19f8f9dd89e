"""Whatever happens, there is the old state or the complete file, and the source is untouched."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ggufscope import errors
from ggufscope.blocks.layouts import layout_named
from ggufscope.container.file import open_gguf
from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Value
from ggufscope.container.writer import GGUFWriter, TensorSpec
from ggufscope.recipes.apply import Progress, quantize_model
from ggufscope.recipes.files import default_target
from tests.oracles import llama_cpp_reads
from tests.recipes import golden
from tests.slices import write_slice

ROOT = Path(__file__).parent.parent.parent
SHA_Q8 = golden.load("stories")["presets"]["Q8_0"]["sha256"]


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def _the_source_is_never_touched(sample: Path) -> Iterator[None]:
    before = sample.stat()
    yield
    after = sample.stat()
    assert (after.st_mtime_ns, after.st_size, after.st_ino) == (
        before.st_mtime_ns,
        before.st_size,
        before.st_ino,
    )


def test_several_types_in_one_run_are_those_of_several_runs(sample: Path, tmp_path: Path) -> None:
    targets = {tmp_path / f"{preset}.gguf": preset for preset in ("Q8_0", "Q4_K_M", "Q2_K", "COPY")}
    seen: list[Progress] = []
    results = quantize_model(sample, targets, progress=seen.append)
    for path, preset in targets.items():
        assert _sha(path) == golden.load("stories")["presets"][preset]["sha256"]
    assert seen[-1].done == seen[-1].total == results[0].plan.source_nbytes
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert results[3].costs == {}
    assert 0.005 < max(c.relative for c in results[0].costs.values()) < 0.01


def test_the_result_does_not_depend_on_threads_or_slabs(sample: Path, tmp_path: Path) -> None:
    small = write_slice(tmp_path / "small.gguf", "mixtral")  # of fewer rows, each a slab
    for kind, threads, buffer_bytes in (
        *(("mixtral", 1, 1), ("mixtral", 5, 1)),
        *(("stories", 2, 100_000), ("stories", 5, 1 << 30)),
    ):
        target = tmp_path / "out.gguf"
        source = small if kind == "mixtral" else sample
        quantize_model(
            source, {target: "Q8_0"}, threads=threads, buffer_bytes=buffer_bytes, overwrite=True
        )
        assert _sha(target) == golden.load(kind)["presets"]["Q8_0"]["sha256"]


def test_jobs_run_in_other_processes(sample: Path, tmp_path: Path) -> None:
    with ProcessPoolExecutor(2) as pool:
        quantize_model(sample, {tmp_path / "out.gguf": "Q8_0"}, executor=pool)
    assert _sha(tmp_path / "out.gguf") == SHA_Q8


def test_the_source_may_be_several_shards(sample: Path, tmp_path: Path) -> None:
    targets = {tmp_path / "split.gguf": "COPY"}
    (result,) = quantize_model(sample, targets, split_max_size=2_000_000)
    assert len(result.paths) > 2
    assert all(path.stat().st_size < 2_100_000 for path in result.paths)
    quantize_model(result.paths[1], {tmp_path / "out.gguf": "Q8_0"})
    assert _sha(tmp_path / "out.gguf") == SHA_Q8


@pytest.mark.parametrize("link", ["same", "dots", "symlink", "hardlink"])
def test_the_source_is_refused_as_target(link: str, sample: Path, tmp_path: Path) -> None:
    source = tmp_path / "model.gguf"
    source.write_bytes(sample.read_bytes())
    target = tmp_path / "link.gguf"
    if link == "symlink":
        target.symlink_to(source)
    elif link == "hardlink":
        target.hardlink_to(source)
    else:
        target = source if link == "same" else tmp_path / "x" / ".." / "model.gguf"
        (tmp_path / "x").mkdir()
    before = _sha(source)
    with pytest.raises(errors.TargetIsSource):
        quantize_model(source, {target: "Q8_0"}, overwrite=True)
    assert _sha(source) == before


def test_targets_that_are_refused(sample: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "there.gguf").write_bytes(b"old")
    for target, kind in (
        (tmp_path, errors.TargetNotAFile),
        (tmp_path / "pipe", errors.TargetNotAFile),
        (Path(os.devnull), errors.TargetNotAFile),
        (tmp_path / "there.gguf", errors.TargetExists),
        (tmp_path / "there.gguf" / "x.gguf", errors.TargetUnwritable),
    ):
        with pytest.raises(kind):
            quantize_model(sample, {target: "Q8_0"}, overwrite=kind is not errors.TargetExists)
    (tmp_path / "x").mkdir()
    with pytest.raises(errors.TargetTwice):
        quantize_model(
            sample, {tmp_path / "a.gguf": "Q8_0", tmp_path / "x" / ".." / "a.gguf": "Q2_K"}
        )
    (tmp_path / "x").rmdir()
    assert (tmp_path / "there.gguf").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pipe", "there.gguf"]


def test_room_is_looked_at_first(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ggufscope.recipes.files.free_bytes", lambda directory: 1000)
    with pytest.raises(errors.NoRoom, match="1,000 bytes free"):
        quantize_model(sample, {tmp_path / "out.gguf": "Q8_0"})
    assert list(tmp_path.iterdir()) == []


def _model(
    path: Path, rows: np.ndarray, alignment: int = 32, also: tuple[int, ...] | None = None
) -> Path:
    number = Value.of(ValueType.UINT32, 1)
    metadata = {
        "general.architecture": Value.of(ValueType.STRING, "llama"),
        "general.alignment": Value.of(ValueType.UINT32, alignment),
        **{f"llama.{key}": number for key in ("block_count", "attention.head_count")},
        "llama.embedding_length": number,
    }
    contents = {"blk.0.attn_q.weight": rows}
    if also is not None:
        contents["blk.0.attn_v.weight"] = np.ones(also, np.float32)
    specs = [TensorSpec(name, data.shape, layout_named("F32")) for name, data in contents.items()]
    with GGUFWriter(path, metadata, specs) as writer:
        for name, data in contents.items():
            writer.write(name, data)
    return path


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_names_tensor_and_row(bad: float, tmp_path: Path) -> None:
    rows = np.ones((300, 256), np.float32)
    rows[277, 13] = bad
    source = _model(tmp_path / "bad.gguf", rows)
    with pytest.raises(errors.NonFiniteWeight, match=r"'blk\.0\.attn_q\.weight' .* row 277"):
        quantize_model(source, {tmp_path / "out.gguf": "Q4_K_M"}, buffer_bytes=256 * 4 * 100)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.gguf"]


def test_huge_numbers_are_no_infinities(tmp_path: Path) -> None:
    source = _model(tmp_path / "huge.gguf", np.full((4, 256), 3e38, np.float32))
    quantize_model(source, {tmp_path / "out.gguf": "BF16"})
    assert open_gguf(tmp_path / "out.gguf").tensor("blk.0.attn_q.weight").type.name == "BF16"


def test_a_source_that_shrinks_stops_the_run(sample: Path, tmp_path: Path) -> None:
    source = tmp_path / "model.gguf"
    source.write_bytes(sample.read_bytes())

    def shrink(progress: Progress) -> None:
        os.truncate(source, 100_000)

    with pytest.raises(errors.SourceChanged, match="was replaced or changed"):
        quantize_model(
            source, {tmp_path / "out.gguf": "Q8_0"}, threads=1, buffer_bytes=1, progress=shrink
        )
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


def test_a_disk_that_fills_up_leaves_nothing(sample: Path, tmp_path: Path) -> None:
    code = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
import ggufscope.cli.app as app
sys.argv = ["ggufscope", "quantize", *sys.argv[1:]]
app.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, sample, tmp_path / "out.gguf", "Q8_0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path}/out.gguf cannot be written: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("model-f16.gguf", "model-Q4_K_M.gguf"),
        ("model.gguf", "model-Q4_K_M.gguf"),
        ("model-BF16-00001-of-00003.gguf", "model-Q4_K_M.gguf"),
        ("Llama-3-8B.gguf", "Llama-3-8B-Q4_K_M.gguf"),
        ("f16.gguf", "f16-Q4_K_M.gguf"),
    ],
)
def test_default_targets(source: str, target: str) -> None:
    assert default_target(Path("d") / source, "Q4_K_M") == Path("d") / target
    assert default_target(Path("d") / source, "Q4_K_M", Path("o")) == Path("o") / target


def _llama_cpp_reads_the_result(source: Path, target: Path) -> None:
    quantize_model(source, {target: "Q8_0"})
    assert llama_cpp_reads(source)
    assert llama_cpp_reads(target)


def test_data_is_laid_out_at_the_alignment_that_the_file_says(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).standard_normal((3, 32)).astype(np.float32)
    source = _model(tmp_path / "wide.gguf", rows, alignment=128, also=(5, 32))
    _llama_cpp_reads_the_result(source, tmp_path / "out.gguf")
    with open_gguf(tmp_path / "out.gguf") as file:
        assert file.header.alignment == 128
        assert [tensor.info.offset for tensor in file.tensors.values()] == [0, 128]


@pytest.mark.parametrize("empty", [(0, 32), (5, 0), (2, 0, 32), (0, 5, 32), (0,)])
def test_extents_of_zero_are_kept(empty: tuple[int, ...], tmp_path: Path) -> None:
    source = _model(tmp_path / "empty.gguf", np.ones((3, 32), np.float32), also=empty)
    _llama_cpp_reads_the_result(source, tmp_path / "out.gguf")
    assert open_gguf(tmp_path / "out.gguf").tensor("blk.0.attn_v.weight").shape == empty


def test_an_executor_that_was_lent_can_be_used_again(sample: Path, tmp_path: Path) -> None:
    bad = np.full((2, 256), np.nan, np.float32)
    with ThreadPoolExecutor(2) as pool:
        with pytest.raises(errors.NonFiniteWeight):
            quantize_model(
                _model(tmp_path / "bad.gguf", bad), {tmp_path / "x.gguf": "Q8_0"}, executor=pool
            )
        quantize_model(sample, {tmp_path / "out.gguf": "Q8_0"}, executor=pool)
        assert pool.submit(len, "ab").result() == 2
    assert _sha(tmp_path / "out.gguf") == SHA_Q8
