"""The identities on arrays: they hold where they should, and fail where something is wrong."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggufscope.forward import ops
from ggufscope.forward.attention import attend
from ggufscope.measure import identities
from tests.forward.arrays import ArrayMatrix

Floats = npt.NDArray[np.float32]


def numbers(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def attention(
    tokens: int, heads: int, groups: int, size: int, width: int, seed: int = 0, **more: Any
) -> tuple[tuple[Floats, Floats, Floats], Any]:
    q, k, v = (
        numbers(tokens, n, extent, seed=seed + i)
        for i, (n, extent) in enumerate([(heads, size), (groups, size), (groups, width)])
    )
    keep = frozenset({"kq_soft_max", "kqv"})
    return (q, k, v), attend(q, k, v, scale=size**-0.5, keep=keep, **more)


def test_eight_heads_of_4_by_64_are_4_by_512() -> None:
    _, found = attention(4, 8, 8, 64, 64)
    assert found.kqv.shape == (8, 4, 64)
    assert found.out.shape == (4, 512)
    assert identities.heads_side_by_side(found.kqv, found.out) == 0
    mixed = found.kqv[[1, 0, *range(2, 8)]]
    assert identities.heads_side_by_side(mixed, found.out) > 0.1
    assert identities.heads_side_by_side(found.kqv[:7], found.out) == math.inf


@given(
    st.integers(1, 12),
    st.sampled_from([(4, 4), (4, 2), (4, 1), (6, 3)]),
    st.sampled_from([(8, 8), (4, 6)]),
    st.sampled_from([None, 1, 3]),
    st.sampled_from([None, 2.0]),
)
def test_every_identity_holds_for_any_attention(
    tokens: int,
    grouping: tuple[int, int],
    sizes: tuple[int, int],
    window: int | None,
    cap: float | None,
) -> None:
    (q, k, v), found = attention(tokens, *grouping, *sizes, window=window, cap=cap)
    setting: dict[str, Any] = {"scale": sizes[0] ** -0.5, "window": window, "cap": cap}
    assert identities.rows_sum_to_one(found.kq_soft_max) < 1e-6
    assert identities.nothing_from_the_future(found.kq_soft_max) == 0
    assert identities.heads_side_by_side(found.kqv, found.out) == 0
    assert identities.groups_are_copies(q, k, v, found.out, **setting) < 1e-6
    w_o = ArrayMatrix("w", numbers(10, grouping[0] * sizes[1], seed=9))
    assert identities.heads_add_up(found.out, w_o, grouping[0]) < 1e-5
    loop = identities.scalar_attention(q, k, v, **setting)
    assert identities.relative(loop, found.out) < 1e-5


def test_a_row_that_does_not_sum_to_one_is_seen() -> None:
    weights = np.eye(3)[None].copy()
    weights[0, 1, 0] = 0.25
    assert identities.rows_sum_to_one(weights) == 0.25
    weights[0, 2, 2] = np.nan
    assert math.isnan(identities.rows_sum_to_one(weights))


def test_a_share_of_a_later_token_is_seen() -> None:
    weights = np.tri(4)[None].copy()
    assert identities.nothing_from_the_future(weights) == 0
    weights[0, 1, 2] = 1e-30
    assert identities.nothing_from_the_future(weights) == 1e-30
    # with a cache the rows are those of the last tokens
    assert identities.nothing_from_the_future(np.tri(2, 5, 3)[None]) == 0
    assert identities.nothing_from_the_future(np.tri(2, 5, 4)[None]) == 1


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_heads_add_up_whatever_their_size_and_a_lost_one_is_seen(size: float) -> None:
    out, w_o = numbers(5, 8) * np.float32(size), ArrayMatrix("w", numbers(600, 8, seed=1))
    assert identities.heads_add_up(out, w_o, 4) < 1e-5
    assert identities.heads_add_up(out, w_o, 3) > 0.1  # three heads of two leave two numbers out
    assert identities.heads_add_up(out * 0, w_o, 4) == 0
    out[2, 3] = np.nan
    assert math.isnan(identities.heads_add_up(out, w_o, 4))


def test_heads_given_to_the_wrong_group_are_seen() -> None:
    (q, k, v), found = attention(6, 4, 2, 8, 8)
    wrong = attend(q[:, [0, 2, 1, 3]], k, v, scale=8**-0.5).out
    setting: dict[str, Any] = {"scale": 8**-0.5, "window": None, "cap": None}
    assert identities.groups_are_copies(q, k, v, wrong, **setting) > 0.1
    assert identities.groups_are_copies(q, k, v, found.out, **setting) < 1e-6
    assert identities.relative(identities.scalar_attention(q, k, v, **setting), wrong) > 0.1


@pytest.mark.parametrize("change", [{"scale": 0.3}, {"window": 4}, {"cap": None}])
def test_a_wrong_scale_window_or_cap_is_seen(change: dict[str, Any]) -> None:
    right: dict[str, Any] = {"scale": 8**-0.5, "window": 3, "cap": 2.0}
    wrong = right | change
    (q, k, v), _ = attention(8, 4, 2, 8, 8)
    out = attend(q, k, v, **right).out
    assert identities.relative(identities.scalar_attention(q, k, v, **right), out) < 1e-5
    assert identities.relative(identities.scalar_attention(q, k, v, **wrong), out) > 1e-3


@given(st.integers(2, 9), st.integers(0, 99))
def test_the_documents_loop_is_what_arrays_compute(tokens: int, seed: int) -> None:
    """16 dimensions in 4 heads, RMSNorm first, one token at a time, keys and values appended."""
    x = numbers(tokens, 16, seed=seed)
    q, k, v, o = (numbers(16, 16, seed=seed + n) * np.float32(0.25) for n in range(1, 5))
    normed = ops.rms_norm(x, None, identities.EPSILON)
    parts = [(normed @ w.T).reshape(tokens, 4, 4) for w in (q, k, v)]
    wanted = attend(*parts, scale=0.5).out @ o.T
    loop = identities.documents_loop(x, q, k, v, o)
    assert loop.shape == (tokens, 16)
    assert identities.relative(loop, wanted) < 1e-5
    # a token's past does not know of it
    assert identities.relative(identities.documents_loop(x[:-1], q, k, v, o), loop[:-1]) == 0


def test_relative_is_to_the_largest_number() -> None:
    assert identities.relative(np.array([3.0, 1.0]), np.array([4.0, 1.0])) == 0.25
    assert identities.relative(np.zeros(2), np.zeros(2)) == 0
    assert identities.relative(np.ones(2), np.zeros(2)) == 1
    assert math.isnan(identities.relative(np.array([np.nan]), np.ones(1)))
