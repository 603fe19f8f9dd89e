"""Products with stored blocks, and the errors of these: kernels held to NumPy's float64."""

from __future__ import annotations

import numpy as np
import pytest

from ggufscope.arrays import Array, Blocks, Doubles, Floats, Mask
from ggufscope.blocks.codec import dequantize, quantize
from ggufscope.blocks.kernels import Kernels, load
from ggufscope.blocks.layouts import LAYOUTS, Layout
from ggufscope.measure.metrics.tensors import weight_error
from tests.blocks.test_dequantize import random_blocks
from tests.blocks.test_kernels import READ, built, kernels

__all__ = ["built", "kernels"]  # fixtures, which pytest finds by their names here

TYPES = [LAYOUTS["F32"], *READ]
RNG = np.random.default_rng(11)


def multiplied(kernels: Kernels, layout: Layout, blocks: Blocks, x: Floats) -> Floats:
    out = np.full((len(x), len(blocks)), np.nan, np.float32)
    kernels.multiply(layout, blocks, kernels.cut(x), out)
    return out


def matrix(layout: Layout, rows: int, row: int) -> tuple[Blocks, Floats]:
    """Random blocks (rows, n), and the weights that they hold."""
    if layout.name in ("F32", "F16", "BF16"):  # random bits would be of every size
        blocks = quantize(RNG.standard_normal((rows, row)).astype(np.float32), layout)
    else:
        raw = random_blocks(layout, rows * row // layout.block_length, finite=True)
        blocks = np.ascontiguousarray(raw).reshape(-1).view(layout.dtype).reshape(rows, -1)
    return blocks, dequantize(blocks, layout)


def close(got: Floats, x: Floats, weights: Floats) -> bool:
    """Whether products are those of float64, but for the rounding of sums in float32.

    Where a weight is no number, the products of its row are none.
    """
    numbers: Mask = np.asarray(np.isfinite(weights).all(axis=1))
    wide: Doubles = np.where(numbers[:, None], weights, 0).astype(np.float64)
    exact = x.astype(np.float64) @ wide.T
    bound = 1e-6 * (np.abs(x).astype(np.float64) @ np.abs(wide).T)
    fits: Mask = numbers & (bound < 1e30).all(axis=0)
    with np.errstate(all="ignore"):
        near: Mask = np.abs(got - exact) <= bound + 1e-37
    return bool(near[:, fits].all() and not np.isfinite(got[:, ~numbers]).any())


@pytest.mark.parametrize("layout", TYPES, ids=lambda layout: layout.name)
def test_products_are_those_of_the_decoded_weights(kernels: Kernels, layout: Layout) -> None:
    length = layout.block_length
    rows_of = (1, 15, 17, 1023, 1025, 2100) if length == 1 else (length, 1024 + length, 2560)
    for row in rows_of:
        if row % length:
            continue
        blocks, weights = matrix(layout, 13, row)
        x = RNG.standard_normal((14, row)).astype(np.float32)
        for tokens in (*range(1, 10), 14):
            assert close(multiplied(kernels, layout, blocks, x[:tokens]), x[:tokens], weights), (
                row,
                tokens,
            )


@pytest.mark.parametrize("name", ["F32", "F16", "Q4_K", "Q8_0"])
def test_each_sum_takes_no_notice_of_the_others(kernels: Kernels, name: str) -> None:
    layout = LAYOUTS[name]
    blocks, _ = matrix(layout, 131, 1280)
    x = RNG.standard_normal((40, 1280)).astype(np.float32)
    whole = multiplied(kernels, layout, blocks, x)
    for first, last in ((0, 1), (3, 9), (17, 40)):
        assert np.array_equal(multiplied(kernels, layout, blocks, x[first:last]), whole[first:last])
    for first, last in ((0, 1), (5, 72), (130, 131)):
        part = multiplied(kernels, layout, blocks[first:last], x)
        assert np.array_equal(part, whole[:, first:last])


def test_a_type_changes_nothing_but_the_numbers(kernels: Kernels) -> None:
    blocks, weights = matrix(LAYOUTS["Q5_K"], 30, 2048)
    x = RNG.standard_normal((7, 2048)).astype(np.float32)
    ours = multiplied(kernels, LAYOUTS["Q5_K"], blocks, x)
    assert np.array_equal(ours, multiplied(kernels, LAYOUTS["F32"], weights, x))


def test_instruction_sets_that_round_once_give_the_same_bits(kernels: Kernels) -> None:
    others = [k for k in load()[0].values() if k.instruction_set != "baseline"]
    if kernels.instruction_set == "baseline":
        return  # SSE2 rounds products before it adds them
    blocks, _ = matrix(LAYOUTS["Q6_K"], 21, 1536)
    x = RNG.standard_normal((8, 1536)).astype(np.float32)
    ours = multiplied(kernels, LAYOUTS["Q6_K"], blocks, x)
    for other in others:
        assert np.array_equal(ours, multiplied(other, LAYOUTS["Q6_K"], blocks, x))


def test_what_is_no_number_comes_out_as_none(kernels: Kernels) -> None:
    weights = RNG.standard_normal((9, 300)).astype(np.float32)
    for row, bad in ((2, np.nan), (5, np.inf), (8, -np.inf)):
        weights[row, 7 * row] = bad
    x = RNG.standard_normal((5, 300)).astype(np.float32)
    x[:, 35] = 0  # zero times infinity
    got = multiplied(kernels, LAYOUTS["F32"], weights, x)
    assert np.isfinite(got).all(axis=0).tolist() == [row not in (2, 5, 8) for row in range(9)]
    x[3, 299] = np.inf
    got = multiplied(kernels, LAYOUTS["F32"], weights, x)
    assert not np.isfinite(got[3]).any()
    assert np.isfinite(got[4, :2]).all()


def test_edges_of_float32_are_multiplied(kernels: Kernels) -> None:
    for weight, other in ((3e38, 3e38), (1e-45, 1.0), (-0.0, 5.0), (1e-30, 1e-30), (0.0, 0.0)):
        weights, x = (np.full((2, 40), n, np.float32) for n in (weight, other))
        with np.errstate(all="ignore"):
            expected = (x[0] * weights[0]).sum(dtype=np.float64).astype(np.float32)
        assert multiplied(kernels, LAYOUTS["F32"], weights, x)[0, 0] == expected


def test_only_the_columns_of_these_rows_are_written(kernels: Kernels) -> None:
    blocks, weights = matrix(LAYOUTS["Q8_0"], 11, 64)
    x = RNG.standard_normal((7, 64)).astype(np.float32)
    y = np.full((7, 30), 5, np.float32)
    kernels.multiply(LAYOUTS["Q8_0"], blocks, kernels.cut(x), y[:, 4:15])
    assert close(y[:, 4:15], x, weights)
    assert (y[:, :4] == 5).all()
    assert (y[:, 15:] == 5).all()


def test_nothing_of_nothing(kernels: Kernels) -> None:
    blocks, _ = matrix(LAYOUTS["Q8_0"], 3, 64)
    assert multiplied(kernels, LAYOUTS["Q8_0"], blocks[:0], np.ones((2, 64), "f")).shape == (2, 0)
    assert multiplied(kernels, LAYOUTS["Q8_0"], blocks, np.ones((0, 64), "f")).shape == (0, 3)


def test_what_does_not_fit_is_not_multiplied(kernels: Kernels) -> None:
    layout = LAYOUTS["Q8_0"]
    blocks, _ = matrix(layout, 4, 2048)
    x, out = np.zeros((3, 2048), np.float32), np.zeros((3, 4), np.float32)
    pieces = kernels.cut(x)
    refused: list[tuple[Array, Array, Array]] = [
        (blocks[:, :32], pieces, out),
        (blocks[:3], pieces, out),
        (blocks, pieces[:1], out),
        (blocks, pieces[:, :2], out),
        (blocks, x, out),
        (blocks, pieces, out[:, ::2]),
        (blocks, pieces, out.astype(np.float64)),
        (blocks.view(np.uint8), pieces, out),
    ]
    for wrong in refused:
        with pytest.raises(ValueError, match="no kernel multiplies Q8_0"):
            kernels.multiply(layout, *wrong)
    with pytest.raises(ValueError, match="no kernel multiplies F64"):
        kernels.multiply(LAYOUTS["F64"], np.zeros((4, 2048)), pieces, out)
    with pytest.raises(ValueError, match="no kernel compares Q8_0"):
        kernels.error(layout, blocks, x)


@pytest.mark.parametrize("layout", TYPES, ids=lambda layout: layout.name)
def test_errors_are_those_of_the_decoded_weights(kernels: Kernels, layout: Layout) -> None:
    row = 2 * layout.block_length if layout.block_length > 1 else 1111
    blocks, weights = matrix(layout, 9, row)
    kept = np.isfinite(weights).all(axis=1)
    blocks, weights = blocks[kept], weights[kept]
    reference = weights + RNG.standard_normal(weights.shape).astype(np.float32)
    got, expected = kernels.error(layout, blocks, reference), weight_error(reference, weights)
    assert got.n == expected.n
    assert got.largest == expected.largest
    for name in ("squared_error", "squared_weights"):
        wanted = pytest.approx(getattr(expected, name), rel=1e-13)
        assert getattr(got, name) == wanted


def test_errors_of_what_is_no_number(kernels: Kernels) -> None:
    weights = np.ones((2, 40), np.float32)
    reference = weights.copy()
    reference[1, 3] = np.nan
    reference[0, 3] = 4
    error = kernels.error(LAYOUTS["F32"], weights, reference)
    assert np.isnan(error.squared_error)
    assert error.largest == 3
