"""Each entry of each codebook, as real ggml reads a block that asks for it."""

from __future__ import annotations

import numpy as np
import pytest

from ggufscope.arrays import Grid
from ggufscope.blocks import grids
from ggufscope.blocks.layouts import LAYOUTS
from tests.oracles import ggml_dequantize

# How far a block with d = 1 and every other scale 0 lies from its grid: a factor, and a shift.
GRIDS = [
    ("IQ1_S", grids.IQ1_S, 1, 0.125),
    ("IQ2_XXS", grids.IQ2_XXS, 8, 0),
    ("IQ2_XS", grids.IQ2_XS, 8, 0),
    ("IQ2_S", grids.IQ2_S, 8, 0),
    ("IQ3_XXS", grids.IQ3_XXS, 4, 0),
    ("IQ3_S", grids.IQ3_S, 1, 0),
]


@pytest.mark.parametrize(("name", "grid", "factor", "shift"), GRIDS, ids=[g[0] for g in GRIDS])
def test_every_entry_is_ggmls(name: str, grid: Grid, factor: int, shift: float) -> None:
    layout = LAYOUTS[name]
    index = np.arange(len(grid))
    blocks = np.zeros(len(grid), layout.dtype)
    blocks["d"] = 1
    if "qh" in (layout.dtype.names or ()):
        blocks["qs"][:, 0] = index & 0xFF
        blocks["qh"][:, 0] = index >> 8
    else:
        blocks["qs"][:, 0] = index
    read = ggml_dequantize(blocks, layout).reshape(len(grid), -1)[:, : grid.shape[1]]
    np.testing.assert_array_equal(read * factor - shift, grid)


@pytest.mark.parametrize(("name", "grid", "factor", "shift"), GRIDS, ids=[g[0] for g in GRIDS])
def test_entries_rise(name: str, grid: Grid, factor: int, shift: float) -> None:
    levels, digits = np.unique(grid, return_inverse=True)
    numbers = digits.reshape(grid.shape) @ len(levels) ** np.arange(grid.shape[1])
    assert (np.diff(numbers) > 0).all()


def test_lookup_gives_the_vectors_one_after_the_other() -> None:
    index = np.array([[0, 255], [7, 7]])
    expected = [[*grids.IQ3_XXS[0], *grids.IQ3_XXS[255]], [*grids.IQ3_XXS[7], *grids.IQ3_XXS[7]]]
    assert grids.lookup(grids.IQ3_XXS, index).tolist() == expected
