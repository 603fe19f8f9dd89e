"""Scales for vectors out of a grid: the searches of IQ2 and IQ3, and the choice of an entry.

A vector of weights is rounded to levels as if there were no grid. Where these are no entry of it,
the entry is taken that fits best among the neighbours: ``neighbours.py`` says which these are.
Vectors are points, their levels packed into a number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ggufscope.arrays import Bytes, Floats, Ints, Mask
from ggufscope.blocks.fits.positive import qp
from ggufscope.blocks.fits.weights import sums_of_squares
from ggufscope.blocks.layouts import SUPER
from ggufscope.blocks.neighbours import Codebook, squares_overflow
from ggufscope.blocks.ordered import LARGEST, largest_by_macro, nearest_level, sum_rows

_ONE = np.float32(1)
_HALF = np.float32(0.5)


@dataclass(frozen=True, slots=True)
class Search:
    """How a format searches the scale of a sub-block."""

    length: int
    """Weights that share a scale."""
    steps: int
    step: float
    """The largest level is tried for 1 + l / top times the peak, l from -steps to steps steps."""
    least: float
    """A sub-block with a peak below it is stored as zeros; with 0, one whose peak is zero."""
    even: bool
    """Whether a vector of eight has an even number of minus signs, so that seven bits store it."""
    again: str
    """Which vectors are rounded once more in the end: "all", those that were "off grid", or all
    of a sub-block "if any" was."""
    by_qp: bool = False
    """Whether the peak is that of a first fit by ``qp``."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What the search found for n super-blocks."""

    scales: Floats
    """(n, sub-blocks), from 0."""
    entries: Ints
    """(n, 256 / length of a vector): numbers of entries."""
    signs: Bytes
    """(n, 32): a bit a weight."""
    live: Mask
    """(n, sub-blocks): those that are not stored as zeros."""


def sigma2_of(x: Floats, times: int) -> Floats:
    """x (rows, row) -> (blocks,): ``times`` the mean square of each super-block."""
    return np.float32(times) * sums_of_squares(x, SUPER) / np.float32(SUPER)


