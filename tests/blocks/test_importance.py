"""An importance of columns: held to ``ggml_quantize_chunk``, or refused where it would be lost."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ggufscope.blocks.codec import CODECS, NUMPY, quantize
from ggufscope.blocks.layouts import LAYOUTS
from ggufscope.errors import MismatchedArray, UnmakeableType
from tests.blocks.weights import finite_edges, random_weights
from tests.oracles import ggml_quantize

ROW = 1024
WEIGHED = ["Q4_0", "Q5_0", "Q6_K", "IQ4_NL", "IQ4_XS"]
NOT_YET = ["Q4_1", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K"]
UNTOUCHED = [name for name in CODECS if CODECS[name].quantize and name not in {*WEIGHED, *NOT_YET}]


def importance() -> npt.NDArray[np.float32]:
    """(row,): as an importance matrix has it, a few columns far above the rest and some at 0."""
    rng = np.random.default_rng(2)
    columns = rng.lognormal(0, 2, ROW).astype(np.float32)
    columns[rng.integers(0, ROW, 40)] = 0
    columns[256:272] = 0
    return columns


@pytest.mark.parametrize("name", [*WEIGHED, *UNTOUCHED])
def test_the_bytes_are_ggmls(name: str) -> None:
    x = random_weights(400 * ROW).reshape(-1, ROW)
    ours = quantize(x, name, importance=importance())
    assert ours.tobytes() == ggml_quantize(x, LAYOUTS[name], importance()).tobytes()
    assert (ours.tobytes() != quantize(x, name).tobytes()) == (name in WEIGHED)


@pytest.mark.parametrize("name", WEIGHED)
def test_the_bytes_of_edges_are_ggmls(name: str) -> None:
    for edge, x in finite_edges():
        rows = np.resize(x, (max(1, x.size // ROW), ROW))
        ours = quantize(rows, name, importance=importance(), check_finite=False)
        assert ours.tobytes() == ggml_quantize(rows, LAYOUTS[name], importance()).tobytes(), edge


@pytest.mark.parametrize("name", NOT_YET)
def test_it_is_refused_where_it_would_be_lost(name: str) -> None:
    with pytest.raises(UnmakeableType, match="cannot be made by importance") as caught:
        quantize(np.ones((2, ROW), np.float32), name, importance=importance())
    assert "Q6_K" in caught.value.hint


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
