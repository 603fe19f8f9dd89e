"""Next-token distributions: by hand, against SciPy, and on the edges."""

from __future__ import annotations

from math import exp, inf, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax as scipy_log_softmax
from scipy.special import rel_entr

from ggufscope.arrays import Reals
from ggufscope.measure.metrics import distributions as d


def perplexity(logits: Reals, ids: list[int]) -> float | None:
    return d.perplexity_of(d.token_losses(logits, ids))


def test_by_hand() -> None:
    # P = (1/2, 1/4, 1/4), Q = (1/4, 1/2, 1/4)
    p, q = np.log([[2.0, 1, 1]]), np.log([[1.0, 2, 1]])
    np.testing.assert_allclose(np.exp(d.log_softmax(p)), [[0.5, 0.25, 0.25]])
    assert d.kl_divergence(p, q) == pytest.approx([0.25 * log(2)])
    assert d.top1_agrees(p, q).tolist() == [False]
    assert d.top1_agrees(p, p + 5).tolist() == [True]


def test_perplexity_by_hand() -> None:
    # After token 0 the model gives token 1 a half; after that, token 2 a quarter.
    logits = np.log([[1.0, 2.0, 1.0], [1.0, 2.0, 1.0], [9.0, 9.0, 9.0]])
    assert d.token_losses(logits, [0, 1, 2]) == pytest.approx([log(2), log(4)])
    assert perplexity(logits, [0, 1, 2]) == pytest.approx(exp(log(8) / 2))
    assert perplexity(logits[:1], [0]) is None


def test_a_model_that_knows_nothing_has_the_vocabulary_as_perplexity() -> None:
    assert perplexity(np.zeros((5, 1000), np.float32), [1, 2, 3, 4, 5]) == pytest.approx(1000)


def test_one_that_knows_for_sure() -> None:
    logits = np.full((2, 4), -np.inf)
    logits[:, 2] = 0
    assert perplexity(logits, [0, 2]) == 1.0
    assert perplexity(logits, [0, 3]) == inf
    assert d.kl_divergence(logits, np.zeros((2, 4))) == pytest.approx([log(4)] * 2)
    assert d.kl_divergence(np.zeros((2, 4)), logits).tolist() == [inf, inf]


def test_the_likeliest_come_first_and_of_equals_the_lower_id() -> None:
    found = d.likeliest(np.log(np.array([1.0, 4, 2, 4, 1])), 3)
    assert [token for token, _ in found] == [1, 3, 2]
    assert [share for _, share in found] == pytest.approx([1 / 3, 1 / 3, 1 / 6])
    assert len(d.likeliest(np.zeros(2), 5)) == 2
    assert all(np.isnan(share) for _, share in d.likeliest(np.array([0, np.nan, inf]), 2))


_LOGITS = arrays(np.float32, (3, 7), elements=st.floats(-60, 60, width=32))


@given(_LOGITS, _LOGITS)
def test_scipy_agrees(a: np.typing.NDArray[np.float32], b: np.typing.NDArray[np.float32]) -> None:
    wide = a.astype(np.float64)
    np.testing.assert_allclose(d.log_softmax(a), scipy_log_softmax(wide, axis=1), atol=1e-12)
    p, q = np.exp(d.log_softmax(a)), np.exp(d.log_softmax(b))
    divergence = d.kl_divergence(a, b)
    np.testing.assert_allclose(divergence, rel_entr(p, q).sum(axis=1), rtol=1e-9, atol=1e-12)
    assert (divergence >= 0).all()
    np.testing.assert_array_equal(d.kl_divergence(a, a), 0)


def test_huge_logits_neither_overflow_nor_warn() -> None:
    logits = np.array([[3e38, -3e38, 0]], np.float32)
    assert d.log_softmax(logits)[0, 0] == 0.0
    assert d.kl_divergence(logits, logits).tolist() == [0.0]


def test_one_hot_outlier_among_many() -> None:
    logits = np.zeros((1, 100_000), np.float32)
    logits[0, 7] = 30
    expected = -30 + log(exp(30) + 99_999)
    assert -d.log_softmax(logits)[0, 7] == pytest.approx(expected, abs=1e-12)
