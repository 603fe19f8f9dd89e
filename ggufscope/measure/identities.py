"""What must hold in every transformer, each as a function that returns how far it is from holding.

They are the statements of a textbook: shares add up to one, nothing attends to the future, heads
put side by side and multiplied by W_O are the sum of the heads multiplied by their parts of it, a
KV cache changes nothing, shared keys and values are copies of each other. A residual is a number
that would be 0 with exact arithmetic. ``verifying`` holds them against a model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ggufscope.arrays import Floats, Reals
from ggufscope.forward.attention import attend
from ggufscope.forward.weights import Matrix, tile_rows

Vector = list[float]


def rows_sum_to_one(weights: Reals) -> float:
    """weights (H, T, S) -> the largest ``|sum - 1|`` of a row."""
    gap = np.abs(weights.sum(axis=-1, dtype=np.float64) - 1)
    return float(gap.max(initial=0.0))


def nothing_from_the_future(weights: Reals) -> float:
    """weights (H, T, S), row t that of token S - T + t -> the largest share of a later token."""
    tokens, seen = weights.shape[-2:]
    future = ~np.tri(tokens, seen, seen - tokens, dtype=np.bool_)
    return float(np.abs(weights[..., future]).max(initial=0.0))


def heads_side_by_side(kqv: Reals, kqv_out: Reals) -> float:
    """kqv (H, T, M), kqv_out (T, H * M) -> the largest difference of heads joined and output.

    Eight heads of (4, 64) are joined on the feature axis: (4, 512).
    """
    return relative(np.concatenate(list(kqv), axis=-1), kqv_out)


def heads_add_up(kqv_out: Floats, w_o: Matrix, heads: int) -> float:
    """``concat(heads) @ W_O`` against ``sum of head_i @ W_O_i``; W_O is stored [E, H * M].

    Relative to the largest number of the result. A tile of the matrix is in memory at a time.
    """
    rows, row_length = w_o.shape
    step, width = tile_rows(row_length), row_length // heads
    gap, size = np.zeros(()), np.zeros(())
    for start in range(0, rows, step):
        tile = w_o.rows(start, min(start + step, rows))
        joined = kqv_out @ tile.T
        parts = [slice(head * width, (head + 1) * width) for head in range(heads)]
        summed = sum((kqv_out[:, part] @ tile[:, part].T for part in parts), np.float32(0))
        gap = np.maximum(gap, np.abs(joined - summed).max(initial=0.0))  # which keeps a NaN
        size = np.maximum(size, np.abs(joined).max(initial=0.0))
    return float(gap / size if size else gap)


def groups_are_copies(
    q: Floats,
    k: Floats,
    v: Floats,
    out: Floats,
    *,
    scale: float,
    window: int | None,
    cap: float | None,
) -> float:
    """Hold grouped attention against multi-head attention with key and value heads repeated.

    Q (T, H, D), k (S, K, D), v (S, K, M), out (T, H * M) what the grouped one gave.
    """
    per_group = q.shape[1] // k.shape[1]
    copies = (np.repeat(each, per_group, axis=1) for each in (k, v))
    return relative(attend(q, *copies, scale=scale, window=window, cap=cap).out, out)


def relative(found: Reals, wanted: Reals) -> float:
    """Return the largest difference of two arrays, relative to the largest number of ``wanted``."""
    if found.shape != wanted.shape:
        return math.inf
    size = float(np.abs(wanted).max(initial=0.0))
    gap = float(np.abs(found - wanted).max(initial=0.0))
    return gap / size if size else gap


def scalar_attention(
    q: Reals, k: Reals, v: Reals, *, scale: float, window: int | None, cap: float | None
) -> Floats:
    """Attention as a loop over single numbers: one token at a time, one head at a time.

    Q (T, H, D), k (T, K, D), v (T, K, M) -> (T, H * M), in Python's own numbers. Each token's key
    and value are appended to those of the tokens before it, and it sees what is there by then.
    """
    rows = _scalar_rows(q, k, v, scale=scale, window=window, cap=cap)
    return np.array(rows, np.float32).reshape(len(rows), -1)


def _scalar_rows(
    q: Reals,
    k: Reals,
    v: Reals,
    *,
    scale: float,
    window: int | None = None,
    cap: float | None = None,
) -> list[Vector]:
    per_group = q.shape[1] // k.shape[1]
    keys: list[list[Vector]] = []
    values: list[list[Vector]] = []
    out = []
    for query, key, value in zip(q.tolist(), k.tolist(), v.tolist(), strict=True):
        keys.append(key)
        values.append(value)
        row: Vector = []
        for head, mine in enumerate(query):
            group, first = head // per_group, max(0, len(keys) - window) if window else 0
            past = range(first, len(keys))
            scores = [scale * _capped(_dot(mine, keys[t][group]), cap) for t in past]
            shares = _softmax(scores)
            row += [
                sum(s * values[t][group][j] for s, t in zip(shares, past, strict=True))
                for j in range(len(value[group]))
            ]
        out.append(row)
    return out


def documents_loop(
    x: Reals, w_q: Reals, w_k: Reals, w_v: Reals, w_o: Reals, *, heads: int = 4
) -> Floats:
    """Attention of the smallest transformer there is, in plain Python lists.

    x (T, 16), each matrix (16, 16) ``[out, in]``, 4 heads of 4 -> what is added to x, (T, 16). One
    token at a time: RMSNorm, three projections, the key and the value appended to those of the
    tokens before, and each head's softmax(q k / sqrt(4)) over all keys so far.
    """
    matrices = [m.tolist() for m in (w_q, w_k, w_v)]
    normed = [_rms_norm(token) for token in x.tolist()]
    parts = (np.array([_times(matrix, token) for token in normed]) for matrix in matrices)
    q, k, v = (part.reshape(len(x), heads, -1) for part in parts)
    joined = _scalar_rows(q, k, v, scale=1 / math.sqrt(q.shape[-1]))
    return np.array([_times(w_o.tolist(), token) for token in joined], np.float32)


EPSILON = 1e-5
"""In the documents' RMSNorm."""


def _rms_norm(x: Vector) -> Vector:
    scale = 1 / math.sqrt(_dot(x, x) / len(x) + EPSILON)
    return [scale * number for number in x]


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(p * q for p, q in zip(a, b, strict=True))


def _times(matrix: list[Vector], x: Vector) -> Vector:
    return [_dot(row, x) for row in matrix]


def _softmax(scores: Vector) -> Vector:
    top = max(scores)
    powers = [math.exp(score - top) for score in scores]
    total = sum(powers)
    return [power / total for power in powers]


def _capped(score: float, cap: float | None) -> float:
    return cap * math.tanh(score / cap) if cap else score
