"""The kernels, for each instruction set of this machine, held to the NumPy engine and to ggml."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from ggufscope.arrays import Blocks, Floats
from ggufscope.blocks import codec
from ggufscope.blocks.codec import CODECS
from ggufscope.blocks.kernels import INSTRUCTION_SETS, Kernels, build, load
from ggufscope.blocks.layouts import LAYOUTS, Layout
from ggufscope.errors import BadUsage
from tests.blocks.comparison import Tally
from tests.blocks.searched import TYPES
from tests.blocks.test_dequantize import random_blocks
from tests.blocks.test_importance import IMPORTANCES, WEIGHED, some_of_each_edge
from tests.blocks.test_importance import made_by_ggml as made_by_ggml_weighed
from tests.blocks.test_quantize import NAMES, X
from tests.blocks.test_quantize import made_by_ggml as edges_made_by_ggml
from tests.blocks.weights import finite_edges, other_edges, random_weights
from tests.oracles import ggml_quantize

MADE = [
    LAYOUTS[name]
    for name, codec in CODECS.items()
    if codec.quantize and name not in {"F32", *TYPES}  # test_searched.py has the latter
]
NUMBERS = {"F32", "F64", "I8", "I16", "I32", "I64"}  # NumPy reads these as fast as memory does
READ = [layout for name, layout in LAYOUTS.items() if name not in NUMBERS]
EDGES = dict(finite_edges()) | dict(other_edges())
BULK = random_weights(1_000_000)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the kernels of these very sources are: compiled now if they were not installed."""
    if load()[0]:
        return build.SOURCES
    if build.compiler() is None:
        pytest.skip("the kernels were not compiled, and there is no compiler")
    folder = tmp_path_factory.mktemp("kernels")
    build.build(folder)
    return folder


@pytest.fixture(params=INSTRUCTION_SETS)
def kernels(built: Path, request: pytest.FixtureRequest) -> Kernels:
    found, why_not = load(built)
    assert found, why_not
    if request.param not in found:
        pytest.skip(f"this processor does not run {request.param}")
    return found[request.param]


