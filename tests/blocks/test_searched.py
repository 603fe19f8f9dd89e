"""IQ1, IQ2 and IQ3: grids, their neighbours, and blocks, held to ``ggml_quantize_chunk``.

Where squares of weights are no finite numbers ggml ends the process by an assertion. There an error
is asked for, and a child process sees that ggml ends.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ggufscope.arrays import Blocks, Floats, Mask
from ggufscope.blocks.codec import CODECS, Make, compiled, dequantize, quantize, require_makeable
from ggufscope.blocks.kernels import load
from ggufscope.blocks.layouts import LAYOUTS
from ggufscope.blocks.neighbours import codebook
from ggufscope.errors import NotConvertible, UnmakeableBlock, UnmakeableType
from tests.blocks.weights import finite_edges, importances, other_edges, random_weights
from tests.oracles import ggml_accepts, ggml_quantize

ROW = 1024
TYPES = ["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"]
BY_IMPORTANCE = ["IQ1_S", "IQ2_XXS", "IQ2_XS"]
KINDS: dict[str, Floats | None] = {"none": None, **dict(importances(256))}
WAYS = [(name, kind) for name in TYPES for kind in KINDS if kind != "none" or name not in BY_IMPORTANCE]
PLAIN = [way for way in WAYS if way[1] in ("none", "typical")]


def _makers() -> Iterator[tuple[str, dict[str, Make]]]:
    yield "numpy", {name: made for name in TYPES if (made := CODECS[name].quantize)}
    for isa, kernels in load()[0].items():
        codecs = compiled(kernels).codecs
        yield isa, {name: made for name in TYPES if (made := codecs[name].quantize)}


MAKERS = dict(_makers())
COMPILED = [isa for isa in MAKERS if isa != "numpy"]


@pytest.fixture(params=[*COMPILED, "numpy"])
def maker(request: pytest.FixtureRequest) -> dict[str, Make]:
    return MAKERS[request.param]


def made(make: Make, name: str, x: Floats, importance: Floats | None) -> Blocks:
    out = np.zeros((len(x), x.shape[1] // 256), LAYOUTS[name].dtype)
    with np.errstate(all="ignore"):
        make(x, out, importance)
    return out


def kept(make: Make, name: str, x: Floats, importance: Floats | None) -> Mask:
    """x (rows, row) -> which rows are made (rows,): by halves, for few are not."""
    try:
        made(make, name, x, importance)
    except UnmakeableBlock:
        if len(x) == 1:
            return np.zeros(1, np.bool_)
        half = len(x) // 2
        parts = (kept(make, name, part, importance) for part in (x[:half], x[half:]))
        return np.concatenate(list(parts))
    return np.ones(len(x), np.bool_)


@cache
def edges() -> Floats:
    """(rows, 256): a row or two of each kind."""
    rng = np.random.default_rng(5)
    kinds = [*dict(finite_edges()).values(), *dict(other_edges()).values()]
    return np.concatenate([x[rng.integers(0, len(x), 2)] for x in kinds])


@cache
def bulk() -> Floats:
    return random_weights(256 * 700).reshape(-1, 256)


@cache
def bulk_by_ggml(name: str, kind: str) -> bytes:
    return ggml_quantize(bulk(), LAYOUTS[name], KINDS[kind]).tobytes()


@cache
def edges_by_ggml(name: str, kind: str) -> tuple[Mask, bytes]:
    """Which rows of edge data are made, by the best engine, and what ggml makes of these."""
    rows = kept(MAKERS[[*COMPILED, "numpy"][0]][name], name, edges(), KINDS[kind])
    return rows, ggml_quantize(edges()[rows], LAYOUTS[name], KINDS[kind]).tobytes()


@pytest.mark.parametrize("name", ["IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"])
def test_lists_have_the_nearest_entries_in_order(name: str) -> None:
    book = codebook(name)
    reach = {"IQ1_S": 3, "IQ2_S": 1, "IQ3_S": 3}.get(name, 2)
    every = np.indices((book.levels,) * book.length).reshape(book.length, -1)
    points = book.pack(every)
    entries = points[book.place[points] >= 0]
    entries = entries[np.argsort(book.place[entries])]
    assert book.place[entries].tolist() == list(range(len(entries)))
    levels = book.unpack(entries)
    outside = points[book.place[points] < 0]
    for point in np.random.default_rng(3).choice(outside, 100):
        distance = np.square(levels - book.unpack(point[None])).sum(axis=0)
        near = np.flatnonzero(distance <= np.unique(distance)[:reach][-1])
        expected = entries[sorted(near, key=lambda entry: (distance[entry], entry))]
        start = ~book.place[point]
        count = book.near[start]
        assert book.near[start + 1 : start + 1 + count].tolist() == expected.tolist()


@pytest.mark.parametrize(("name", "kind"), PLAIN)
def test_the_bytes_are_ggmls(name: str, kind: str, maker: dict[str, Make]) -> None:
    ours = made(maker[name], name, bulk(), KINDS[kind])
    assert ours.tobytes() == bulk_by_ggml(name, kind)
    assert ggml_accepts(ours, LAYOUTS[name])


@pytest.mark.parametrize(("name", "kind"), WAYS)
@pytest.mark.parametrize("isa", COMPILED)
def test_the_bytes_of_edges_are_ggmls(name: str, kind: str, isa: str) -> None:
    rows, expected = edges_by_ggml(name, kind)
    make = MAKERS[isa][name]
    assert made(make, name, edges()[rows], KINDS[kind]).tobytes() == expected
    assert kept(make, name, edges(), KINDS[kind]).tolist() == rows.tolist()


@pytest.mark.parametrize(("name", "kind"), PLAIN)
def test_edges_are_made_so_in_numpy(name: str, kind: str) -> None:
    rows, expected = edges_by_ggml(name, kind)
    make = MAKERS["numpy"][name]
    assert made(make, name, edges()[rows], KINDS[kind]).tobytes() == expected
    for row in edges()[~rows][:12]:
        with pytest.raises(UnmakeableBlock):
            made(make, name, row[None], KINDS[kind])


_ENDS = """
import os, sys
import numpy as np
from ggufscope.blocks.layouts import LAYOUTS
from tests.oracles import ggml_quantize

