"""Quantizing, held to ``ggml_quantize_chunk``: the same bytes, whatever the weights are."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from ggufscope.blocks.codec import CODECS, dequantize, quantize
from ggufscope.blocks.layouts import LAYOUTS, SUPER, Layout
from tests.blocks.comparison import Tally
from tests.blocks.searched import TYPES
from tests.blocks.weights import finite_edges, other_edges, random_weights, side_by_side
from tests.oracles import ggml_accepts, ggml_dequantize, ggml_quantize

MADE = [LAYOUTS[name] for name, codec in CODECS.items() if codec.quantize and name not in TYPES]
FINITE, OTHER = dict(finite_edges()), dict(other_edges())
NAMES, X = side_by_side(FINITE | OTHER)
MILLION = 1_000_000

pytestmark = pytest.mark.usefixtures("engine")


@cache
def made_by_ggml(layout: Layout, count: int) -> npt.NDArray[np.uint8]:
    """What both engines are held to: so many random weights, or each edge, made once."""
    return ggml_quantize(random_weights(count) if count else X, layout)


def test_the_types_to_make_are_made() -> None:
    simple = {"F32", "F16", "BF16", "Q1_0", "Q2_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"}
    super_blocks = {"Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "TQ1_0", "TQ2_0"}
    assert {layout.name for layout in MADE} == simple | super_blocks | {"IQ4_NL", "MXFP4", "NVFP4"}


@pytest.mark.parametrize("count", [MILLION // 2, pytest.param(4 * MILLION, marks=pytest.mark.slow)])
@pytest.mark.parametrize("layout", MADE, ids=lambda layout: layout.name)
def test_a_bulk_of_weights_both_ways(layout: Layout, count: int, tally: Tally) -> None:
    x = random_weights(count)
    ours, theirs = quantize(x, layout), made_by_ggml(layout, count)
    width = layout.block_bytes
    assert tally.compare(layout.name, "made, bulk", ours, theirs, width) == []
    assert ggml_accepts(ours, layout)
    if layout.name != "F32":
        read = dequantize(theirs, layout)
        width = 4 * layout.block_length
        expected = ggml_dequantize(theirs, layout)
        assert tally.compare(layout.name, "read, bulk", read, expected, width) == []


@pytest.mark.parametrize("layout", MADE, ids=lambda layout: layout.name)
def test_edge_data(layout: Layout, tally: Tally) -> None:
    ours, theirs = quantize(X, layout, check_finite=False), made_by_ggml(layout, 0)
    found = tally.compare(layout.name, "made, edges", ours, theirs, layout.block_bytes)
    assert {NAMES[number * layout.block_length // X.shape[1]] for number in found} == set()


@pytest.mark.parametrize("layout", MADE, ids=lambda layout: layout.name)
def test_a_block_alone_is_made_as_among_others(layout: Layout) -> None:
    # With one lane only, NumPy would add a column in pairs; and a transposed row is no copy.
    x = np.concatenate([FINITE["jumps each 32"][:8], FINITE["small jumps each 16"][:8]])
    x = x.reshape(-1, max(layout.block_length, 32))[:24].copy()
    before = x.copy()
    together = quantize(x, layout)
    for row, expected in zip(x, together, strict=True):
        assert quantize(row, layout).tobytes() == expected.tobytes()
    assert x.tobytes() == before.tobytes()


@pytest.mark.parametrize("layout", MADE, ids=lambda layout: layout.name)
def test_weights_come_back_near(layout: Layout) -> None:
    x = random_weights(64 * SUPER, seed=3)[:32]
    near = dequantize(quantize(x, layout), layout)
    error = np.abs(near - x).max() / np.abs(x).max()
    assert error < {"Q1_0": 1.1, "Q2_0": 0.6, "TQ1_0": 0.6, "TQ2_0": 0.6}.get(layout.name, 0.3)