def made(kernels: Kernels, layout: Layout, x: Floats, importance: Floats | None = None) -> Blocks:
    out = np.zeros((len(x), x.shape[1] // layout.block_length), layout.dtype)
    kernels.quantize(layout, x, out, importance)
    return out


def read(kernels: Kernels, layout: Layout, blocks: Blocks) -> Floats:
    out = np.zeros((blocks.size, layout.block_length), np.float32)
    kernels.dequantize(layout, blocks, out)
    return out


@cache
def all_made_by_numpy(name: str) -> Blocks:
    layout = LAYOUTS[name]
    out = np.zeros((len(X), X.shape[1] // layout.block_length), layout.dtype)
    quantize = CODECS[name].quantize
    assert quantize is not None
    with np.errstate(all="ignore"):
        quantize(X, out, None)
    return out


def made_by_numpy(name: str, edge: str) -> Blocks:
    blocks: Blocks = all_made_by_numpy(name)[np.array(NAMES) == edge]
    return blocks


@cache
def made_by_ggml(name: str) -> Blocks:
    return ggml_quantize(BULK, LAYOUTS[name])


@cache
def blocks_to_read(name: str) -> tuple[Blocks, bytes]:
    layout = LAYOUTS[name]
    if layout.block_length == 1:
        raw = np.arange(1 << 16, dtype=np.uint16).view(np.uint8)  # every half, every bfloat
    else:
        raw = random_blocks(layout, 200_000 // layout.block_length, finite=False)
    blocks = np.ascontiguousarray(raw).reshape(-1).view(layout.dtype)
    weights = np.zeros((blocks.size, layout.block_length), np.float32)
    with np.errstate(all="ignore"):
        CODECS[name].dequantize(blocks, weights)
    return blocks, weights.tobytes()


def test_every_type_has_its_kernels(kernels: Kernels) -> None:
    assert [layout.name for layout in READ if not kernels.reads(layout)] == []
    assert [layout.name for layout in MADE if not kernels.makes(layout)] == []
    assert not kernels.makes(LAYOUTS["Q8_K"])
    assert not kernels.reads(LAYOUTS["I32"])


@pytest.mark.parametrize("layout", MADE, ids=lambda layout: layout.name)
def test_edges_are_made_as_ggml_makes_them(kernels: Kernels, layout: Layout) -> None:
    ours, theirs = made(kernels, layout, X), edges_made_by_ggml(layout, 0)
    differ = (ours.view(np.uint8) != theirs).any(axis=1)
    assert {NAMES[row] for row in np.flatnonzero(differ)} == set()


@pytest.mark.parametrize("layout", MADE, ids=lambda layout: layout.name)
def test_a_million_weights_are_made_as_ggml_makes_them(
    kernels: Kernels, layout: Layout, tally: Tally
) -> None:
    ours, theirs = made(kernels, layout, BULK), made_by_ggml(layout.name)
    way = f"made, {kernels.instruction_set}"
    assert tally.compare(layout.name, way, ours, theirs, layout.block_bytes) == []


@pytest.mark.parametrize("layout", READ, ids=lambda layout: layout.name)
def test_random_blocks_are_read_as_numpy_reads_them(kernels: Kernels, layout: Layout) -> None:
    blocks, expected = blocks_to_read(layout.name)
    assert read(kernels, layout, blocks).tobytes() == expected


@pytest.mark.parametrize("layout", MADE, ids=lambda layout: layout.name)
def test_a_few_blocks_are_made_and_read_as_among_others(kernels: Kernels, layout: Layout) -> None:
    x = BULK.reshape(-1)[: 70 * layout.block_length].reshape(-1, layout.block_length)
    blocks = made(kernels, layout, x)
    weights = read(kernels, layout, blocks)
    for count in (1, 2, 3, 5, 8, 17, 33, 69):
        assert made(kernels, layout, x[:count]).tobytes() == blocks[:count].tobytes()
        assert read(kernels, layout, blocks[:count]).tobytes() == weights[:count].tobytes()


def _refused(kernels: Kernels) -> Iterator[tuple[Floats, Blocks, Floats | None]]:
    x = np.zeros((2, 512), np.float32)
    out = np.zeros((2, 2), LAYOUTS["Q4_K"].dtype)
    yield x, out[:1], None
    yield x[:, :256], out[:, :1], None
    yield x[:, ::-1], out, None
    yield x.reshape(-1), out, None
    yield x, np.zeros((2, 2), LAYOUTS["Q5_K"].dtype), None
    yield x, out, np.ones(256, np.float32)
    yield x, out, np.ones(512)  # type: ignore[misc]  # not float32
    yield x, out, np.ones(1024, np.float32)[::2]


def test_what_does_not_fit_reaches_no_kernel(kernels: Kernels) -> None:
    for x, out, importance in _refused(kernels):
        with pytest.raises(ValueError, match="no kernel makes Q4_K"):
            kernels.quantize(LAYOUTS["Q4_K"], x, out, importance)
    blocks = np.zeros(4, LAYOUTS["Q4_K"].dtype)
    short: Floats = np.zeros((3, 256), np.float32)
    with pytest.raises(ValueError, match="no kernel reads Q4_K"):
        kernels.dequantize(LAYOUTS["Q4_K"], blocks, short)


def test_arrays_need_not_be_aligned(kernels: Kernels) -> None:
    room = np.zeros(4 * 1024 + 1, np.uint8)
    x = room[1:].view(np.float32).reshape(2, 512)
    x[...] = BULK.reshape(-1)[:1024].reshape(2, 512)
    for name in ("Q4_K", "Q8_0", "F16"):
        expected = made(kernels, LAYOUTS[name], x.copy())
        assert made(kernels, LAYOUTS[name], x).tobytes() == expected.tobytes()


def test_engines_are_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(codec.ENGINE_VARIABLE, "numpy")
    assert codec.engine() is codec.NUMPY
    monkeypatch.setenv(codec.ENGINE_VARIABLE, "fast")
    with pytest.raises(BadUsage, match="no engine is called 'fast'"):
        codec.engine()
    monkeypatch.delenv(codec.ENGINE_VARIABLE)
    assert codec.engine().name == ("compiled" if load()[0] else "numpy")


def test_where_there_are_no_kernels_numpy_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "load", lambda: ({}, "they were not compiled"))
    codec.engine_named.cache_clear()
    try:
        assert codec.engine_named("auto") is codec.NUMPY
        with pytest.raises(BadUsage, match="no compiled kernels: they were not compiled"):
            codec.engine_named("compiled")
    finally:
        codec.engine_named.cache_clear()


def test_what_no_kernel_does_is_done_in_numpy(kernels: Kernels) -> None:
    codecs = codec.compiled(kernels).codecs
    assert list(codecs) == list(CODECS)
    assert codecs["F32"].quantize is CODECS["F32"].quantize
    assert codecs["I32"].dequantize is CODECS["I32"].dequantize
    assert codecs["Q8_K"].missing == CODECS["Q8_K"].missing


@pytest.mark.parametrize("kind", IMPORTANCES)
@pytest.mark.parametrize("name", WEIGHED)
def test_edges_are_weighed_as_ggml_weighs_them(kernels: Kernels, name: str, kind: str) -> None:
    ours = made(kernels, LAYOUTS[name], some_of_each_edge(), IMPORTANCES[kind])
    assert ours.tobytes() == made_by_ggml_weighed(name, kind, "some of each")


@pytest.mark.parametrize("name", WEIGHED)
def test_rows_are_weighed_as_ggml_weighs_them(kernels: Kernels, name: str) -> None:
    layout = LAYOUTS[name]
    for rows, blocks in ((1, 1), (3, 5), (33, 1), (70, 2), (9, 35)):
        row = blocks * layout.block_length
        x = BULK.reshape(-1)[: rows * row].reshape(rows, row)
        importance = np.resize(IMPORTANCES["typical"], row)
        expected = ggml_quantize(x, layout, importance)
        assert made(kernels, layout, x, importance).tobytes() == expected.tobytes(), (rows, blocks)


@pytest.mark.parametrize("name", ["Q8_0", "TQ2_0", "MXFP4"])
def test_an_importance_changes_nothing_where_ggml_minds_none(kernels: Kernels, name: str) -> None:
    x, importance = BULK[:9].copy(), np.arange(256, dtype=np.float32)
    expected = made(kernels, LAYOUTS[name], x)
    assert made(kernels, LAYOUTS[name], x, importance).tobytes() == expected.tobytes()


@cache
def weighed_by_ggml(name: str, seed: int) -> Blocks:
    x = random_weights(4096 * 1024, seed).reshape(-1, 1024)
    return ggml_quantize(x, LAYOUTS[name], IMPORTANCES["typical"])


@pytest.mark.slow
@pytest.mark.parametrize("name", WEIGHED)
def test_millions_of_weights_are_weighed_as_ggml_weighs_them(
    kernels: Kernels, name: str, tally: Tally
) -> None:
    layout = LAYOUTS[name]
    for seed in (200, 201):
        x = random_weights(4096 * 1024, seed).reshape(-1, 1024)
        ours, theirs = made(kernels, layout, x, IMPORTANCES["typical"]), weighed_by_ggml(name, seed)
        way = f"weighed, {kernels.instruction_set}"
        assert tally.compare(name, way, ours, theirs, layout.block_bytes) == []


@cache
def many_weights() -> Floats:
    return random_weights(50_000_000, seed=100)


@pytest.mark.slow
@pytest.mark.parametrize("layout", MADE, ids=lambda layout: layout.name)
def test_millions_of_blocks_are_made_as_ggml_makes_them(
    built: Path, layout: Layout, tally: Tally
) -> None:
    """Every instruction set is held to what ggml makes once: 100 million weights for each type."""
    for factor in (1, -0.7):
        x = many_weights() * np.float32(factor)
        theirs = ggml_quantize(x, layout)
        for isa, kernels in load(built)[0].items():
            ours = made(kernels, layout, x)
            differing = tally.compare(layout.name, f"made, {isa}", ours, theirs, layout.block_bytes)
            assert differing == []


def test_a_library_of_other_sources_is_not_loaded(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "digest", lambda: "other")
    load.cache_clear()
    assert load(built) == ({}, "they were compiled from other sources")
    load.cache_clear()


def test_where_nothing_was_compiled_it_is_said(tmp_path: Path) -> None:
    assert load(tmp_path) == ({}, "they were not compiled when ggufscope was installed")
    (tmp_path / build.library_name()).write_bytes(b"no library")
    load.cache_clear()
    assert load(tmp_path)[1].startswith("they cannot be loaded")


def test_a_compiler_that_does_not_serve_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("c++", "g++", "clang++"):
        (tmp_path / name).write_text("#!/bin/sh\necho fits.h:9: too new >&2\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    build._refusal.cache_clear()
    monkeypatch.setattr(build, "find_spec", lambda _: None)
    assert build.compiler() is None
    with pytest.raises(FileNotFoundError, match=r"g\+\+: fits.h:9: too new"):
        build.build(tmp_path)  # whoever edits the sources sees it
    monkeypatch.setenv("CXX", "ccache c++")
    assert build.compiler() == ["ccache", "c++"]
    build._refusal.cache_clear()


@pytest.mark.parametrize(
    ("platform", "name"),
    [
        ("linux", "engine.so"),
        ("darwin", "engine.dylib"),
        ("win32", "engine.dll"),
        ("x86_64-linux-gnu.2.17", "engine.so"),
        ("aarch64-macos.11.0", "engine.dylib"),
        ("x86_64-windows-gnu", "engine.dll"),
    ],
)
def test_a_library_is_named_as_its_system_names_them(platform: str, name: str) -> None:
    assert build.library_name(platform) == name
