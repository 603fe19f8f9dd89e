"""What each weight counts in a fit, where columns have an importance."""

from __future__ import annotations

import numpy as np

from ggufscope.arrays import Floats
from ggufscope.blocks.ordered import lanes_of, sum_rows


def by_column(importance: Floats, lanes: Floats) -> Floats:
    """Return importance (row,) in the shape of the lanes of (rows, row): that of each column."""
    runs = importance.reshape(-1, len(lanes))
    return np.tile(runs.T, lanes.shape[1] // len(runs))


def by_column_and_size(
    importance: Floats, lanes: Floats, x: Floats, length: int, times: int
) -> Floats:
    """x (rows, row), its lanes (k, lanes) -> (k, lanes): importance * sqrt(mean + x * x).

    The mean is ``times`` the mean square of the ``length`` weights around: a block, or a row. ggml
    calls it ``sigma2``. So a weight near to zero counts too, as far as its neighbours are large.
    """
    mean = sum_rows(np.square(lanes_of(x, length))) / np.float32(length / times)
    weights = np.square(lanes)
    weights += np.repeat(mean, length // len(lanes))
    np.sqrt(weights, out=weights)
    weights *= by_column(importance, lanes)
    return weights
