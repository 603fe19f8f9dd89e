"""How a tensor is cut into jobs."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import pytest

from ggufscope.recipes.jobs import cut


@pytest.mark.parametrize("buffer_bytes", [1, 4 * 8, 4 * 8 * 3, 4 * 8 * 100])
@pytest.mark.parametrize("shape", [(), (8,), (7, 8), (4, 5, 8), (2, 4, 5, 8), (3, 1, 8)])
def test_each_row_once_and_no_job_leaves_a_slice(shape: tuple[int, ...], buffer_bytes: int) -> None:
    jobs = list(cut(shape, buffer_bytes))
    assert jobs[0][0] == 0
    assert sum(jobs[-1]) == prod(shape[:-1])
    for (first, rows), (following, _) in pairwise(jobs):
        assert first + rows == following
    in_slice = shape[-2] if len(shape) > 1 else 1
    for first, rows in jobs:
        assert 0 < rows * 8 * 4 <= max(buffer_bytes, 8 * 4)
        assert first // in_slice == (first + rows - 1) // in_slice


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 8), (2, 0, 8), (0, 2, 8)])
def test_a_tensor_without_weights_is_no_job(shape: tuple[int, ...]) -> None:
    assert list(cut(shape, 64)) == []


def test_a_slice_that_fits_is_one_job() -> None:
    assert list(cut((3, 4, 8), 1 << 20)) == [(0, 4), (4, 4), (8, 4)]
