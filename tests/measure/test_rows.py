"""Attention-row metrics: by hand, against SciPy, and on the edges."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import entr

from ggufscope.measure.metrics import rows

TINY = np.nextafter(np.float64(0), 1)


def _row(*shares: float) -> npt.NDArray[np.float64]:
    return np.array(shares, np.float64)


@pytest.mark.parametrize(
    ("p", "q", "variation", "divergence"),
    [
        (_row(1, 0), _row(1, 0), 0.0, 0.0),
        (_row(1, 0), _row(0, 1), 1.0, 1.0),
        # m = (3/4, 1/4): KL(p, m) = (log2 2/3 + log2 2) / 2, KL(q, m) = log2 4/3
        (_row(0.5, 0.5), _row(1, 0), 0.5, (0.5 * np.log2(4 / 3) + np.log2(4 / 3)) / 2),
        (_row(0.75, 0.25), _row(0.25, 0.75), 0.5, 0.75 * np.log2(1.5) + 0.25 * np.log2(0.5)),
    ],
)
def test_by_hand(
    p: npt.NDArray[np.float64],
    q: npt.NDArray[np.float64],
    variation: float,
    divergence: float,
) -> None:
    assert rows.total_variation(p, q) == pytest.approx(variation)
    assert rows.jensen_shannon(p, q) == pytest.approx(divergence)


def test_entropy_by_hand() -> None:
    matrix = np.array([[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25] * 4], np.float32)
    assert rows.entropy(matrix).tolist() == [0.0, 1.0, 2.0]
    assert rows.entropy_shift(matrix[0], matrix[2]) == 2.0
    assert rows.entropy_shift(matrix[2], matrix[1]) == -1.0


def test_differences_of_a_matrix_by_hand() -> None:
    p = np.array([[[1, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]]])
    q = np.array([[[1, 0, 0], [0.4, 0.6, 0], [0.5, 0.3, 0.2]]])
    assert rows.largest_difference(p, q) == pytest.approx([0.3])
    # 0.1 + 0.1 + 0.3 + 0 + 0.3, over the six pairs that a causal matrix of three has
    assert rows.mean_difference(p, q, 6) == pytest.approx([0.8 / 6])
    assert rows.most_attended_changed(p, q).tolist() == [[False, True, True]]


def test_the_first_of_equal_shares_counts_as_most_attended() -> None:
    p, q = _row(0.4, 0.4, 0.2), _row(0.2, 0.4, 0.4)
    assert bool(rows.most_attended_changed(p, q))
    assert not bool(rows.most_attended_changed(p, _row(0.5, 0.5, 0.0)))


@st.composite
def _pairs(draw: st.DrawFn) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Two matrices of rows that add up to 1, some of their shares exactly 0 or all but."""
    n, width = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    share = st.one_of(st.just(0.0), st.just(1e-300), st.floats(1e-12, 1.0))
    matrices = []
    for _ in range(2):
        raw = np.array(draw(st.lists(share, min_size=n * width, max_size=n * width)))
        raw = raw.reshape(n, width)
        raw[raw.sum(axis=1) == 0, 0] = 1.0
        matrices.append(raw / raw.sum(axis=1, keepdims=True))
    return matrices[0], matrices[1]


@given(_pairs())
def test_scipy_agrees_and_ranges_hold(
    pair: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
) -> None:
    p, q = pair
    divergence = rows.jensen_shannon(p, q)
    np.testing.assert_allclose(divergence, jensenshannon(p, q, base=2, axis=1) ** 2, atol=1e-12)
    np.testing.assert_allclose(rows.entropy(p), entr(p).sum(axis=1) / np.log(2), atol=1e-12)
    variation = rows.total_variation(p, q)
    for metric in (divergence, variation):
        assert (metric >= 0).all()
        assert (metric <= 1 + 1e-12).all()
    assert (divergence <= variation + 1e-12).all()  # Lin 1991: JS <= TV
    np.testing.assert_array_equal(divergence, rows.jensen_shannon(q, p))
    assert (rows.entropy(p) >= 0).all()
    assert (rows.entropy(p) <= np.log2(p.shape[1]) + 1e-12).all()
    np.testing.assert_array_equal(rows.jensen_shannon(p, p), 0)
    np.testing.assert_array_equal(rows.total_variation(p, p), 0)


def test_denormal_shares_make_no_nan_and_no_warning() -> None:
    p, q = _row(1.0, TINY, 0.0), _row(1.0, 0.0, TINY)
    assert rows.jensen_shannon(p, q) == pytest.approx(0.0, abs=1e-300)
    assert rows.total_variation(p, q) == pytest.approx(0.0, abs=1e-300)
    assert np.isfinite(rows.entropy(p))


def test_sums_are_in_float64() -> None:
    n = 100_000
    p = np.full(n, 1e-5, np.float32)
    q = p.copy()
    q[::2] += np.float32(1e-9)
    exact = float(np.abs(p.astype(np.float64) - q.astype(np.float64)).sum()) / 2
    assert rows.total_variation(p, q) == pytest.approx(exact, rel=1e-12)
