"""What each weight counts in a fit, where columns have an importance."""

from __future__ import annotations

import numpy as np

from ggufscope.arrays import Floats
from ggufscope.blocks.ordered import lanes_of, sum_rows


def by_column(importance: Floats, lanes: Floats) -> Floats:
    """Return importance (row,) in the shape of the lanes of (rows, row): that of each column."""
    runs = importance.reshape(-1, len(lanes))
    return np.tile(runs.T, lanes.shape[1] // len(runs))


def sums_of_squares(x: Floats, length: int) -> Floats:
    """x (rows, row) -> (x.size / length,): the sum of x * x over each block, or each row."""
    return sum_rows(np.square(lanes_of(x, length)))


def by_column_and_size(importance: Floats, lanes: Floats, sigma2: Floats) -> Floats:
    """Return importance (row,) * sqrt(sigma2 + x * x) for the lanes x (k, lanes) of (rows, row).

    ``sigma2`` is the mean square of the weights around, or twice that: (blocks,) or (rows,). So a
    weight near to zero counts too, as far as its neighbours are large. The format makes it out of
    ``sums_of_squares``, because ggml's formats round, and overflow, in orders of their own.
    """
    weights = np.square(lanes)
    weights += np.repeat(sigma2, lanes.shape[1] // len(sigma2))
    np.sqrt(weights, out=weights)
    weights *= by_column(importance, lanes)
    return weights
