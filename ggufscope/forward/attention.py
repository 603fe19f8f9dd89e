"""Attention, by one function: many heads, grouped, one; windowed or not; capped or not.

Follows ``build_attn_mha`` in llama.cpp's ``llama-graph.cpp``, without flash attention.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from ggufscope.arrays import Floats, Mask
from ggufscope.forward.ops import soft_cap, softmax
from ggufscope.pool import in_parallel

STRETCH: Final = 1 << 24
"""Scores of all heads that are computed together: 64 MiB, and as much again while they are."""
_TOGETHER: Final = 1 << 15
"""Scores that are worth a thread's while; of a short text those of many heads."""


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
    tell: Callable[[int, Floats], object] | None = None,
) -> Attended:
    """q (T, H, D), k (S, K, D), v (S, K, M) -> out (T, H * M): softmax(scale * q k^T) v.

    Token t of the queries is the token S - T + t of the keys, and sees those up to itself; with a
    window only the last ``window`` of them, itself among them. H is a multiple of K: query head h
    reads key head h // (H / K), so that K = H is multi-head, K = 1 multi-query attention. ``cap``
    limits the products before they are scaled (gemma2 scales its queries). ``sinks`` (H,) is a
    score of each head that no token has.
    ``keep`` names the quantities to hand back: ``kq``, ``kq_soft_max``, ``kqv``.

    Long texts are worked through in stretches of queries, so that the scores of no more than
    ``STRETCH`` pairs are held at a time. ``tell`` is told of each stretch in turn: its first row,
    and its rows of ``kq_soft_max`` (H, rows, S), which are good until it returns.
    """
    tokens, heads, size = q.shape
    seen, groups, width = len(k), k.shape[1], v.shape[2]
    per_group = heads // groups
    step = max(1, STRETCH // (heads * seen))
    out = np.empty((tokens, heads, width), np.float32)
    kq = np.empty((heads, tokens, seen), np.float32) if "kq" in keep else None
    kept = np.empty((heads, tokens, seen), np.float32) if "kq_soft_max" in keep else None

    @np.errstate(all="ignore")  # numbers overflow as they do in C; the setting is the thread's
    def some_groups(of: range, start: int, hidden: Mask, rows: Floats | None) -> None:
        """Rows from ``start`` on of the heads that share some heads of keys."""
        few, count = slice(of.start, of.stop), len(hidden)
        mine, stop = slice(of.start * per_group, of.stop * per_group), start + count
        queries = q[start:stop, mine].transpose(1, 0, 2).reshape(len(of), per_group * count, size)
        scores = (queries @ k[:, few].transpose(1, 2, 0)).reshape(-1, count, seen)
        if kq is not None:
            kq[mine, start:stop] = scores
        soft_cap(scores, cap)
        scores *= np.float32(scale)
        np.copyto(scores, np.float32(-np.inf), where=hidden)
        softmax(scores, None if sinks is None else sinks[mine, None, None])
        if rows is not None:
            rows[mine] = scores
        mixed = scores.reshape(len(of), per_group * count, seen) @ v[:, few].transpose(1, 0, 2)
        out[start:stop, mine] = mixed.reshape(-1, count, width).transpose(1, 0, 2)

    for start in range(0, tokens, step):
        stop = min(start + step, tokens)
        rows = None if kept is None else kept[:, start:stop]
        if rows is None and tell is not None:
            rows = np.empty((heads, stop - start, seen), np.float32)
        hidden = _hidden(start, stop, tokens, seen, window)
        few = max(1, _TOGETHER // max(1, per_group * len(hidden) * seen))
        slabs = [range(first, min(first + few, groups)) for first in range(0, groups, few)]
        in_parallel(partial(some_groups, start=start, hidden=hidden, rows=rows), slabs)
        if rows is not None and tell is not None:
            tell(start, rows)
    kqv = np.ascontiguousarray(out.transpose(1, 0, 2)) if "kqv" in keep else None
    return Attended(out.reshape(tokens, heads * width), kq, kept, kqv)


def _hidden(start: int, stop: int, tokens: int, seen: int, window: int | None) -> Mask:
    """(stop - start, S): which tokens of the keys a token of the queries must not see."""
    query = np.arange(seen - tokens + start, seen - tokens + stop)[:, None]
    key = np.arange(seen)
    future = key > query
    return future if window is None else future | (query - key >= window)
