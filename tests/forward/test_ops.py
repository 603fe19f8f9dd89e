"""Each operation against float64 and by hand, with edge data."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggufscope import pool as room
from ggufscope.forward import ops
from ggufscope.forward.weights import TILE
from tests.forward.arrays import ArrayMatrix

Floats = npt.NDArray[np.float32]

LEAST_NORMAL = 2.0**-126

EDGES: dict[str, list[float]] = {
    "zeros": [0, 0, 0, 0],
    "negative zero": [-0.0, 0.0, -0.0, 0.0],
    "constant": [7, 7, 7, 7],
    "denormals": [1e-42, -1e-42, 3e-45, 0],
    "tiny": [1e-20, -2e-20, 3e-20, 1e-21],
    "huge": [1e18, -3e18, 2e18, 1e17],
    "one outlier": [1e-3, -1e-3, 3e4, 2e-3],
    "plain": [0.5, -1.25, 2.0, 0.125],
}


@pytest.fixture(params=EDGES, name="row")
def _row(request: pytest.FixtureRequest) -> Floats:
    return np.array([EDGES[request.param]] * 2, np.float32)


def test_rms_norm_brings_rows_to_a_common_size(row: Floats) -> None:
    weight = np.array([1, -2, 0.5, 3], np.float32)
    wide = row.astype(np.float64)
    expected = wide / np.sqrt((wide**2).mean(axis=1, keepdims=True) + 1e-5) * weight
    got = ops.rms_norm(row, weight, 1e-5)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=LEAST_NORMAL)
    assert np.array_equal(ops.rms_norm(row, None, 1e-5), ops.rms_norm(row, np.ones(4, "f4"), 1e-5))


def test_layer_norm_takes_the_mean_out_first(row: Floats) -> None:
    weight, bias = np.array([1, -2, 0.5, 3], "f4"), np.array([0.5, 0, -1, 2], "f4")
    wide = row.astype(np.float64)
    centred = wide - wide.mean(axis=1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5) * weight
    np.testing.assert_allclose(
        ops.layer_norm(row, weight, None, 1e-5), expected, rtol=1e-5, atol=LEAST_NORMAL
    )
    np.testing.assert_allclose(
        ops.layer_norm(row, weight, bias, 1e-5), expected + bias, rtol=1e-5, atol=1e-6
    )


def test_a_long_row_is_summed_without_loss() -> None:
    """A float32 sum of 2^24 ones and more would stop growing."""
    row = np.ones((1, (1 << 24) + 8), np.float32)
    row[0, 0] = 2.0**13
    exact = 1 / np.sqrt((2.0**26 + row.size - 1) / row.size)
    assert ops.rms_norm(row, None, 0.0)[0, 5] == pytest.approx(exact, rel=1e-7)


def test_softmax_gives_shares(row: Floats) -> None:
    wide = row.astype(np.float64)
    shares = np.exp(wide - wide.max(axis=1, keepdims=True))
    got = ops.softmax(row.copy())
    np.testing.assert_allclose(got, shares / shares.sum(axis=1, keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-6)


def test_softmax_as_figured_out_with_a_pencil() -> None:
    got = ops.softmax(np.array([[2.1, 0.3, -0.5]], np.float32))
    np.testing.assert_allclose(got, [[0.807, 0.133, 0.060]], atol=5e-4)
    hidden = ops.softmax(np.array([[1.0, -np.inf, 1.0]], np.float32))
    assert hidden.tolist() == [[0.5, 0.0, 0.5]]
    # e^0 + e^0 beside a sink of e^0: a third each, and the third third is dropped
    sunk = ops.softmax(np.zeros((1, 2), np.float32), np.zeros((1, 1), np.float32))
    np.testing.assert_allclose(sunk, [[1 / 3, 1 / 3]], rtol=1e-6)
    deep = ops.softmax(np.full((1, 2), -1e4, np.float32), np.zeros((1, 1), np.float32))
    assert deep.tolist() == [[0.0, 0.0]]


EVERYWHERE = np.concatenate(
    [np.linspace(-30, 30, 2001), [0.0, -0.0, 1e-42, -1e-42, 1e30, -1e30, 88.8, -88.8, -104.0]]
).astype(np.float32)


def test_activations_over_the_whole_line() -> None:
    wide = EVERYWHERE.astype(np.float64)
    with np.errstate(over="ignore"):
        opened = 1 / (1 + np.exp(-wide))
        bent = np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3))
    # exp() overflows where the result would be below the smallest normal number.
    np.testing.assert_allclose(ops.sigmoid(EVERYWHERE), opened, rtol=1e-5, atol=LEAST_NORMAL)
    np.testing.assert_allclose(
        ops.silu(EVERYWHERE), wide * opened, rtol=1e-5, atol=100 * LEAST_NORMAL
    )
    np.testing.assert_allclose(ops.gelu(EVERYWHERE), 0.5 * wide * (1 + bent), atol=3e-6, rtol=1e-5)
    assert np.isfinite(ops.gelu(EVERYWHERE)).all()
    assert np.isfinite(ops.silu(EVERYWHERE)).all()


def test_a_soft_cap_leaves_what_is_small_and_stops_what_is_large() -> None:
    x = np.array([1e-3, -1e-3, 49.0, 1e30, -1e30], np.float32)
    capped = ops.soft_cap(x.copy(), 50.0)
    np.testing.assert_allclose(capped, 50 * np.tanh(x.astype("f8") / 50), rtol=1e-6)
    assert capped[-2:].tolist() == [50.0, -50.0]
    assert ops.soft_cap(x, None) is x


@pytest.mark.parametrize("rows", [1, 3, 64, 65, 1000])
@pytest.mark.parametrize("tokens", [1, 5])
def test_linear_is_a_product_whatever_the_tiles(rows: int, tokens: int) -> None:
    rng = np.random.default_rng(rows)
    weight = rng.standard_normal((rows, TILE // 64)).astype(np.float32)
    x = rng.standard_normal((tokens, TILE // 64)).astype(np.float32)
    bias = rng.standard_normal(rows).astype(np.float32)
    matrix = ArrayMatrix("w", weight)
    exact = x.astype(np.float64) @ weight.T.astype(np.float64)
    got = ops.linear(x, matrix)
    assert got.flags.c_contiguous
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, exact, atol=2e-4)
    np.testing.assert_allclose(ops.linear(x, matrix, bias), exact + bias, atol=2e-4)
    if rows > 2:
        part = ops.linear(x, matrix, rows=(1, rows - 1))
        np.testing.assert_allclose(part, exact[:, 1:-1], atol=2e-4)


def test_linear_is_the_same_with_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    matrix = ArrayMatrix("w", rng.standard_normal((300, 4096)).astype(np.float32))
    x = rng.standard_normal((17, 4096)).astype(np.float32)
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(room, "processors", lambda n=threads: n)
        found.append(ops.linear(x, matrix))
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_an_error_in_a_tile_is_raised() -> None:
    class Broken(ArrayMatrix):
        def rows(self, start: int, stop: int) -> Floats:
            raise RuntimeError(f"rows {start} to {stop}")

    broken = Broken("w", np.zeros((600, 4096), np.float32))
    with pytest.raises(RuntimeError, match="rows 0 to"):
        ops.linear(np.zeros((1, 4096), np.float32), broken)


@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=12), st.floats(-30, 30))
def test_softmax_does_not_mind_a_shift(scores: list[float], shift: float) -> None:
    x = np.array([scores], np.float32)
    got = ops.softmax(x.copy())
    assert abs(float(got.sum()) - 1) < 1e-6
    np.testing.assert_allclose(ops.softmax(x + np.float32(shift)), got, atol=2e-5)
