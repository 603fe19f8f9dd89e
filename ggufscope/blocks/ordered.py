"""Float32 arithmetic with the results of C, bit for bit, on many lanes at once.

The quantizers of ggml are loops over the 16 or 32 weights of a sub-block, in float32, in one
order. Float addition is not associative, so the order is part of the result. Here every sub-block
is a *lane*, a column of a ``(k, lanes)`` array: the loop runs over the rows, and each operation
serves all lanes. A lane sees the operations of the C loop, in their order, and nothing else.

``np.sum``, ``np.mean`` and ``@`` add in an order of their own. They are not used in this package.

NumPy converts a float to an integer by the same machine instruction as C, so what C leaves open,
a float that does not fit, is settled alike; on x86-64 it becomes the lowest ``int32``, and a byte
keeps its low bits.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ggufscope.arrays import Array, Bytes, Floats, Halves, Ints, Words16

MAGIC: Final = np.float32(1.5 * 2**23)
"""From 2**23 to 2**24 the float32 numbers are the integers: adding this rounds to nearest, even."""

MAGIC_REACH: Final = 4194303.0
"""The largest magnitude that ``MAGIC`` rounds (2**22 - 1)."""

LARGEST: Final = np.finfo(np.float32).max
"""C's ``FLT_MAX``."""

_STRIP: Final = 1 << 13
_SIGN: Final = np.uint32(1 << 31)
_MANTISSA: Final = np.int32((1 << 23) - 1)
_MIDDLE: Final = np.int32(1 << 22)
_BELOW_HALF: Final = np.nextafter(np.float32(0.5), np.float32(0)).view(np.uint32)


def lanes_of(x: Floats, length: int) -> Floats:
    """x (n, m) -> (length, n * m / length): each run of ``length`` weights becomes a column.

    Always a copy, in C order, for the caller to work in; made strip by strip, because a strip
    that stays in the first-level cache is transposed twice as fast.
    """
    runs = x.reshape(-1, length)
    lanes = np.empty((length, len(runs)), np.float32)
    strip = _STRIP // length
    for start in range(0, len(runs), strip):
        lanes[:, start : start + strip] = runs[start : start + strip].T
    return lanes


def rows_of(levels: Array, blocks: int) -> Array:
    """levels (length, lanes) -> (blocks, m): the way back from ``lanes_of``."""
    return np.ascontiguousarray(levels.T).reshape(blocks, -1)


