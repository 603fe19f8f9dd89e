"""Attention matrices as text: what a page has of them, each number as exactly as it is printed.

Shares are whole steps of a hundredth or a tenth of a percent. A candidate is kept as its
difference to the reference: in steps of the same size, or of a tenth, a hundredth ... of it in
heads where little changed. So a difference is never lost among the rounding errors of two shares.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ggufscope.arrays import Reals

NO_NUMBER: Final = 65535
"""Stands for a share, or a difference, that is no number."""
FINE_CELLS: Final = 2_000_000
"""Shares up to which a page has room for a second decimal."""
_LEAST: Final = 10
"""The fewest steps that the largest difference of a head has, if more decimals can do it."""
_FINEST: Final = 6
"""Decimals beyond those of shares that a difference may have."""

Levels = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Packed:
    """The heads of a layer, packed."""

    text: str
    finer: tuple[int, ...]
    """By head: decimals that its differences have beyond those of shares; none of a reference."""
    largest: tuple[float, ...]
    """By head: its largest share, or of a candidate its largest difference of either sign."""


def decimals_of(cells: int) -> int:
    """Return the decimals of a share in percent, for so many shares in a page."""
    return 2 if cells <= FINE_CELLS else 1


def pack(maps: Reals, decimals: int, reference: Reals | None = None) -> Packed:
    """Shares (H, R, C), causal -> text; what is right of the diagonal is left out.

    C is R, or R + 1 with a column for earlier tokens. Of each place the heads stand side by side;
    those of a candidate are sorted by the reference's shares, since what is large moves most and
    numbers of one size pack best together. Steps of either sign become numbers from 0 up; all low
    bytes, all high bytes, deflate, base64.
    """
    rows, columns = maps.shape[-2:]
    seen = np.tri(rows, columns, columns - rows, dtype=np.bool_)
    steps = 100 * 10**decimals
    shares = np.asarray(maps[:, seen], np.float64).T  # (cells, H)
    levels = _levels(shares, steps)
    if reference is None:
        return Packed(_text(levels.reshape(-1)), (), _largest(shares))
    was = np.asarray(reference[:, seen], np.float64).T
    before = _levels(was, steps)
    with np.errstate(invalid="ignore"):  # infinite shares differ by no number
        gaps = shares - was
    largest = _largest(np.abs(gaps))
    finer = tuple(_finer(each, steps) for each in largest)
    scale = steps * 10.0 ** np.array(finer, np.float64)
    fine = np.array(finer, np.bool_)
    whole = np.where(fine, _rounded(gaps * scale), levels - before).astype(np.int32)
    codes = np.where(whole < 0, -2 * whole - 1, 2 * whole)
    codes[~np.isfinite(gaps)] = NO_NUMBER
    order = np.argsort(before.reshape(-1).astype(np.uint16), kind="stable")
    return Packed(_text(codes.reshape(-1)[order]), finer, largest)


def _levels(shares: npt.NDArray[np.float64], steps: int) -> Levels:
    levels = np.clip(_rounded(shares * steps), 0, steps).astype(np.int32)
    levels[~np.isfinite(shares)] = NO_NUMBER
    return levels


def _rounded(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    near: npt.NDArray[np.float64] = np.nan_to_num(np.rint(numbers), posinf=0, neginf=0)
    return near


def _largest(numbers: npt.NDArray[np.float64]) -> tuple[float, ...]:
    known = np.where(np.isfinite(numbers), numbers, 0.0)
    return tuple(map(float, known.max(axis=0, initial=0.0)))


def _finer(largest: float, steps: int) -> int:
    """Return the decimals that leave the largest difference enough steps."""
    if not largest:
        return 0
    return next((n for n in range(_FINEST) if largest * steps * 10**n >= _LEAST), _FINEST)


def _text(codes: npt.NDArray[Any]) -> str:
    planes = np.concatenate([codes & 0xFF, codes >> 8]).astype(np.uint8)
    # Few repeats are worth a search, but codes anew every 4096 numbers are.
    deflate = zlib.compressobj(6, zlib.DEFLATED, 15, 6, zlib.Z_FILTERED)
    return base64.b64encode(deflate.compress(planes.tobytes()) + deflate.flush()).decode("ascii")
