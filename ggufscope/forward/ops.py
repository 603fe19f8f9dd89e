"""The operations that every family shares, on float32 arrays.

Shapes: T tokens, E the length of their vectors; a matrix is ``[out, in]``, so ``y = x @ W.T``.
Norms and softmax sum in float64 and products in float32, as llama.cpp's CPU code does
(``ggml_compute_forward_rms_norm_f32`` and neighbours in ggml's ``ggml-cpu/ops.cpp``).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ggufscope.arrays import Floats
from ggufscope.forward.products import product
from ggufscope.forward.weights import Matrix

GELU_A: Final[np.float32] = np.float32(0.044715)
SQRT_2_OVER_PI: Final[np.float32] = np.float32(np.sqrt(2 / np.pi))


def linear(
    x: Floats, weight: Matrix, bias: Floats | None = None, *, rows: tuple[int, int] | None = None
) -> Floats:
    """x (T, in), weight [out, in], bias (out,) -> x @ weight.T + bias (T, out).

    ``rows`` takes a part of the matrix, such as one expert of a stack. See ``products.py``.
    """
    y = product(x, weight, rows or (0, weight.shape[0]))
    return y if bias is None else np.add(y, bias, out=y)


def rms_norm(x: Floats, weight: Floats | None, epsilon: float) -> Floats:
    """x (..., E), weight (E,) -> x / sqrt(mean(x^2) + epsilon) * weight, row by row."""
    squares = np.square(x).sum(axis=-1, dtype=np.float64, keepdims=True)
    mean = (squares / x.shape[-1]).astype(np.float32)
    scale = np.float32(1) / np.sqrt(mean + np.float32(epsilon))
    y: Floats = np.multiply(x, scale)
    return y if weight is None else np.multiply(y, weight, out=y)


def layer_norm(x: Floats, weight: Floats, bias: Floats | None, epsilon: float) -> Floats:
    """x (..., E) -> (x - mean) / sqrt(variance + epsilon) * weight + bias, row by row."""
    centred = x - x.mean(axis=-1, dtype=np.float64, keepdims=True).astype(np.float32)
    y = rms_norm(centred, weight, epsilon)
    return y if bias is None else np.add(y, bias, out=y)


def softmax(scores: Floats, sinks: Floats | None = None) -> Floats:
    """scores (..., S) -> shares that sum to 1 along S, in place.

    ``sinks`` (..., 1) is one more score in each row: it takes its share, and is dropped.
    A score of -inf gives exactly 0; a row of nothing else gives NaN, as 0/0 does.
    """
    top = scores.max(axis=-1, keepdims=True)
    if sinks is not None:
        top = np.maximum(top, sinks)
    with np.errstate(all="ignore"):
        np.subtract(scores, top, out=scores)
        np.exp(scores, out=scores)
        total = scores.sum(axis=-1, dtype=np.float64, keepdims=True)
        if sinks is not None:
            total += np.exp(sinks - top)
        scores *= (1.0 / total).astype(np.float32)
    return scores


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), number by number."""
    with np.errstate(over="ignore"):
        return np.reciprocal(np.float32(1) + np.exp(-x))


def silu(x: Floats) -> Floats:
    """x * sigmoid(x), number by number."""
    y: Floats = np.negative(x)
    with np.errstate(over="ignore"):
        np.exp(y, out=y)
    y += np.float32(1)
    return np.divide(x, y, out=y)


def gelu(x: Floats) -> Floats:
    """GELU in its tanh form, number by number: what ggml's CPU code keeps a table of in halves."""
    with np.errstate(over="ignore"):
        inner = x * (np.float32(1) + GELU_A * x * x)
        bent: Floats = np.tanh(inner * SQRT_2_OVER_PI)
    y: Floats = np.multiply(x, np.float32(0.5)) * (np.float32(1) + bent)
    return y


def soft_cap(x: Floats, cap: float | None) -> Floats:
    """cap * tanh(x / cap), in place: nothing passes the cap, what is small stays."""
    if not cap:
        return x
    np.multiply(x, np.float32(1 / cap), out=x)
    np.tanh(x, out=x)
    return np.multiply(x, np.float32(cap), out=x)
