"""Blocks small enough to follow with a pencil."""

from __future__ import annotations

import numpy as np

from ggufscope.blocks.codec import dequantize, quantize
from ggufscope.blocks.layouts import LAYOUTS


def test_q8_0_made_by_hand() -> None:
    # The largest magnitude, 127, gets the level 127: so d = 1 and the levels are the weights,
    # rounded to nearest, ties away from zero.
    x = np.zeros(32, np.float32)
    x[:6] = [127, -127, 0.5, -0.5, 2.4, -3.6]
    (block,) = quantize(x, "Q8_0")
    assert block["d"] == 1.0
    assert block["qs"].tolist() == [127, -127, 1, -1, 2, -4] + [0] * 26
    #        d = 1.0 is 0x3c00      127   -127   1     -1    2     -4
    assert block.tobytes().hex() == "003c" + "7f8101ff02fc" + "00" * 26
    assert dequantize(block.tobytes(), "Q8_0")[:6].tolist() == [127, -127, 1, -1, 2, -4]


def test_q4_k_read_by_hand() -> None:
    # weight = d * scale * level - dmin * minimum
    block = np.zeros(1, LAYOUTS["Q4_K"].dtype)
    block["d"], block["dmin"] = 0.5, 0.25
    # Sub-blocks 0 and 1 share the first 32 bytes of qs, a nibble each; so do 6 and 7 the last.
    block["scales"][0, 0], block["scales"][0, 4] = 3, 2  # scale 3, minimum 2 of sub-block 0
    block["scales"][0, 1], block["scales"][0, 5] = 1, 63  # scale 1, minimum 63 of sub-block 1
    # Sub-block 7: scale 0b10_0101 = 37, its top two bits above the scale of 3, in byte 3; minimum
    # 0b01_0010 = 18, its top two bits above the minimum of 3, in byte 7; the rest in byte 11.
    block["scales"][0, 3], block["scales"][0, 7] = 0b10_000000, 0b01_000000
    block["scales"][0, 11] = 0b0010_0101
    block["qs"][0, 0], block["qs"][0, 127] = 0xF1, 0x2F
    weights = dequantize(block, "Q4_K")
    assert weights[0] == 0.5 * 3 * 1 - 0.25 * 2
    assert weights[1] == 0.5 * 3 * 0 - 0.25 * 2
    assert weights[32] == 0.5 * 1 * 15 - 0.25 * 63
    assert weights[255] == 0.5 * 37 * 2 - 0.25 * 18
    assert weights[223] == 0.5 * 0 * 15 - 0.25 * 0


def test_q4_k_made_by_hand() -> None:
    # Each sub-block counts 0, 2, ..., 30 twice: 16 levels, exactly 2 apart, from a minimum of 0.
    # The first fit has no error, so no try can be better. The largest scale, 2, is stored as 63:
    # so d = half(2 / 63) = 0.031738, a little less than it should be, and the levels stay.
    x = np.tile(np.arange(16, dtype=np.float32) * 2, 16)
    (block,) = quantize(x, "Q4_K")
    assert block["d"] == np.float16(2 / 63)
    assert block["dmin"] == 0
    # Scale 63 = 0b11_1111 everywhere, minimum 0: ssSSSSSS four times, mmMMMMMM, mmmmssss.
    assert block["scales"].tolist() == [0xFF] * 4 + [0] * 4 + [0x0F] * 4
    # Weight l of an even sub-block in the low nibble, of an odd one in the high nibble.
    assert block["qs"].tolist() == [level * 0x11 for level in range(16)] * 8
    assert dequantize(block.tobytes(), "Q4_K")[15] == np.float32(np.float16(2 / 63)) * 63 * 15


def test_q2_k_read_by_hand() -> None:
    # weight = d * scale * level - dmin * minimum; scale and minimum are the nibbles of a byte.
    block = np.zeros(1, LAYOUTS["Q2_K"].dtype)
    block["d"], block["dmin"] = 2, 0.5
    block["scales"][0, 0], block["scales"][0, 2], block["scales"][0, 15] = 0x31, 0x05, 0xF0
    # Byte 0 holds weights 0, 32, 64 and 96, from its low bits up: levels 2, 3, 0, 1.
    block["qs"][0, 0] = 0b01_00_11_10
    weights = dequantize(block, "Q2_K")
    assert weights[0] == 2 * 1 * 2 - 0.5 * 3
    assert weights[32] == 2 * 5 * 3 - 0.5 * 0
    assert weights[96] == 0
    assert weights[255] == 2 * 0 * 0 - 0.5 * 15


def test_q2_k_made_by_hand() -> None:
    # Each sub-block counts -1, 0, 1, 2: four levels, 1 apart, from a minimum of -1. Scale and
    # minimum are 1 everywhere; both are the largest, so both are stored as 15.
    x = np.tile(np.array([-1, 0, 1, 2], np.float32), 64)
    (block,) = quantize(x, "Q2_K")
    assert block["scales"].tolist() == [0xFF] * 16
    assert block["d"] == block["dmin"] == np.float16(1 / 15)
    # A byte holds four weights that lie 32 apart, and so are equal: 0b00000000, 0b01010101, ...
    assert block["qs"].tolist() == [0x00, 0x55, 0xAA, 0xFF] * 16
