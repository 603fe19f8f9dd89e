"""Weights: what storing them in another type did to the numbers. Sums in float64."""

from __future__ import annotations

import numpy as np

from ggufscope.arrays import Blocks, Floats, Reals
from ggufscope.blocks.codec import dequantize, engine
from ggufscope.blocks.error import WeightError
from ggufscope.blocks.layouts import Layout

_STEP = 1 << 15
"""Weights looked at in one go: in float64 they stay in the cache."""


def stored_error(reference: Floats, blocks: Blocks, layout: Layout) -> WeightError:
    """Weights (rows, row), blocks (rows, n) of others -> the error of what the blocks hold."""
    kernels = engine().kernels
    if kernels is not None and kernels.multiplies(layout):
        return kernels.error(layout, blocks, reference)
    return weight_error(reference, dequantize(blocks, layout, reference.shape, threads=1))


def weight_error(reference: Reals, candidate: Reals) -> WeightError:
    """Two arrays of weights, of one shape -> the error of all of them together."""
    r, c = reference.reshape(-1), candidate.reshape(-1)
    squared_error = squared_weights = largest = 0.0
    for start in range(0, r.size, _STEP):
        part = r[start : start + _STEP].astype(np.float64)
        gap = c[start : start + _STEP] - part
        # Not by BLAS, which would start threads of its own within those of the caller.
        squared_error += float(np.einsum("i,i->", gap, gap))
        squared_weights += float(np.einsum("i,i->", part, part))
        largest = max(largest, float(gap.max()), -float(gap.min()))
    return WeightError(squared_error, squared_weights, largest, r.size)
