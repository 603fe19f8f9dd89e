"""Vectors and weights: by hand, against SciPy, and on the edges."""

from __future__ import annotations

from math import inf, sqrt

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cosine as scipy_cosine

from ggufscope.blocks.error import NO_ERROR
from ggufscope.measure.metrics.tensors import weight_error
from ggufscope.measure.metrics.vectors import cosine, relative_error

Vector = npt.NDArray[np.float64]


def test_by_hand() -> None:
    a, b = np.array([[3.0, 4], [1, 0], [1, 1]]), np.array([[4.0, 3], [0, 2], [-2, -2]])
    assert cosine(a, b) == pytest.approx([24 / 25, 0, -1])
    assert relative_error(a, b) == pytest.approx([sqrt(2) / 5, sqrt(5), 3])


def test_scaling_keeps_the_direction_and_counts_as_an_error() -> None:
    a = np.array([1.0, -2, 3], np.float32)
    assert cosine(a, 1.5 * a) == pytest.approx(1)
    assert relative_error(a, 1.5 * a) == pytest.approx(0.5)


def test_vectors_of_zeros() -> None:
    zero, one = np.zeros(3), np.array([0.0, 1, 0])
    assert [float(cosine(a, b)) for a, b in ((zero, zero), (zero, one), (one, zero))] == [1, 0, 0]
    assert relative_error(zero, -zero) == 0
    assert relative_error(zero, one) == inf
    assert relative_error(one, zero) == 1


@pytest.mark.parametrize("size", [1e-45, 1e-30, 1e30, 3e38])
def test_tiny_and_huge_numbers(size: float) -> None:
    a = np.array([size, 0], np.float32)
    b = np.array([0, size], np.float32)
    assert cosine(a, a) == pytest.approx(1)
    assert cosine(a, b) == 0
    assert relative_error(a, b) == pytest.approx(sqrt(2))


_VECTORS = arrays(np.float64, 6, elements=st.floats(-1e3, 1e3))


@given(_VECTORS, _VECTORS)
def test_scipy_agrees(a: Vector, b: Vector) -> None:
    assume(np.abs(a).max() > 1e-3)
    assume(np.abs(b).max() > 1e-3)
    assert cosine(a, b) == pytest.approx(1 - scipy_cosine(a, b), abs=1e-9)
    assert -1 <= cosine(a, b) <= 1
    expected = np.linalg.norm(b - a) / np.linalg.norm(a)
    assert relative_error(a, b) == pytest.approx(expected)


def test_weights_by_hand() -> None:
    error = weight_error(np.array([[3.0, 4]], np.float32), np.array([[3.0, 4.5]], np.float32))
    assert error.relative == pytest.approx(0.1)
    assert (error.largest, error.n) == (0.5, 2)
    for sign in (1, -1):  # the largest one may go down as well as up
        moved = weight_error(np.array([1.0, 2.0]), np.array([1.0, 2.0 + 0.25 * sign]))
        assert moved.largest == 0.25
    assert NO_ERROR.relative == 0
    assert weight_error(np.zeros(2), np.ones(2)).relative == inf
    assert weight_error(np.zeros(2), -np.zeros(2)).relative == 0


def test_weights_of_many_parts_add_up() -> None:
    rng = np.random.default_rng(3)
    a = rng.standard_normal((600, 1024), dtype=np.float32)
    b = a + np.float32(0.01) * rng.standard_normal(a.shape, dtype=np.float32)
    whole = weight_error(a, b)
    parts = weight_error(a[:7], b[:7]) + weight_error(a[7:], b[7:])
    exact = np.linalg.norm(b.astype(np.float64) - a) / np.linalg.norm(a.astype(np.float64))
    assert whole.relative == pytest.approx(exact, rel=1e-12)
    assert parts.relative == pytest.approx(whole.relative, rel=1e-12)
    assert (parts.largest, parts.n) == (whole.largest, whole.n) == (np.abs(b - a).max(), a.size)


def test_what_is_not_finite_is_no_number_and_no_warning() -> None:
    sound = np.array([1.0, 2.0])
    for bad in (np.inf, -np.inf, np.nan):
        spoiled = np.array([1.0, bad])
        for pair in ((sound, spoiled), (spoiled, sound), (spoiled, spoiled)):
            assert np.isnan(cosine(*pair))
        assert not relative_error(sound, spoiled) <= 1e6
        assert np.isnan(relative_error(spoiled, spoiled))
