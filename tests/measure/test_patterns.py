"""What heads do: by hand, and as a property of any attention."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggufscope.measure.patterns import (
    PATTERNS,
    Patterns,
    most_attended,
    patterns_of,
    sorted_heads,
)

Shares = npt.NDArray[np.float64]


def shares(heads: int, tokens: int, seed: int) -> Shares:
    scores = np.random.default_rng(seed).standard_normal((heads, tokens, tokens))
    raised = np.where(np.tri(tokens, dtype=bool), np.exp(3 * scores), 0)
    made: Shares = raised / raised.sum(axis=-1, keepdims=True)
    return made


def test_a_head_by_hand() -> None:
    weights = np.array(
        [[[1, 0, 0, 0], [0.25, 0.75, 0, 0], [0.5, 0.25, 0.25, 0], [0.1, 0.2, 0.3, 0.4]]]
    )
    patterns = patterns_of(weights, [7, 8, 7, 7])
    assert patterns.previous == pytest.approx([(0.25 + 0.25 + 0.3) / 3])
    assert patterns.first == pytest.approx([(0.25 + 0.5 + 0.1) / 3])
    assert patterns.itself == pytest.approx([(0.75 + 0.25 + 0.4) / 3])
    # token 2 sees an earlier 7 at 0; token 3 those at 0 and 2
    assert patterns.equal == pytest.approx([(0.5 + 0.4) / 2])
    # what followed the 7 at 0 is token 1: tokens 2 and 3 look at it; 3 follows 2 and is itself
    assert patterns.induction == pytest.approx([(0.25 + (0.2 + 0.0)) / 2])
    rows = [[0.25, 0.75], [0.5, 0.25, 0.25], [0.1, 0.2, 0.3, 0.4]]
    bits = [-sum(share * math.log2(share) for share in row) for row in rows]
    assert patterns.entropy == pytest.approx([np.mean(bits)])


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("previous", lambda t: max(t - 1, 0)),
        ("first", lambda t: 0),
        ("itself", lambda t: t),
        ("equal", lambda t: max(t - 3, 0)),
    ],
)
def test_a_head_that_does_one_thing_does_it_wholly(name: str, row: object) -> None:
    assert callable(row)
    tokens = 12
    weights = np.zeros((1, tokens, tokens), np.float32)
    for t in range(tokens):
        weights[0, t, row(t)] = 1
    patterns = patterns_of(weights, [t % 3 for t in range(tokens)])
    assert patterns.of(name) == pytest.approx([1.0])
    assert patterns.entropy == pytest.approx([0.0])
    others = [other for other in PATTERNS if other != name]
    assert all(patterns.of(other)[0] < 0.5 for other in others)


def test_one_token_and_no_equal_tokens_say_nothing() -> None:
    alone = patterns_of(np.ones((3, 1, 1)), [4])
    assert all(np.isnan(alone.of(name)).all() for name in [*PATTERNS, "entropy"])
    unequal = patterns_of(shares(2, 5, 0), [1, 2, 3, 4, 5])
    assert np.isnan(unequal.equal).all()
    assert np.isfinite(unequal.previous).all()


@given(st.integers(2, 14), st.integers(1, 4), st.integers(0, 99), st.data())
def test_shares_are_shares(tokens: int, heads: int, seed: int, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, 3), min_size=tokens, max_size=tokens))
    weights = shares(heads, tokens, seed)
    patterns = patterns_of(weights, ids)
    for name in PATTERNS:
        found = patterns.of(name)
        assert found.shape == (heads,)
        assert ((found >= 0) & (found <= 1 + 1e-9) | np.isnan(found)).all()
    for head in range(heads):  # the same, token by token
        rows = [
            sum(weights[head, t, s] for s in range(t) if ids[s] == ids[t])
            for t in range(1, tokens)
            if ids[t] in ids[:t]
        ]
        wanted = np.mean(rows) if rows else np.nan
        np.testing.assert_allclose(patterns.equal[head], wanted, atol=1e-12)
        after = [[s for s in range(1, t) if ids[s - 1] == ids[t]] for t in range(tokens)]
        rows = [weights[head, t, seen].sum() for t, seen in enumerate(after) if seen]
        wanted = np.mean(rows) if rows else np.nan
        np.testing.assert_allclose(patterns.induction[head], wanted, atol=1e-12)


def test_heads_are_sorted_over_all_layers() -> None:
    def layer(*previous: float) -> Patterns:
        numbers = np.array(previous)
        return Patterns(*[numbers] * 6)

    found = sorted_heads({0: layer(0.2, np.nan), 3: layer(0.9, 0.2)}, "previous")
    assert found == [(3, 0, 0.9), (0, 0, 0.2), (3, 1, 0.2)]


def test_the_most_attended_leave_out_what_gets_nothing() -> None:
    weights = np.array([[1, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]])
    assert most_attended(weights, 2) == [
        [(0, 1.0)],
        [(0, 0.5), (1, 0.5)],
        [(2, 0.5), (1, 0.3)],
    ]
