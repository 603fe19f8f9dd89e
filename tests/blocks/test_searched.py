"""IQ1, IQ2 and IQ3: grids, their neighbours, and blocks, held to real ggml's.

Where squares of weights are no finite numbers ggml ends the process by an assertion. There an error
is asked for. `tests/golden/make_searched.py` has found where that is.
"""

from __future__ import annotations

from collections.abc import Iterator

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
from tests.blocks.searched import (
    BY_IMPORTANCE,
    KINDS,
    PLAIN,
    TYPES,
    WAYS,
    bulk,
    digest,
    edges,
    golden,
    rows_made,
)
from tests.blocks.weights import importances, random_weights
from tests.oracles import ggml_accepts, ggml_quantize

ROW = 1024


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
    assert digest(ours) == golden()[f"{name} {kind}"]["bulk"]
    assert ggml_accepts(ours, LAYOUTS[name])


@pytest.mark.parametrize(("name", "kind"), WAYS)
@pytest.mark.parametrize(
    "isa", [*COMPILED[:1], *(pytest.param(isa, marks=pytest.mark.slow) for isa in COMPILED[1:])]
)
def test_the_bytes_of_edges_are_ggmls(name: str, kind: str, isa: str) -> None:
    rows, make = rows_made(name, kind), MAKERS[isa][name]
    ours = made(make, name, edges()[rows], KINDS[kind])
    assert digest(ours) == golden()[f"{name} {kind}"]["edges"]
    assert kept(make, name, edges(), KINDS[kind]).tolist() == rows.tolist()


@pytest.mark.parametrize(("name", "kind"), PLAIN)
def test_edges_are_made_so_in_numpy(name: str, kind: str) -> None:
    rows, make = rows_made(name, kind), MAKERS["numpy"][name]
    ours = made(make, name, edges()[rows], KINDS[kind])
    assert digest(ours) == golden()[f"{name} {kind}"]["edges"]
    for row in edges()[~rows][:12]:
        with pytest.raises(UnmakeableBlock):
            made(make, name, row[None], KINDS[kind])


def test_ggml_ends_at_some_of_it() -> None:
    assert sum(len(found["refused"]) for found in golden().values()) > 500


@pytest.mark.slow
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
    some = np.concatenate([bulk(), edges()[rows_made(name, "typical")]])
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
    with pytest.raises(
        UnmakeableType, match=f"become {name}, which .* without an importance"
    ) as it:
        quantize(bulk(), name)
    assert "Q2_K" in it.value.hint
    with pytest.raises(NotConvertible, match="the KV cache would become"):
        require_makeable(name, "the KV cache")
    assert callable(require_makeable(name, "a tensor", importance=True))


def test_an_error_names_the_row() -> None:
    x: npt.NDArray[np.float32] = random_weights(ROW * 6).reshape(-1, ROW)
    x[4, 700], x[4, 701] = 1e30, 2e29
    with pytest.raises(UnmakeableBlock, match=r"^row 4 as IQ3_S: squares of the weights") as caught:
        quantize(x, "IQ3_S")
    assert caught.value.row == 4
    assert "another type" in caught.value.hint


@pytest.mark.parametrize("name", TYPES)
def test_weights_come_back_near(name: str) -> None:
    x = bulk()[:32]
    near = dequantize(quantize(x, name, importance=KINDS["all equal"]), name)
    error = np.linalg.norm(near - x) / np.linalg.norm(x)
    assert error < {"1": 0.65, "2": 0.45, "3": 0.3}[name[2]]
