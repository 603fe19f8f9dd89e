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


def made(kernels: Kernels, layout: Layout, x: Floats) -> Blocks:
    out = np.zeros((len(x), x.shape[1] // layout.block_length), layout.dtype)
    kernels.quantize(layout, x, out, None)
    return out


def read(kernels: Kernels, layout: Layout, blocks: Blocks) -> Floats:
    out = np.zeros((blocks.size, layout.block_length), np.float32)
    kernels.dequantize(layout, blocks, out)
    return out


@cache
def made_by_numpy(name: str, edge: str) -> Blocks:
    layout, x = LAYOUTS[name], np.ascontiguousarray(EDGES[edge])
    out = np.zeros((len(x), x.shape[1] // layout.block_length), layout.dtype)
    quantize = CODECS[name].quantize
    assert quantize is not None
    with np.errstate(all="ignore"):
        quantize(x, out, None)
    return out


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
def test_edges_are_made_as_numpy_makes_them(kernels: Kernels, layout: Layout) -> None:
    differing = [
        edge
        for edge, x in EDGES.items()
        if made(kernels, layout, np.ascontiguousarray(x)).tobytes()
        != made_by_numpy(layout.name, edge).tobytes()
    ]
    assert differing == []


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
    yield x, out, np.ones(512, np.float32)  # not made yet


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
    x = BULK[:4].copy()
    importance = np.arange(x.shape[1], dtype=np.float32)
    for name in ("Q4_0", "Q6_K", "IQ4_XS", "Q8_0", "TQ2_0"):
        make, by_numpy = codecs[name].quantize, CODECS[name].quantize
        assert make is not None
        assert by_numpy is not None
        out = np.zeros((4, x.shape[1] // LAYOUTS[name].block_length), LAYOUTS[name].dtype)
        expected = np.zeros_like(out)
        make(x, out, importance)
        by_numpy(x, expected, importance)
        assert out.tobytes() == expected.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("layout", MADE, ids=lambda layout: layout.name)
def test_millions_of_blocks_are_made_as_ggml_makes_them(
    kernels: Kernels, layout: Layout, tally: Tally
) -> None:
    for seed in range(8):
        x = random_weights(1_000_000 * min(layout.block_length, 32), seed=100 + seed)
        ours, theirs = made(kernels, layout, x), ggml_quantize(x, layout)
        way = f"made, {kernels.instruction_set}"
        assert tally.compare(layout.name, way, ours, theirs, layout.block_bytes) == []


def test_a_library_of_other_sources_is_not_loaded(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "digest", lambda: "other")
    load.cache_clear()
    assert load(built) == ({}, "they were compiled from other sources: install ggufscope again")
    load.cache_clear()


def test_where_nothing_was_compiled_it_is_said(tmp_path: Path) -> None:
    assert load(tmp_path) == ({}, "they were not compiled when ggufscope was installed")
    (tmp_path / build.library_name()).write_bytes(b"no library")
    load.cache_clear()
    assert load(tmp_path)[1].startswith("they cannot be loaded")