rows, importance = np.load(sys.argv[1]), np.load(sys.argv[2])
for name in rows:
    type, _, kind = name.partition("-")
    for row in rows[name]:
        child = os.fork()
        if not child:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            ggml_quantize(row[None].copy(), LAYOUTS[type], importance if kind == "typical" else None)
            os._exit(0)
        print(name, os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a child of a process ends by an assertion")
def test_ggml_ends_where_an_error_is_raised(tmp_path: Path) -> None:
    refused = {}
    for name, kind in PLAIN:
        found = edges()[~edges_by_ggml(name, kind)[0]]
        refused[f"{name}-{kind}"] = found[:: max(1, len(found) // 6)]
    importance = KINDS["typical"]
    assert importance is not None
    np.savez(tmp_path / "rows.npz", **refused)
    np.save(tmp_path / "importance.npy", importance)
    files = tmp_path / "rows.npz", tmp_path / "importance.npy"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _ENDS, *files],
        capture_output=True,
        text=True,
        check=True,
        env={"GGML_NO_BACKTRACE": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    lines = done.stdout.splitlines()
    assert len(lines) == sum(map(len, refused.values())) > 30
    assert [line for line in lines if line.endswith(" 0")] == []


@pytest.mark.parametrize("name", TYPES)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 40),
    blocks=st.integers(1, 9),
    kind=st.sampled_from(sorted(KINDS)),
    seed=st.integers(0, 1 << 32),
)
def test_rows_of_any_length_are_ggmls(
    name: str, rows: int, blocks: int, kind: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    some = np.concatenate([bulk(), edges()[edges_by_ggml(name, "typical")[0]]])
    x = some[rng.integers(0, len(some), rows * blocks)].reshape(rows, -1)
    columns = None
    if kind != "none" or name in BY_IMPORTANCE:
        columns = dict(importances(x.shape[1]))["typical" if kind == "none" else kind]
    make = MAKERS[[*COMPILED, "numpy"][0]][name]
    able = kept(make, name, x, columns)
    if able.any():
        ours = made(make, name, np.ascontiguousarray(x[able]), columns)
        assert ours.tobytes() == ggml_quantize(x[able], LAYOUTS[name], columns).tobytes()


@pytest.mark.parametrize("name", BY_IMPORTANCE)
def test_what_needs_an_importance_says_so(name: str) -> None:
    with pytest.raises(UnmakeableType, match=f"become {name}, which .* without an importance") as it:
        quantize(bulk(), name)
    assert "Q2_K" in it.value.hint
    with pytest.raises(NotConvertible, match="the KV cache would become"):
        require_makeable(name, "the KV cache")
    assert require_makeable(name, "a tensor", importance=True)


def test_an_error_names_the_row() -> None:
    x: npt.NDArray[np.float32] = random_weights(ROW * 6).reshape(-1, ROW)
    x[4, 700], x[4, 701] = 1e30, 2e29
    with pytest.raises(UnmakeableBlock, match="^row 4 as IQ3_S: squares of the weights") as caught:
        quantize(x, "IQ3_S")
    assert caught.value.row == 4
    assert "another type" in caught.value.hint


@pytest.mark.parametrize("name", TYPES)
def test_weights_come_back_near(name: str) -> None:
    x = bulk()[:32]
    near = dequantize(quantize(x, name, importance=KINDS["all equal"]), name)
    error = np.linalg.norm(near - x) / np.linalg.norm(x)
    assert error < {"1": 0.65, "2": 0.45, "3": 0.3}[name[2]]
