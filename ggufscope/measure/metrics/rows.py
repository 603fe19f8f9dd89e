"""Attention rows: how the shares that a token gives to others differ between two runs.

A row is what one token attends to: shares along the last axis, at least 0, adding up to 1 (in a
model with attention sinks, to less). ``p`` is the reference, ``q`` the candidate. What a row cannot
see has the share 0 in both and counts for nothing. All sums are in float64.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ggufscope.arrays import Doubles, Integers, Reals


def largest_difference(p: Reals, q: Reals) -> Doubles:
    """p, q (..., T, S) -> (...): max over the matrix of ``|p - q|``. Range 0 to 1."""
    largest: Doubles = _gap(p, q).max(axis=(-2, -1), initial=0.0)
    return largest


def mean_difference(p: Reals, q: Reals, visible: int | Integers) -> Doubles:
    """p, q (..., T, S) -> (...): ``sum |p - q| / visible``. Range 0 to 1.

    ``visible`` is the number of pairs that can attend at all, ``T (T + 1) / 2`` in a causal
    matrix: a mean over the others too would look better the longer the prompt is.
    """
    total: Doubles = _gap(p, q).sum(axis=(-2, -1))
    return total / np.maximum(visible, 1)


def total_variation(p: Reals, q: Reals) -> Doubles:
    """p, q (..., S) -> (...): ``1/2 sum |p - q|``, the share that went elsewhere. Range 0 to 1."""
    total: Doubles = _gap(p, q).sum(axis=-1)
    return total / 2


def jensen_shannon(p: Reals, q: Reals) -> Doubles:
    """p, q (..., S) -> (...): the Jensen-Shannon divergence in bits (base 2). Range 0 to 1.

    ``(KL(p, m) + KL(q, m)) / 2`` with ``m = (p + q) / 2``: 0 where the rows are equal, 1 where
    they have no token in common. SciPy's ``jensenshannon`` is its square root.
    Lin, "Divergence measures based on the Shannon entropy", 1991.
    """
    p, q = _double(p), _double(q)
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return np.clip(divergence, 0.0, 1.0)  # where rows are equal rounding may leave -1e-17


def entropy(p: Reals) -> Doubles:
    """p (..., S) -> (...): ``-sum p log2 p`` in bits. Range 0 (one token) to log2 S (all alike)."""
    p = _double(p)
    bits: Doubles = -(p * _log2(p)).sum(axis=-1)
    return bits + 0.0  # no -0.0


def entropy_shift(p: Reals, q: Reals) -> Doubles:
    """p, q (..., S) -> (...): ``entropy(q) - entropy(p)`` in bits. Range -log2 S to log2 S.

    Above 0 the candidate spreads its attention wider, below 0 it narrows it.
    """
    return entropy(q) - entropy(p)


def most_attended_changed(p: Reals, q: Reals) -> npt.NDArray[np.bool_]:
    """p, q (..., S) -> (...): whether ``argmax p`` and ``argmax q`` differ.

    Where several tokens have the largest share the first of them counts.
    """
    changed: npt.NDArray[np.bool_] = p.argmax(axis=-1) != q.argmax(axis=-1)
    return changed


def _double(x: Reals) -> Doubles:
    return np.asarray(x, np.float64)


def _gap(p: Reals, q: Reals) -> Doubles:
    return np.abs(_double(p) - _double(q))


def _log2(x: Doubles) -> Doubles:
    """Log2, and 0 where x is 0: what has no share adds nothing to a sum of x log x."""
    return np.log2(x, out=np.zeros_like(x), where=x > 0)


def _relative_entropy(p: Doubles, m: Doubles) -> Doubles:
    """``sum p log2(p / m)``, where m is 0 only where p is.

    The quotient is at most 2 and is formed first: the logarithm of a denormal share is well
    defined, that of half of it may not be.
    """
    ratio = np.divide(p, m, out=np.ones_like(p), where=(p > 0) & (m > 0))
    total: Doubles = (p * np.log2(ratio)).sum(axis=-1)
    return total
