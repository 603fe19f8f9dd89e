"""Each operation against the C it stands for, written out as a loop over scalars."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ggufscope.blocks import ordered

F = np.float32
Lanes = npt.NDArray[np.float32]

NUMBERS = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.1, 3e38, -3e38, 1e-42, np.nan, np.inf, -np.inf])
LANES = arrays(np.float32, (16, 3), elements=NUMBERS)
TIES = np.array([[0.0, -0.0, -0.0], [-0.0, 0.0, -2.0], [np.nan, np.nan, 2.0]], np.float32)


def running_sum(lane: list[F]) -> F:
    total = F(0)
    for term in lane:
        total = F(total + term)
    return total


def running_min(lane: list[F]) -> F:
    low = lane[0]
    for v in lane[1:]:
        if v < low:
            low = v
    return low


def macro_max(lane: list[F]) -> F:
    high = lane[0]
    for v in lane[1:]:
        high = high if high > v else v
    return high


def running_max(lane: list[F]) -> F:
    high = lane[0]
    for v in lane[1:]:
        if v > high:
            high = v
    return high


def running_extreme(lane: list[F]) -> F:
    amax, most = F(0), F(0)
    for v in lane:
        if abs(v) > amax:
            amax, most = abs(v), v
    return most


def running_peak(lane: list[F]) -> F:
    return abs(running_extreme(lane))


@pytest.mark.parametrize(
    ("ours", "c"),
    [
        (ordered.smallest, running_min),
        (ordered.largest, running_max),
        (ordered.largest_by_macro, macro_max),
        (ordered.extreme, running_extreme),
        (ordered.peak, running_peak),
    ],
)
@given(x=LANES)
@example(x=TIES)
def test_selections_keep_c_s_order(
    ours: Callable[[Lanes], Lanes], c: Callable[[list[F]], F], x: Lanes
) -> None:
    expected = np.array([c(list(lane)) for lane in x.T], np.float32)
    assert ours(x).tobytes() == expected.tobytes()


@given(x=LANES)
def test_selections_from_a_start(x: Lanes) -> None:
    low = [running_min([ordered.LARGEST, *lane]) for lane in x.T]
    high = [running_max([-ordered.LARGEST, *lane]) for lane in x.T]
    assert ordered.smallest(x, ordered.LARGEST).tobytes() == np.array(low).tobytes()
    assert ordered.largest(x, -ordered.LARGEST).tobytes() == np.array(high).tobytes()


@given(x=arrays(np.float32, (3, 16), elements=NUMBERS))
def test_the_peak_of_rows_is_the_macro_s(x: Lanes) -> None:
    expected = []
    for row in np.abs(x):
        amax = F(0)
        for v in row:
            amax = amax if amax > v else v
        expected.append(amax)
    assert ordered.peak_of_rows(x).tobytes() == np.array(expected, np.float32).tobytes()


@pytest.mark.parametrize("lanes", [1, 2, 3, 7, 8, 9, 64, 1000])
@pytest.mark.parametrize("order", ["C", "F"])
def test_sums_add_row_after_row(lanes: int, order: str) -> None:
    rng = np.random.default_rng(lanes)
    for rows in (8, 16, 32, 128) if lanes < 64 else (32,):
        x = rng.standard_normal((rows, lanes), np.float32)
        terms = np.asfortranarray(x) if order == "F" else x
        expected = np.array([running_sum(list(lane)) for lane in x.T], np.float32)
        assert ordered.sum_rows(terms).tobytes() == expected.tobytes()


def test_a_sum_of_minus_zeros_is_plus_zero() -> None:
    for lanes in (1, 2):
        assert not np.signbit(ordered.sum_rows(np.full((4, lanes), -0.0, np.float32))).any()


@given(
    x=arrays(
        np.float32,
        20,
        elements=st.floats(width=32, allow_nan=False) | st.integers(-40, 40).map(lambda i: i / 2),
    )
)
def test_nearest_int_reads_the_bits(x: Lanes) -> None:
    with np.errstate(over="ignore"):
        ours = ordered.nearest_int(x).tolist()
    for value, found in zip(x, ours, strict=True):
        shifted = np.add(value, F(12582912))
        (bits,) = struct.unpack("<i", struct.pack("<f", shifted))
        assert found == (bits & 0x7FFFFF) - 0x400000
        if abs(value) < ordered.MAGIC_REACH:
            assert found == round(float(value))


def test_ties_go_away_from_zero() -> None:
    x = np.array([0.5, -0.5, 1.5, 2.5, -2.5, 0.49999997, -0.49999997, 126.5, 8388607.5, 0], F)
    expected = [1, -1, 2, 3, -3, 0, 0, 127, 8388608, 0]
    assert ordered.truncate(ordered.nudge_away(x)).tolist() == expected


def test_lanes_are_columns_and_come_back() -> None:
    x = np.arange(4 * 64 * 1024, dtype=np.float32).reshape(-1, 64)
    lanes = ordered.lanes_of(x, 16)
    assert lanes[:, 5].tolist() == x.reshape(-1)[80:96].tolist()
    assert ordered.rows_of(lanes, len(x)).tobytes() == x.tobytes()


def test_the_lanes_of_one_block_are_a_copy() -> None:
    x = np.ones((1, 32), np.float32)
    assert not np.shares_memory(ordered.lanes_of(x, 32), x)


def test_reciprocal_of_zero_is_zero() -> None:
    with np.errstate(divide="ignore"):
        assert ordered.reciprocal(np.array([0, -0.0, 4], F)).tolist() == [0, 0, 0.25]


def test_a_nan_becomes_the_canonical_half_and_keeps_its_sign() -> None:
    bits = np.array([0x7F800001, 0xFFC12345, 0x7FC00000, 0x3F800000], np.uint32)
    half = ordered.to_half(bits.view(np.float32))
    assert half.view(np.uint16).tolist() == [0x7E00, 0xFE00, 0x7E00, 0x3C00]