def per_weight(values: Floats, out: Floats) -> Floats:
    """values (n, s) -> the shape of out (n, m): each value serves a run of m / s weights."""
    return np.repeat(values, out.size // values.size).reshape(out.shape)


def flip_signs(out: Floats, minus: Bytes) -> None:
    """out, minus (n, m): change the sign, of a NaN too, where minus is 1."""
    bits = minus.astype(np.uint32)
    bits <<= 31
    np.bitwise_xor(out.view(np.uint32), bits, out=out.view(np.uint32))


def sum_rows(terms: Floats) -> Floats:
    """terms (k, lanes) -> (lanes,): 0 + row 0 + row 1 + ..., one addition after the other.

    A reduction over the first axis of a C-ordered array adds row after row. With one lane only,
    NumPy would take the column for one long run and add it in pairs, hence the second form.
    """
    if terms.shape[1] == 1:
        return np.asarray(np.add.accumulate(terms, axis=0)[-1] + np.float32(0))
    return np.asarray(np.add.reduce(np.ascontiguousarray(terms), axis=0, initial=0))


def smallest(x: Floats, start: np.float32 | None = None) -> Floats:
    """x (k, lanes) -> (lanes,): C's ``if (v < min) min = v``, from ``start`` or from row 0.

    A NaN is never smaller, so it is passed over, but a NaN in row 0 stays if the loop starts
    there. Of zeros with both signs the first one stays.
    """
    if start is None:
        found: Floats = np.fmin.reduce(x, axis=0)
        np.copyto(found, x[0], where=np.isnan(x[0]))
    else:
        found = np.fmin.reduce(x, axis=0, initial=start)
    zero = np.flatnonzero(found == 0)
    if zero.size:
        among = np.take(x, zero, axis=1)
        found[zero] = among[np.argmax(among == 0, axis=0), np.arange(zero.size)]
    return found


def largest(x: Floats, start: np.float32 | None = None) -> Floats:
    """x (k, lanes) -> (lanes,): C's ``if (v > max) max = v``; see ``smallest``."""
    return -smallest(-x, None if start is None else -start)


def largest_by_macro(x: Floats) -> Floats:
    """x (k, lanes) -> (lanes,): ``max = MAX(max, v)`` from row 0.

    C's macro takes a NaN, and loses it again.
    """
    found: Floats = x[0].copy()
    for row in x[1:]:
        np.copyto(found, row, where=~(found > row))
    return found


def extreme(x: Floats) -> Floats:
    """x (k, lanes) -> (lanes,): the first weight of the largest magnitude, with its sign.

    C's ``if (fabsf(v) > amax) { amax = fabsf(v); max = v; }`` from 0: a NaN is passed over, and a
    lane of zeros gives +0.
    """
    high: Floats = np.fmax.reduce(x, axis=0)
    low: Floats = np.fmin.reduce(x, axis=0)
    found = np.where(high > -low, high, low)
    tied = np.flatnonzero(~((high > -low) | (high < -low)))
    if tied.size:
        among = np.take(x, tied, axis=1)
        magnitude = np.where(np.isnan(among), np.float32(0), np.abs(among))
        first = np.argmax(magnitude, axis=0)
        columns = np.arange(tied.size)
        found[tied] = np.where(magnitude[first, columns] > 0, among[first, columns], 0)
    return found


def peak(x: Floats) -> Floats:
    """x (k, lanes) -> (lanes,): C's ``if (amax < fabsf(v)) amax = fabsf(v)``, from 0."""
    return np.asarray(np.fmax.reduce(np.abs(x), axis=0, initial=0))


def peak_of_rows(x: Floats) -> Floats:
    """x (n, m) -> (n,): ``amax = MAX(amax, fabsf(v))`` with ggml's macro, from 0, row by row.

    The macro gives its second argument where the comparison fails, so a NaN is taken, and lost
    again to the next weight. Where there is none the order does not matter, and the weights move
    four at a time: a quarter of the work of turning every row into a column.
    """
    fours = np.ascontiguousarray(x.view(np.complex128).T).view(np.float32)
    high, low = np.maximum.reduce(fours, axis=0), np.minimum.reduce(fours, axis=0)
    found: Floats = np.abs(
        np.maximum.reduce(np.maximum(high, -low).reshape(-1, 4).T.copy(), axis=0)
    )
    lost = np.flatnonzero(np.isnan(found))
    if lost.size:
        amax = np.zeros(lost.size, np.float32)
        for column in np.abs(x[lost].T):
            amax = np.where(amax > column, amax, column)
        found[lost] = amax
    return found


def reciprocal(d: Floats) -> Floats:
    """C's ``d ? 1/d : 0``, lane by lane."""
    inverse = np.float32(1) / d
    inverse[d == 0] = 0
    return inverse


def nearest_int(x: Floats) -> Ints:
    """Round to the nearest integer, ties to even, as ggml's ``nearest_int``, whatever ``x`` is.

    The integer is read from the mantissa of ``x + MAGIC``. Beyond ``MAGIC_REACH`` these bits mean
    something else, and they are what ggml uses: so they are the result here too.
    """
    bits = (x + MAGIC).view(np.int32)
    bits &= _MANTISSA
    bits -= _MIDDLE
    return bits


def nearest_level(t: Floats, low: int, high: int) -> Ints:
    """Round t to integers in [low, high], as ggml does, for any t: ``nearest_int``, then clamp."""
    return np.clip(nearest_int(t), low, high)


def round_quick(t: Floats, low: Floats | None, high: Floats | None) -> None:
    """Round t in place, and clamp to bounds that have ``MAGIC`` in them. For ``MAGIC_REACH``.

    The bounds have the shape of t: NumPy clamps to an array twice as fast as to a number.
    """
    t += MAGIC
    if low is not None:
        np.maximum(t, low, out=t)
    if high is not None:
        np.minimum(t, high, out=t)
    t -= MAGIC


def truncate(x: Floats) -> Ints:
    """C's ``(int) x``: towards zero."""
    return x.astype(np.int32)


def nudge_away(x: Floats) -> Floats:
    """x -> the number whose truncation is ``roundf(x)``: to nearest, ties away from zero.

    Adding the largest float below one half, not one half, keeps 0.49999997 from becoming 1; a tie
    still reaches the next integer, because the sum is itself rounded, to even.
    """
    nudge = x.view(np.uint32) & _SIGN
    nudge |= _BELOW_HALF
    nudged = nudge.view(np.float32)
    nudged += x
    return nudged


def to_half(x: Floats) -> Halves:
    """Round to float16, ties to even. Any NaN becomes the canonical one and keeps its sign."""
    half = x.astype("<f2")
    lost = np.isnan(half)
    if lost.any():
        sign = x.view(np.uint32)[lost] >> 16 & 0x8000
        half.view("<u2")[lost] = sign | 0x7E00
    return half


def from_half(half: Halves) -> Floats:
    """Widen float16 to float32: exact; a signalling NaN becomes quiet, as it does in ggml."""
    wide = half.astype(np.float32)
    wide *= np.float32(1)
    return wide


def to_bfloat(x: Floats) -> Words16:
    """Round to bfloat16, ties to even, as its bits. A NaN stays one: its top bits, made quiet."""
    bits = x.view(np.uint32)
    odd = bits >> 16 & 1
    rounded = bits + (odd + np.uint32(0x7FFF)) >> 16
    return np.where(np.isnan(x), bits >> 16 | 0x40, rounded).astype("<u2")


def from_bfloat(bits: Words16) -> Floats:
    """Widen the bits of bfloat16 to float32: exact."""
    wide = bits.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)
