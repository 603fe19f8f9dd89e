"""An importance of columns: held to ``ggml_quantize_chunk``, edge data on both sides included."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ggufscope.blocks.codec import CODECS, NUMPY, quantize
from ggufscope.blocks.layouts import LAYOUTS
from ggufscope.errors import MismatchedArray
from tests.blocks.searched import TYPES
from tests.blocks.weights import (
    finite_edges,
    importances,
    other_edges,
    random_weights,
    side_by_side,
)
from tests.oracles import ggml_quantize

ROW = 1024
WEIGHED = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
WEIGHED += ["IQ4_NL", "IQ4_XS"]
UNTOUCHED = [name for name, codec in CODECS.items() if codec.quantize and not codec.weighs]
EDGES = dict(finite_edges()) | dict(other_edges())
IMPORTANCES = dict(importances(ROW))
NAMES, X = side_by_side(EDGES, ROW)

pytestmark = pytest.mark.usefixtures("engine")


def test_each_type_is_weighed_or_not() -> None:
    made = {name for name, codec in CODECS.items() if codec.quantize}
    assert made - {*UNTOUCHED} == {*WEIGHED, *TYPES}


@cache
def some_of_each_edge() -> npt.NDArray[np.float32]:
    """(rows, ROW): a block or two of every kind of weight, side by side."""
    rng = np.random.default_rng(5)
    some = [x[rng.integers(0, len(x), 2)] for x in [*EDGES.values(), random_weights(20 * 256)]]
    blocks = np.concatenate(some)
    return np.resize(blocks, (len(blocks) // 4, ROW))


@cache
def made_by_ggml(name: str, kind: str, which: str) -> bytes:
    return ggml_quantize(weights(which), LAYOUTS[name], IMPORTANCES[kind]).tobytes()


@cache
def weights(which: str) -> npt.NDArray[np.float32]:
    if which == "each":
        return X
    if which == "some of each":
        return some_of_each_edge()
    return random_weights(200 * ROW).reshape(-1, ROW)


@pytest.mark.parametrize("name", [*WEIGHED, *UNTOUCHED])
def test_the_bytes_are_ggmls(name: str) -> None:
    x = weights("bulk")
    ours = quantize(x, name, importance=IMPORTANCES["typical"])
    assert ours.tobytes() == made_by_ggml(name, "typical", "bulk")
    assert (ours.tobytes() != quantize(x, name).tobytes()) == (name in WEIGHED)


@pytest.mark.parametrize("name", WEIGHED)
def test_the_bytes_of_edges_are_ggmls(name: str) -> None:
    ours = quantize(X, name, importance=IMPORTANCES["typical"], check_finite=False)
    theirs = np.frombuffer(made_by_ggml(name, "typical", "each"), np.uint8)
    differ = (ours.view(np.uint8) != theirs.reshape(len(X), -1)).any(axis=1)
    assert {NAMES[row] for row in np.flatnonzero(differ)} == set()


@pytest.mark.parametrize("kind", IMPORTANCES)
@pytest.mark.parametrize("name", WEIGHED)
def test_the_bytes_are_ggmls_by_any_importance(name: str, kind: str) -> None:
    x = some_of_each_edge()
    ours = quantize(x, name, importance=IMPORTANCES[kind], check_finite=False)
    assert ours.tobytes() == made_by_ggml(name, kind, "some of each")


@pytest.mark.parametrize("name", WEIGHED)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 40),
    blocks=st.integers(1, 9),
    kind=st.sampled_from(sorted(IMPORTANCES)),
    seed=st.integers(0, 1 << 32),
)
def test_rows_of_any_length_are_ggmls(
    name: str, rows: int, blocks: int, kind: str, seed: int
) -> None:
    layout = LAYOUTS[name]
    rng = np.random.default_rng(seed)
    row = blocks * layout.block_length
    among = some_of_each_edge().reshape(-1, 32)
    x = among[rng.integers(0, len(among), rows * row // 32)].reshape(rows, row)
    columns = dict(importances(row))[kind]
    ours = quantize(x, name, importance=columns, check_finite=False, threads=1)
    assert ours.tobytes() == ggml_quantize(x, layout, columns).tobytes()


@pytest.mark.parametrize(
    "columns", [np.ones(ROW - 1), np.ones((1, ROW)), np.full(ROW, np.nan), -np.ones(ROW)]
)
def test_it_fits_the_columns(columns: npt.NDArray[np.float64]) -> None:
    with pytest.raises(MismatchedArray, match="importance of shape"):
        quantize(np.ones((2, ROW), np.float32), "Q6_K", importance=columns)


@pytest.mark.parametrize("name", ["Q6_K", "Q4_0", "F16"])
def test_a_row_longer_than_a_chunk_is_made_alike(name: str) -> None:
    x = random_weights(2 * NUMPY.chunk + 256).reshape(1, -1)
    expected = quantize(x.reshape(-1, 256), name).tobytes()
    assert quantize(x, name).tobytes() == expected
    if name == "Q6_K":
        columns = np.abs(x[0])
        weighed = quantize(x, name, importance=columns)
        assert weighed.tobytes() == ggml_quantize(x, LAYOUTS[name], columns).tobytes()
