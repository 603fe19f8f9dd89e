"""Two tensors that are the same weights but for what quantizing loses: which was made from which.

Some stretches of a tensor are quantized here and now. Where that gives the very weights of the
other one, that is how it was made. Where it does not, an importance matrix or another program may
have chosen other scales, which makes the error larger by a factor that ``measure/making.py`` knows.
Of two tensors that are both quantized only their errors together can be judged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from ggufscope.arrays import Floats
from ggufscope.blocks.codec import CODECS, through
from ggufscope.blocks.layouts import LAYOUTS, SUPER, Layout
from ggufscope.container.file import Tensor
from ggufscope.measure.diff.agreement import STRETCH, Agreement, agreement
from ggufscope.measure.inspection import ways_between
from ggufscope.measure.making import PLAIN, ROUNDING, WEIGHED, WEIGHED_PART
from ggufscope.measure.reading import read_weights

_STRETCHES: Final = 16
_SAMPLED: Final = 1 << 10
"""Weights of each stretch that is quantized: whole blocks of any type."""
_LOSS: Final = 2.0
"""The relative error of a type is about this times two to the power of minus its bits a weight:
2.1 for Q8_0, 1.9 for Q2_K, 1.7 for IQ2_XXS, 1.6 for Q4_K, of normal weights."""


@dataclass(frozen=True, slots=True)
class Made:
    """How one tensor comes from the other."""

    source: str
    """``a`` where B's was made from A's, ``b`` where A's was made from B's, empty for neither."""
    exact: bool
    """Whether plain quantization gives the very weights, of all stretches that were tried."""
    ratio: float
    """The error over that of plain quantization, of the same stretches; 0 where unknown."""
    through: tuple[str, ...] = ()
    """The types that it had in between, where it was quantized more than once."""
    dequantized: bool = False
    """Whether the source is the quantized one of the two, and the other its weights, rounded."""


def loss_of(type_: Layout) -> float:
    """Return the relative error that storing weights in a type costs, about; 0 of F32."""
    if type_.block_length == 1:
        return ROUNDING.get(type_.name, 0.0)
    return float(_LOSS * 2**-type_.bits_per_weight)


def how_made(a: Tensor, b: Tensor, found: Agreement) -> Made | None:
    """Return how one of two tensors of one shape is made from the other; None where it is not.

    ``found`` is how all their weights agree, which are not the same.
    """
    x, y = a.type, b.type
    if not isinstance(x, Layout) or not isinstance(y, Layout) or found.unmatched:
        return None
    if x is y and x.block_length == 1:
        return None
    for source, of, to in (("a", a, b), ("b", b, a)):
        if _is_dequantized(of, to, found):
            return Made(source, exact=True, ratio=1.0, dequantized=True)
    for source, of, to in (("a", a, b), ("b", b, a)):
        if _is_source(of, to) and (made := _made(source, of, to, found)):
            return made
    if found.relative > WEIGHED * math.hypot(loss_of(x), loss_of(y)):
        return None
    plain_a, plain_b = x.block_length == 1, y.block_length == 1
    if plain_a == plain_b:
        return Made("", exact=False, ratio=0.0)
    if CODECS[(y if plain_a else x).name].makes_alone:
        return None  # it was tried above
    return Made("a" if plain_a else "b", exact=False, ratio=0.0)


def _is_dequantized(of: Tensor, to: Tensor, found: Agreement) -> bool:
    """Whether a tensor of a plain type has just the weights of a quantized one, rounded to it."""
    if LAYOUTS[of.type.name].block_length == 1 or LAYOUTS[to.type.name].block_length > 1:
        return False
    n = of.info.n_elements
    stretches = [(start, min(start + _SAMPLED, n)) for start in _starts(n)]
    stretches.append((found.worst_at, min(found.worst_at + STRETCH, n)))
    tried = (_three(of, to, *stretch) for stretch in stretches)
    return all(np.array_equal(c, q) for _, c, q in tried)


def _is_source(of: Tensor, to: Tensor) -> bool:
    """Whether a tensor may be what another was quantized from: of no fewer bits."""
    return (
        of.type is not to.type
        and (of.info.bits_per_weight or 0) >= (to.info.bits_per_weight or 0)
        and CODECS[to.type.name].makes_alone
    )


def _made(source: str, of: Tensor, to: Tensor, found: Agreement) -> Made | None:
    n = of.info.n_elements
    exact = True
    error = plain = weights = 0.0
    for start in _starts(n):
        r, c, q = _three(of, to, start, min(start + _SAMPLED, n))
        exact = exact and np.array_equal(c, q)
        got, best = agreement(r, c).error, agreement(r, q).error
        error, plain = error + got.squared_error, plain + best.squared_error
        weights += got.squared_weights
    # Where the whole is worst is tried too: weights may be others in a few rows alone.
    r, c, q = _three(of, to, found.worst_at, min(found.worst_at + STRETCH, n))
    exact = exact and np.array_equal(c, q)
    ratio = (error / plain) ** 0.5 if plain else 0.0
    if exact:
        return Made(source, exact=True, ratio=ratio)
    if LAYOUTS[of.type.name].block_length > 1 or LAYOUTS[to.type.name].block_length == 1:
        return None  # of two quantizations, and of two plain types, only equal weights tell
    if way := _way(of, to, found.worst_at):
        return Made(source, exact=True, ratio=ratio, through=way)
    floor = ROUNDING.get(of.type.name, 1e-6)
    is_plain = not CODECS[to.type.name].weighs
    off, best_off = (value / weights if weights else 0.0 for value in (error, plain))
    worst, best_worst = agreement(r, c).relative, agreement(r, q).relative
    if off**0.5 > (PLAIN if is_plain else WEIGHED) * best_off**0.5 + floor:
        return None
    if worst > (PLAIN if is_plain else WEIGHED_PART) * best_worst + floor:
        return None
    return Made(source, exact=False, ratio=ratio)


def _starts(n: int) -> list[int]:
    """Return where the stretches begin that are tried, evenly over n weights."""
    even = np.linspace(0, max(0, n - _SAMPLED), _STRETCHES).astype(np.int64)
    return sorted({int(start) // _SAMPLED * _SAMPLED for start in even})


def _way(of: Tensor, to: Tensor, worst_at: int) -> tuple[str, ...]:
    """Return the types that lead from one tensor to the other by more than one quantization.

    Tried at the beginning, and where they differ most.
    """
    n, row = of.info.n_elements, math.gcd(of.shape[-1], _SAMPLED)
    places = {(0, min(_SAMPLED, n)), (worst_at, min(worst_at + STRETCH, n))}
    r, c = (
        np.concatenate([read_weights(t, *place) for place in sorted(places)]).reshape(-1, row)
        for t in (of, to)
    )
    few = max(1, SUPER // row)  # of most files nothing fits these few already
    if next(ways_between(r[:few], c[:few], to.type.name), None) is None:
        return ()
    ways = ways_between(r, c, to.type.name)
    return next((way for way in ways if way[0] != to.type.name), ())


def _three(of: Tensor, to: Tensor, start: int, stop: int) -> tuple[Floats, Floats, Floats]:
    """Return the weights of both from ``start`` on, and what plain quantization makes, (n,)."""
    block = LAYOUTS[to.type.name].block_length
    r, c = read_weights(of, start, stop), read_weights(to, start, stop)
    return r, c, through(r.reshape(-1, block), to.type.name).reshape(-1)
