"""Numbers as text: what is lost, how small it is, and what the script reads of it."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggufscope.measure.maps import window
from ggufscope.report.packing import NO_NUMBER, Packed, decimals_of, pack
from tests.report.test_html import shares

Numbers = npt.NDArray[Any]


def seen(maps: Numbers) -> Numbers:
    """(H, R, C) -> (cells, H): what is left of the diagonal, the heads side by side."""
    rows, columns = maps.shape[-2:]
    there = np.tri(rows, columns, columns - rows, dtype=bool)
    found: Numbers = maps[:, there].T
    return found


def codes(packed: Packed) -> Numbers:
    raw = np.frombuffer(zlib.decompress(base64.b64decode(packed.text)), np.uint8).astype(np.int64)
    low, high = raw.reshape(2, -1)
    both: Numbers = low + 256 * high
    return both


def unpack(packed: Packed, heads: int, decimals: int) -> Numbers:
    """What the script does with a reference, in other words: (cells, H)."""
    levels = codes(packed).reshape(-1, heads)
    return np.where(levels == NO_NUMBER, np.nan, levels / (100 * 10**decimals))


def changes(packed: Packed, reference: Packed, heads: int, decimals: int) -> Numbers:
    """What the script does with a candidate: its differences, (cells, H)."""
    found = codes(packed)
    steps = np.where(found % 2, -(found + 1) // 2, found // 2).astype(float)
    steps[found == NO_NUMBER] = np.nan
    placed = np.empty_like(steps)
    placed[np.argsort(codes(reference), kind="stable")] = steps
    scale = 100 * 10**decimals * 10.0 ** np.array(packed.finer)
    apart: Numbers = placed.reshape(-1, heads) / scale
    return apart


@given(
    st.integers(1, 3),
    st.integers(1, 9),
    st.integers(0, 5),
    st.sampled_from([1, 2]),
    st.sampled_from([0, 1e-7, 1e-4, 0.01, 1]),
)
def test_less_is_lost_than_what_is_printed(
    heads: int, tokens: int, seed: int, decimals: int, apart: float
) -> None:
    p = shares(heads, tokens, seed)
    q = (1 - apart) * p + apart * shares(heads, tokens, seed + 1)
    q[0, -1] = 0  # from all to nothing, and the other way: the largest steps there are
    q[0, -1, 0] = 1
    p[0, -1] = 0
    p[0, -1, -1] = 1
    step = 1 / (100 * 10**decimals)
    reference, candidate = pack(p, decimals), pack(q, decimals, p)
    x = unpack(reference, heads, decimals)
    d = changes(candidate, reference, heads, decimals)
    half = 0.5000001 * step
    np.testing.assert_allclose(x, seen(p), atol=half)
    np.testing.assert_allclose(x + d, seen(q), atol=2 * half)
    for head, finer in enumerate(candidate.finer):
        # As exact as a difference of two printed shares, and ten times better for each decimal.
        gap = seen(q)[:, head] - seen(p)[:, head]
        np.testing.assert_allclose(d[:, head], gap, atol=2 * half / 10**finer)
        assert candidate.largest[head] == pytest.approx(np.abs(gap).max())
    same = changes(pack(p, decimals, p), reference, heads, decimals)
    np.testing.assert_array_equal(same, 0)


def test_what_is_no_number_stays_none() -> None:
    p, q = shares(2, 4, 1), shares(2, 4, 2)
    p[0, 2, :3] = np.nan
    q[1, 3, :4] = np.inf
    reference, candidate = pack(p, 2), pack(q, 2, p)
    x, d = unpack(reference, 2, 2), changes(candidate, reference, 2, 2)
    np.testing.assert_array_equal(np.isnan(x), np.isnan(seen(p)))
    np.testing.assert_array_equal(np.isnan(d), ~np.isfinite(seen(q) - seen(p)))
    assert np.isfinite(candidate.largest).all()


def test_what_is_shown_of_a_long_prompt_is_packed_with_the_earlier_column() -> None:
    p = window(shares(2, 20, 1), 5)
    x = unpack(pack(p, 2), 2, 2)
    assert len(x) == sum(r + 2 for r in range(5))
    np.testing.assert_allclose(x, seen(p), atol=0.5e-4)


def test_a_small_page_has_more_decimals() -> None:
    assert decimals_of(4 * 4 * 8 * 40) == 2
    assert decimals_of(4 * 32 * 32 * 52 * 52 // 2) == 1


def test_thirty_two_layers_of_thirty_two_heads_and_three_candidates_take_four_megabytes() -> None:
    """With 52 tokens; heads that look here and there, as those of trained models do."""
    p, q = shares(32, 52, 1), shares(32, 52, 2)
    took = len(pack(p, 1).text)
    took += sum(len(pack((1 - part) * p + part * q, 1, p).text) for part in (0.002, 0.02, 0.1))
    assert 32 * took < 4_000_000
