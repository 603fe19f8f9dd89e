from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ggufscope.blocks.packing import (
    EVEN_SIGNS,
    pack_fields,
    pack_scales_mins,
    pack_sixteen_scales,
    planes,
    read_fields,
    unpack_fields,
    unpack_scales_mins,
    unpack_sixteen_scales,
)

SHAPES = [(4, 16), (4, 32), (4, 64), (4, 8), (4, 1), (2, 32), (2, 1), (2, 4), (1, 32), (1, 1)]


def sixes(count: int) -> st.SearchStrategy[npt.NDArray[np.uint8]]:
    return arrays(np.uint8, (3, count), elements=st.integers(0, 63))


@pytest.mark.parametrize(("bits", "apart"), SHAPES)
@given(packed=arrays(np.uint8, (3, 64)))
def test_fields_make_the_round_trip(packed: npt.NDArray[np.uint8], bits: int, apart: int) -> None:
    fields = unpack_fields(packed, bits, apart)
    assert fields.shape == (3, 64 * 8 // bits)
    assert fields.max() < 1 << bits
    assert pack_fields(fields, bits, apart).tolist() == packed.tolist()


@pytest.mark.parametrize(("bits", "apart"), SHAPES)
def test_fields_are_where_the_picture_says(bits: int, apart: int) -> None:
    packed = np.random.default_rng(bits).integers(0, 256, (2, 64), dtype=np.uint8)
    fields = unpack_fields(packed, bits, apart)
    per_byte = 8 // bits
    for weight in range(fields.shape[1]):
        group, inside = divmod(weight, apart * per_byte)
        place, byte = divmod(inside, apart)
        whole = packed[:, group * apart + byte].astype(int)
        expected = whole >> place * bits & (1 << bits) - 1
        assert fields[:, weight].tolist() == expected.tolist()


def test_fields_are_moved_up_and_lowered() -> None:
    packed = np.array([[0b11100100]], np.uint8)
    assert unpack_fields(packed, 2, 1).tolist() == [[0, 1, 2, 3]]
    raised = unpack_fields(packed, 2, 1, up=4, zero=32)
    assert raised.view(np.int8).tolist() == [[-32, -16, 0, 16]]
    assert [plane.tolist() for plane in planes(packed, 4, up=2)] == [[[16]], [[56]]]
    read = np.empty((1, 4), np.float32)
    read_fields(packed, 2, 1, 1, read)
    assert read.tolist() == [[-1, 0, 1, 2]]


@given(scales=sixes(8), minimums=sixes(8))
def test_six_bit_pairs_make_the_round_trip(
    scales: npt.NDArray[np.uint8], minimums: npt.NDArray[np.uint8]
) -> None:
    packed = pack_scales_mins(scales, minimums)
    assert packed.shape == (3, 12)
    again = unpack_scales_mins(packed)
    assert [part.tolist() for part in again] == [scales.tolist(), minimums.tolist()]


def test_six_bit_pairs_are_where_the_picture_says() -> None:
    scales, minimums = np.zeros((1, 8), np.uint8), np.zeros((1, 8), np.uint8)
    scales[0, 1], minimums[0, 1] = 0b000001, 0b000010
    scales[0, 5], minimums[0, 5] = 0b010011, 0b100100
    packed = pack_scales_mins(scales, minimums)[0]
    assert {i: bin(byte) for i, byte in enumerate(packed) if byte} == {
        1: "0b1000001",  # ssSSSSSS
        5: "0b10000010",  # mmMMMMMM
        9: "0b1000011",  # mmmmssss
    }


@given(scales=sixes(16))
def test_sixteen_scales_make_the_round_trip(scales: npt.NDArray[np.uint8]) -> None:
    packed = pack_sixteen_scales(scales)
    assert packed.shape == (3, 12)
    assert unpack_sixteen_scales(packed).tolist() == scales.tolist()


def test_signs_are_even() -> None:
    assert (np.bitwise_count(EVEN_SIGNS) % 2 == 0).all()
    assert (EVEN_SIGNS & 127).tolist() == list(range(128))
