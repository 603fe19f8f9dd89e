"""One function for every kind of attention, against plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ggufscope.forward.attention import attend

Floats = npt.NDArray[np.float32]
ALL = frozenset({"kq", "kq_soft_max", "kqv"})


def drawn(
    tokens: int, heads: int, groups: int, size: int = 6, width: int = 5, past: int = 0
) -> tuple[Floats, Floats, Floats]:
    rng = np.random.default_rng(heads * 10 + groups)
    shapes = ((tokens, heads, size), (past + tokens, groups, size), (past + tokens, groups, width))
    q, k, v = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    return q, k, v


def in_loops(
    q: Floats,
    k: Floats,
    v: Floats,
    scale: float,
    window: int | None = None,
    cap: float | None = None,
    sinks: Any = None,
) -> tuple[Any, Any]:
    """Scores and results, a number at a time in double precision."""
    tokens, heads, _ = q.shape
    past = len(k) - tokens
    shares = np.zeros((heads, tokens, len(k)))
    out = np.zeros((tokens, heads, v.shape[2]))
    for head in range(heads):
        group = head * k.shape[1] // heads
        for t in range(tokens):
            at = past + t
            seen = [s for s in range(at + 1) if window is None or at - s < window]
            scores = {s: float(q[t, head].astype("f8") @ k[s, group]) for s in seen}
            if cap:
                scores = {s: cap * math.tanh(x / cap) for s, x in scores.items()}
            powers = {s: math.exp(scale * x) for s, x in scores.items()}
            total = sum(powers.values()) + (math.exp(sinks[head]) if sinks is not None else 0)
            for s, power in powers.items():
                shares[head, t, s] = power / total
                out[t, head] += power / total * v[s, group]
    return shares, out.reshape(tokens, -1)


@pytest.mark.parametrize(("heads", "groups"), [(1, 1), (4, 4), (8, 2), (6, 1)])
@pytest.mark.parametrize("past", [0, 3])
@pytest.mark.parametrize("window", [None, 1, 2, 4, 100])
@pytest.mark.parametrize("cap", [None, 1.5])
def test_every_kind_of_attention(
    heads: int, groups: int, past: int, window: int | None, cap: float | None
) -> None:
    q, k, v = drawn(7, heads, groups, past=past)
    got = attend(q, k, v, scale=0.4, window=window, cap=cap, keep=ALL)
    shares, out = in_loops(q, k, v, 0.4, window, cap)
    assert got.kq_soft_max is not None
    assert got.kq is not None
    assert got.kqv is not None
    np.testing.assert_allclose(got.kq_soft_max, shares, atol=1e-6)
    np.testing.assert_allclose(got.out, out, atol=1e-5)
    assert np.array_equal(got.kq_soft_max == 0, shares == 0)  # what is hidden is exactly 0
    repeated = np.repeat(k, heads // groups, axis=1)
    np.testing.assert_allclose(got.kq, np.einsum("thd,shd->hts", q, repeated), atol=1e-5)
    assert np.array_equal(got.kqv.transpose(1, 0, 2).reshape(7, -1), got.out)


def test_sinks_take_their_share() -> None:
    q, k, v = drawn(5, 4, 2)
    sinks = np.array([-3.0, 0.0, 1.0, 4.0], np.float32)
    got = attend(q, k, v, scale=0.4, sinks=sinks, keep=ALL)
    shares, out = in_loops(q, k, v, 0.4, sinks=sinks)
    assert got.kq_soft_max is not None
    np.testing.assert_allclose(got.kq_soft_max, shares, atol=1e-6)
    np.testing.assert_allclose(got.out, out, atol=1e-5)


def test_grouped_is_many_headed_with_the_shared_heads_repeated() -> None:
    q, k, v = drawn(9, 8, 2)
    got = attend(q, k, v, scale=0.3)
    other = attend(q, np.repeat(k, 4, axis=1), np.repeat(v, 4, axis=1), scale=0.3)
    np.testing.assert_allclose(got.out, other.out, atol=1e-6)


def test_nothing_is_kept_that_was_not_asked_for_and_nothing_is_written_to() -> None:
    q, k, v = drawn(4, 2, 1)
    before = [x.copy() for x in (q, k, v)]
    got = attend(q, k, v, scale=1.0)
    assert (got.kq, got.kq_soft_max, got.kqv) == (None, None, None)
    assert all(np.array_equal(x, y) for x, y in zip(before, (q, k, v), strict=True))


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-30, 1e-42, 1e15, -1e15])
def test_edge_values(value: float) -> None:
    q, k, v = drawn(4, 2, 1)
    q[1:], k[2] = value, value
    v[3, 0] = 1e30
    got = attend(q, k, v, scale=0.5, keep=ALL)
    assert got.kq_soft_max is not None
    np.testing.assert_allclose(got.kq_soft_max.sum(axis=-1), 1, atol=1e-6)
    assert np.isfinite(got.out).all()
    if abs(value) < 1e-20:  # no score stands out: equal shares
        np.testing.assert_allclose(got.kq_soft_max[0, 2], [1 / 3, 1 / 3, 1 / 3, 0], atol=1e-6)
