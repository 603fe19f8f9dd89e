"""Dequantizing, held to ggml's ``dequantize_row_*`` and to gguf-py."""

from __future__ import annotations

from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from ggufscope.blocks.codec import CODECS, dequantize
from ggufscope.blocks.layouts import LAYOUTS, Layout
from tests.blocks.comparison import Tally
from tests.oracles import ggml_dequantize

# ggml reads no row of these: Q8_1 is met in dot products only, the others are numbers already.
WITHOUT_READER = {"F32", "F64", "I8", "I16", "I32", "I64", "Q8_1"}
READ = [layout for name, layout in LAYOUTS.items() if name not in WITHOUT_READER]
IN_GGUF_PY = [layout for name, layout in LAYOUTS.items() if hasattr(gguf.quants, name)]
MILLION = 1_000_000

pytestmark = pytest.mark.usefixtures("engine")


def random_blocks(layout: Layout, count: int, *, finite: bool) -> npt.NDArray[np.uint8]:
    """Random bytes (count, block_bytes); of the NaNs only the canonical ones."""
    rng = np.random.default_rng(layout.number)
    raw = rng.integers(0, 256, (count, layout.block_bytes), dtype=np.uint8)
    blocks: npt.NDArray[Any] = raw.view(layout.dtype)[:, 0]
    for field in layout.dtype.names or ():
        scales = blocks[field]
        if scales.dtype.kind == "f":
            if finite:
                scales[...] = rng.standard_normal(scales.shape) * 0.01
            else:
                scales[np.isnan(scales)] = np.nan
    return raw


def test_every_type_is_in_the_table() -> None:
    assert list(CODECS) == list(LAYOUTS)
    assert len(IN_GGUF_PY) >= 24


@pytest.mark.parametrize("count", [MILLION, pytest.param(4 * MILLION, marks=pytest.mark.slow)])
@pytest.mark.parametrize("layout", READ, ids=lambda layout: layout.name)
def test_random_blocks_as_ggml_reads_them(layout: Layout, count: int, tally: Tally) -> None:
    if layout.block_length == 1:
        packed = np.arange(1 << 16, dtype=np.uint16).view(np.uint8)  # every half, every bfloat
    else:
        packed = random_blocks(layout, count // layout.block_length, finite=False)
    ours, theirs = dequantize(packed, layout), ggml_dequantize(packed, layout)
    width = 4 * layout.block_length
    assert tally.compare(layout.name, "read, random", ours, theirs, width) == []


@pytest.mark.parametrize("layout", IN_GGUF_PY, ids=lambda layout: layout.name)
def test_the_values_of_gguf_py(layout: Layout) -> None:
    raw = random_blocks(layout, 1024, finite=True).reshape(16, -1)
    if layout.name == "BF16":
        raw.view("<u2")[...] &= 0xBF7F
    ours = dequantize(raw, layout)
    with np.errstate(all="ignore"):  # the scale of IQ1_M and MXFP4 is no field to tame
        theirs = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[layout.name])
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["F32", "F64", "I8", "I16", "I32", "I64"])
def test_numbers_are_read_as_numbers(name: str) -> None:
    numbers = np.array([[0, 1, -1, 100], [-128, 127, 3, 2]])
    kept = numbers.astype(LAYOUTS[name].dtype)
    assert dequantize(kept, name).tolist() == numbers.tolist()


def test_q8_1_is_read_as_q8_0_with_its_sum_ignored() -> None:
    block = np.zeros(1, LAYOUTS["Q8_1"].dtype)
    block["d"], block["s"], block["qs"][0, :3] = 0.5, 7, (2, -4, 127)
    assert dequantize(block, "Q8_1")[:4].tolist() == [1.0, -2.0, 63.5, 0.0]
