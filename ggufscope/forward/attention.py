"""Attention, by one function: many heads, grouped, one; windowed or not; capped or not.

Follows ``build_attn_mha`` in llama.cpp's ``llama-graph.cpp``, without flash attention.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ggufscope.forward.ops import side_by_side, soft_cap, softmax
from ggufscope.forward.weights import Floats


@dataclass(frozen=True, slots=True)
class Attended:
    """What attention computes on the way; None where it was not asked for.

    ``kq`` are the raw products, before scale, cap and mask, as llama.cpp's quantity of that name.
    """

    out: Floats
    """(T, H * M), heads side by side: ``kqv_out``."""
    kq: Floats | None
    """(H, T, S)."""
    kq_soft_max: Floats | None
    """(H, T, S)."""
    kqv: Floats | None
    """(H, T, M)."""


def attend(
    q: Floats,
    k: Floats,
    v: Floats,
    *,
    scale: float,
    window: int | None = None,
    cap: float | None = None,
    sinks: Floats | None = None,
    keep: frozenset[str] = frozenset(),
) -> Attended:
    """Q (T, H, D), k (S, K, D), v (S, K, M) -> out (T, H * M): softmax(scale * q k^T) v.

    Token t of the queries is the token S - T + t of the keys, and sees those up to itself; with a
    window only the last ``window`` of them, itself among them. H is a multiple of K: query head h
    reads key head h // (H / K), so that K = H is multi-head, K = 1 multi-query attention. ``cap``
    limits the products before they are scaled (gemma2 scales its queries). ``sinks`` (H,) is a
    score of each head that no token has.
    ``keep`` names the quantities to hand back: ``kq``, ``kq_soft_max``, ``kqv``.
    """
    tokens, heads, size = q.shape
    seen, groups, width = len(k), k.shape[1], v.shape[2]
    share = heads // groups
    hidden = _hidden(tokens, seen, window)
    out = np.empty((tokens, heads, width), np.float32)
    kq = np.empty((heads, tokens, seen), np.float32) if "kq" in keep else None
    shares = np.empty((heads, tokens, seen), np.float32) if "kq_soft_max" in keep else None

    def one_group(group: int) -> None:
        mine = slice(group * share, (group + 1) * share)
        queries = q[:, mine].transpose(1, 0, 2).reshape(share * tokens, size)
        scores = (queries @ k[:, group].T).reshape(share, tokens, seen)
        if kq is not None:
            kq[mine] = scores
        soft_cap(scores, cap)
        scores *= np.float32(scale)
        scores[:, hidden] = -np.inf
        softmax(scores, None if sinks is None else sinks[mine, None, None])
        if shares is not None:
            shares[mine] = scores
        mixed = scores.reshape(share * tokens, seen) @ v[:, group]
        out[:, mine] = mixed.reshape(share, tokens, width).transpose(1, 0, 2)

    side_by_side(one_group, range(groups))
    kqv = np.ascontiguousarray(out.transpose(1, 0, 2)) if "kqv" in keep else None
    return Attended(out.reshape(tokens, heads * width), kq, shares, kqv)


def _hidden(
    tokens: int, seen: int, window: int | None
) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """(T, S): which tokens of the keys a token of the queries must not see."""
    query = np.arange(seen - tokens, seen)[:, None]
    key = np.arange(seen)
    future = key > query
    return future if window is None else future | (query - key >= window)
