"""The way back through each operation: the gradient of what came out -> of what went in.

``dy`` is the gradient of a loss at an operation's output, of its shape. Shapes are those of
``ops.py`` and ``attention.py``, and the numbers are float32 with sums in float64 where a row is
summed up, as there. Each is the textbook derivative; ``tests/forward/test_backward.py`` holds them
to finite differences and to PyTorch.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ggufscope.arrays import Floats
from ggufscope.forward import ops
from ggufscope.forward.rope import rotate
from ggufscope.forward.weights import Matrix, tile_rows
from ggufscope.model.families import Rope
from ggufscope.pool import in_parallel

_SPANS: Final = 4
"""Parts of a matrix that are worked on side by side; the sum's order depends on nothing else."""


def linear(dy: Floats, weight: Matrix, *, rows: tuple[int, int] | None = None) -> Floats:
    """dy (T, out), weight [out, in] -> dy @ weight (T, in), a tile of rows at a time."""
    first, last = rows or (0, weight.shape[0])
    step = tile_rows(weight.shape[1])
    span = step * max(1, -(-(last - first) // (step * _SPANS)))

    @np.errstate(all="ignore")
    def add_up(start: int) -> Floats:
        total = np.zeros((len(dy), weight.shape[1]), np.float32)
        stop = min(start + span, last)
        for at in range(start, stop, step):
            end = min(at + step, stop)
            total += dy[:, at - first : end - first] @ weight.rows(at, end)
        return total

    parts = in_parallel(add_up, range(first, last, span))
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total


def rms_norm(dy: Floats, x: Floats, weight: Floats | None, epsilon: float) -> Floats:
    """dy, x (..., E), weight (E,) -> dx: r (dy w) - x r^3 mean(dy w x), r = 1 / rms."""
    scaled = dy if weight is None else dy * weight
    mean = np.square(x).mean(axis=-1, dtype=np.float64, keepdims=True)
    r = 1.0 / np.sqrt(mean + epsilon)
    along = (scaled * x).mean(axis=-1, dtype=np.float64, keepdims=True)
    dx: Floats = (scaled * r - x * (r**3 * along)).astype(np.float32)
    return dx


def layer_norm(dy: Floats, x: Floats, weight: Floats, epsilon: float) -> Floats:
    """dy, x (..., E), weight (E,) -> dx: the RMS norm's of the centred x, centred again."""
    centred = x - x.mean(axis=-1, dtype=np.float64, keepdims=True).astype(np.float32)
    dx = rms_norm(dy, centred, weight, epsilon)
    dx -= dx.mean(axis=-1, dtype=np.float64, keepdims=True).astype(np.float32)
    return dx


def rotated(dy: Floats, pairs: Rope, cosines: Floats, sines: Floats) -> Floats:
    """dy (T, heads, D) -> turned back: the transpose of a rotation is that by minus the angle."""
    return rotate(dy, pairs, cosines, -sines)


def softmax(dy: Floats, shares: Floats) -> Floats:
    """dy, shares (..., S) as softmax gave them -> the gradient of the scores."""
    along = np.einsum("...s,...s->...", dy, shares, dtype=np.float64)[..., None]
    ds: Floats = shares * (dy - along.astype(np.float32))
    return ds


def silu(x: Floats) -> Floats:
    """x -> the slope of SiLU there."""
    s = ops.sigmoid(x)
    return s * (1 + x * (1 - s))


def gelu(x: Floats) -> Floats:
    """x -> the slope of GELU in its tanh form."""
    with np.errstate(over="ignore"):
        bent = np.tanh(ops.SQRT_2_OVER_PI * (x + ops.GELU_A * x**3))
        rise = ops.SQRT_2_OVER_PI * (1 + 3 * ops.GELU_A * x * x)
        rest = 1 - bent * bent
        # Far out `rise` may be infinite, but the curve is straight.
        tail = np.where(rest == 0, np.float32(0), rest * np.where(rest == 0, 0, rise))
        slope: Floats = (0.5 * (1 + bent) + 0.5 * x * tail).astype(np.float32)
    return slope


def soft_cap(dy: Floats, capped: Floats, cap: float | None) -> Floats:
    """dy, capped (as ``soft_cap`` gave it) -> the gradient before the cap."""
    if not cap:
        return dy
    slope: Floats = 1 - np.square(capped / np.float32(cap))
    return dy * slope


def attend(
    dy: Floats,
    q: Floats,
    k: Floats,
    v: Floats,
    *,
    scale: float,
    window: int | None = None,
    cap: float | None = None,
) -> tuple[Floats, Floats, Floats]:
    """dy (T, H, M), q (T, H, D), k (T, K, D), v (T, K, M) -> dq, dk, dv.

    Of ``attend`` where queries and keys are of the same tokens. The queries are multiplied by
    ``scale`` before they meet the keys, so that ``cap`` comes after it. Keys and values gather
    the gradients of all heads of their group. The scores of a group are made again, and dropped.
    """
    tokens, heads, size = q.shape
    groups, width = k.shape[1], v.shape[2]
    per_group = heads // groups
    dq, dk, dv = np.empty_like(q), np.empty_like(k), np.empty_like(v)
    query, key = np.arange(tokens)[:, None], np.arange(tokens)
    hidden = key > query
    if window is not None:
        hidden |= query - key >= window

    @np.errstate(all="ignore")
    def one_group(group: int) -> None:
        mine = slice(group * per_group, (group + 1) * per_group)
        flat = (per_group * tokens, -1)
        queries = (q[:, mine] * np.float32(scale)).transpose(1, 0, 2).reshape(flat)
        back = dy[:, mine].transpose(1, 0, 2).reshape(per_group * tokens, width)
        scores = ops.soft_cap(queries @ k[:, group].T, cap).reshape(per_group, tokens, tokens)
        slope = None if not cap else 1 - np.square(scores / np.float32(cap))
        scores[:, hidden] = -np.inf
        shares = ops.softmax(scores)
        dv[:, group] = shares.reshape(flat).T @ back
        ds = softmax((back @ v[:, group].T).reshape(shares.shape), shares)
        if slope is not None:
            ds *= slope
        flat_ds = ds.reshape(flat)
        dk[:, group] = flat_ds.T @ queries
        turned = (flat_ds @ k[:, group]).reshape(per_group, tokens, size)
        dq[:, mine] = turned.transpose(1, 0, 2) * np.float32(scale)

    in_parallel(one_group, range(groups))
    return dq, dk, dv