def fit_vectors(
    x: Floats, lanes: Floats, weights: Floats, book: Codebook, search: Search
) -> Fitted:
    """x (rows, row), its lanes (k, n) and what they count (k, n) -> what is stored.

    Raises ``UnmakeableBlock``.
    """
    values, signs = _magnitudes(lanes, weights, search.even)
    peak = largest_by_macro(values)
    live = peak != 0 if search.least == 0 else ~(peak < np.float32(search.least))
    first = peak / np.float32(2 * book.levels - 1)
    if search.by_qp:
        first = qp(values, weights, book.levels + 1)[0]
        peak = first * np.float32(book.levels)
        live &= ~(peak <= 0)
    (some,) = np.nonzero(live)
    scale = np.zeros_like(peak)
    points = np.zeros((search.length // book.length, len(peak)), np.int32)
    scale[some], points[:, some] = _search(
        book, search, values[:, some], weights[:, some], peak[some], first[some]
    )
    signs[:, ~live] = 0
    signs[:, scale < 0] ^= 255
    blocks = x.size // SUPER
    return Fitted(
        np.abs(scale).reshape(blocks, -1),
        np.where(live, book.place[points], 0).T.reshape(blocks, -1),
        signs.T.reshape(blocks, -1),
        live.reshape(blocks, -1),
    )


def stored_scales(scales: Floats, top: int, levels: int) -> tuple[Floats, Ints, Mask]:
    """scales (n, s) -> d (n,), levels (n, s), and which super-blocks are zeros (n,).

    d makes the largest scale ``top``; level l stands for d * (2 * l + 1).
    """
    most = np.maximum.reduce(scales, axis=1)
    d = most / np.float32(top)
    level = nearest_level(_HALF * ((_ONE / d)[:, None] * scales - _ONE), 0, levels - 1)
    return d, level, most == 0


def _magnitudes(x: Floats, weights: Floats, even: bool) -> tuple[Floats, Bytes]:
    """x, weights (k, n) -> magnitudes (k, n), signs (k / 8, n): a bit for each of eight.

    Where the number of minus signs has to be even, the weight that counts least changes sides,
    and its magnitude is below zero.
    """
    minus = ~(x >= 0)
    values = np.where(minus, -x, x).reshape(len(x) // 8, 8, x.shape[1])
    minus = minus.reshape(values.shape)
    if even:
        cost = (weights * x * x).reshape(values.shape)
        later = np.isnan(cost)
        later[:, 0] = False
        cost[later] = np.inf
        least = np.where(np.isnan(cost[:, 0]), 0, cost.argmin(axis=1))
        vector, lane = np.nonzero(np.logical_xor.reduce(minus, axis=1))
        place = (vector, least[vector, lane], lane)
        values[place] *= np.float32(-1)
        minus[place] ^= True
    return values.reshape(x.shape), np.packbits(minus, axis=1, bitorder="little")[:, 0]


def _search(
    book: Codebook, search: Search, x: Floats, weights: Floats, peak: Floats, scale: Floats
) -> tuple[Floats, Ints]:
    """x, weights (k, n), peak, scale (n,) -> scale (n,), points (k / length, n).

    Each try rounds, and solves for the scale that fits by least squares; the best is kept. Then
    vectors are rounded once more, with that scale. Follows ``quantize_row_iq2_xs_impl``, and those
    of its kind. Raises ``UnmakeableBlock``.
    """
    weighted = weights * x
    vectors, roots = _vectors(x, book), _vectors(np.sqrt(weights), book)

    def rounded(inverse: Floats, scale: Floats, where: Mask | None = None) -> tuple[Ints, Mask]:
        points = book.pack(nearest_level(_HALF * (inverse * vectors - _ONE), 0, book.levels - 1))
        off = book.place[points] < 0
        vector, lane = np.nonzero(off if where is None else off & where)
        points[vector, lane] = best_neighbour(
            *(book, points[vector, lane], vectors[:, vector, lane], roots[:, vector, lane]),
            *(scale[lane], np.ones(len(lane), np.float32), 2),
        )
        return points, off

    def sums(points: Ints) -> tuple[Floats, Floats]:
        q = (2 * book.unpack(points) + _ONE).swapaxes(0, 1).reshape(x.shape)
        return sum_rows(weighted * q), sum_rows(weights * q * q)

    scale, best = scale.copy(), np.zeros_like(scale)
    kept = np.zeros(vectors.shape[1:], np.int32)
    kept_off = np.full(kept.shape, search.again == "if any")
    for step in range(-search.steps, search.steps + 1):
        factor = np.float32(2 * book.levels - 1) + np.float32(step) * np.float32(search.step)
        inverse = factor / peak
        points, off = rounded(inverse, _ONE / inverse)
        sum_qx, sum_q2 = sums(points)
        better = (sum_q2 > 0) & (sum_qx * sum_qx > best * sum_q2)
        np.copyto(scale, sum_qx / sum_q2, where=better)
        np.copyto(best, scale * sum_qx, where=better)
        np.copyto(kept, points, where=better)
        np.copyto(kept_off, off, where=better)
    again = (
        kept_off if search.again == "off grid" else kept_off.any(axis=0) | (search.again == "all")
    )
    again = again & (scale > 0)
    points, _ = rounded(_ONE / scale, scale, np.broadcast_to(again, kept.shape))
    np.copyto(kept, points, where=again)
    sum_qx, sum_q2 = sums(kept)
    changed = again if again.ndim == 1 else again.any(axis=0)
    np.copyto(scale, sum_qx / sum_q2, where=changed & (sum_q2 > 0))
    require(not np.isnan(scale).any())
    return scale, kept


def _vectors(x: Floats, book: Codebook) -> Floats:
    """x (k, n) -> (length, k / length, n)."""
    return x.reshape(len(x) // book.length, book.length, x.shape[1]).swapaxes(0, 1)


def best_neighbour(
    book: Codebook,
    points: Ints,
    x: Floats,
    weights: Floats,
    scale: Floats,
    lowest: Floats,
    step: int,
) -> Ints:
    """points (n,), no entries, x, weights (length, n), scale, lowest (n,) -> entries' points (n,).

    Level l stands for lowest + step * l. The entry has the smallest sum of
    weight * (scale * level - x)**2, and is the first of equals. Follows
    ``iq2_find_best_neighbour``, and those of IQ1 and IQ3.

    Raises ``UnmakeableBlock`` where no sum is a number below ``LARGEST``.
    """
    starts = ~book.place[points]
    counts = book.near[starts]
    order = np.argsort(counts, kind="stable")[::-1]  # the longest first: lists end one by one
    starts, x, weights = starts[order], x[:, order], weights[:, order]
    scale, lowest = scale[order], lowest[order]
    lasting = len(order) - np.searchsorted(
        counts[order[::-1]], np.arange(counts.max(initial=0) + 1)
    )
    best, found = np.full(len(order), LARGEST), np.full(len(order), -1, np.int32)
    for rank, count in enumerate(lasting[1:], 1):
        live = slice(count)
        entry = book.near[starts[live] + rank].astype(np.int32)
        distance = np.zeros(len(entry), np.float32)
        for value, weight, level in zip(x, weights, book.unpack(entry), strict=True):
            gap = scale[live] * (level * np.float32(step) + lowest[live]) - value[live]
            distance += weight[live] * gap * gap
        better = distance < best[live]
        np.copyto(best[live], distance, where=better)
        np.copyto(found[live], entry, where=better)
    require(bool((found >= 0).all()))
    entries = np.empty_like(found)
    entries[order] = found
    return entries


def require(made: bool) -> None:
    """Raise ``UnmakeableBlock`` where an assertion of ggml fails."""
    if not made:
        raise squares_overflow("a block")
