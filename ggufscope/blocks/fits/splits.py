"""Scales for three levels: the search of IQ1, over every way to split the sorted weights in three.

With levels -1, 0 and 1, moved by an eighth up or down, the best choice gives the smallest weights
the lowest level, the next ones the middle, the rest the highest. So there are as few choices as
there are pairs of places to split at, and sums from the left give the fit of each at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from ggufscope.arrays import Bytes, Floats, Ints
from ggufscope.blocks.ordered import LARGEST

DELTA: Final = np.float32(0.125)


@dataclass(frozen=True, slots=True)
class Split:
    """The best split of each lane."""

    levels: Bytes
    """(k, n), each 0, 1 or 2."""
    minus: Ints
    """(n,): which runs are moved down, a bit each, the first run highest; -1 where nothing fits."""
    scale: Floats
    """(n,), of either sign."""


def best_split(x: Floats, weights: Floats, runs: int) -> Split:
    """x, weights (k, n) -> the split that fits best, for ``runs`` that move each by itself.

    Follows the searches in ``quantize_row_iq1_s_impl`` (one run) and ``quantize_row_iq1_m_impl``
    (two). Of equals the first is taken.
    """
    order = np.argsort(x, axis=0, kind="stable")
    run = order * runs // len(x)
    terms = np.take_along_axis(weights * x, order, axis=0)
    counts = np.take_along_axis(weights, order, axis=0)
    sums_x = [_sums(np.where(run == each, terms, np.float32(0))) for each in range(runs)]
    sums_w = [_sums(np.where(run == each, counts, np.float32(0))) for each in range(runs)]
    n = x.shape[1]
    best, scale = np.full(n, -LARGEST), np.zeros(n, np.float32)
    first, second, minus = (np.full(n, -1, np.int32) for _ in range(3))
    fits = _fits_of_one(sums_x[0], sums_w[0]) if runs == 1 else _fits_of_two(sums_x, sums_w)
    for i, j, moved, sum_qx, sum_q2 in fits:
        better = (sum_q2 > 0) & (sum_qx * sum_qx > best * sum_q2)
        if better.any():
            np.copyto(scale, sum_qx / sum_q2, where=better)
            np.copyto(best, scale * sum_qx, where=better)
            for kept, new in ((first, i), (second, j), (minus, moved)):
                kept[better] = new
    place = np.arange(len(x))[:, None]
    levels = np.empty(x.shape, np.uint8)
    np.put_along_axis(levels, order, (place >= first) + (place >= second).astype(np.uint8), axis=0)
    return Split(levels, minus, scale)


_Fit = tuple[int, int, int, Floats, Floats]
"""Where the split is, which runs are moved down, sum(w * q * x) and sum(w * q * q), each (n,)."""


def _sums(terms: Floats) -> Floats:
    """terms (k, n) -> (k + 1, n): the sum of the first 0, 1, ..., k, one added after the other."""
    return np.asarray(np.add.accumulate(np.concatenate([np.zeros_like(terms[:1]), terms]), axis=0))


def _values(minus: int) -> tuple[np.float32, np.float32, np.float32]:
    delta = -DELTA if minus else DELTA
    return np.float32(-1) + delta, delta, np.float32(1) + delta


def _fits_of_one(sum_x: Floats, sum_w: Floats) -> Iterator[_Fit]:
    """sum_x, sum_w (k + 1, n) -> each split in ggml's order, up and down."""
    places = range(len(sum_x))
    parts = []
    for minus in (0, 1):
        low, middle, high = _values(minus)
        lows = sum_x * low, sum_w * low * low
        highs = (sum_x[-1] - sum_x) * high, (sum_w[-1] - sum_w) * high * high
        parts.append((minus, lows, middle, highs))
    for i in places:
        for j in places[i:]:
            between_x, between_w = sum_x[j] - sum_x[i], sum_w[j] - sum_w[i]
            for minus, (low_x, low_w), middle, (high_x, high_w) in parts:
                sum_qx = low_x[i] + between_x * middle + high_x[j]
                yield i, j, minus, sum_qx, low_w[i] + between_w * middle * middle + high_w[j]


def _fits_of_two(sums_x: list[Floats], sums_w: list[Floats]) -> Iterator[_Fit]:
    """sums_x, sums_w: (k + 1, n) of each run -> each split in ggml's order, each way to move.

    The levels of a run lie 1 apart, so its sum is highest * total less what both splits leave out.
    """
    places = range(len(sums_x[0]))
    for i in places:
        for j in places[i:]:
            fits = [
                (total_x * high - (sum_x[i] + sum_x[j]), _squares(sum_w, i, j, low, middle, high))
                for sum_x, sum_w in zip(sums_x, sums_w, strict=True)
                for total_x in (sum_x[-1],)
                for low, middle, high in (_values(0), _values(1))
            ]
            for minus in range(4):
                one, two = fits[minus >> 1], fits[2 + (minus & 1)]
                yield i, j, minus, one[0] + two[0], one[1] + two[1]


def _squares(
    sum_w: Floats, i: int, j: int, low: np.float32, middle: np.float32, high: np.float32
) -> Floats:
    found: Floats = sum_w[-1] * high * high + sum_w[i] * (low * low - middle * middle)
    found += sum_w[j] * (middle * middle - high * high)
    return found
