"""Numbers and vectors as ``--explain`` prints them: enough digits to work with, cut where long."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from rich.text import Text

from ggufscope.arrays import Reals

SHOWN: Final = 5
"""Numbers of a vector that are printed, and in a line where all are."""
_WIDTH: Final = 10
"""Columns of a number: more than any has, so that two never touch."""


def number(x: float) -> str:
    """Return a number with four decimals, or with three digits where those say less or are many."""
    size = abs(x)
    if not math.isfinite(x):
        return str(x)
    if x and not 1e-3 <= size < 1e3:
        return f"{x:.2e}"
    return f"{x:.4f}" if x else "0"


def vector(numbers: Reals, *, full: bool, most: int = SHOWN) -> Text:
    """Return the first numbers of a vector and how many there are, or all of them."""
    each = [f"{number(x):>{_WIDTH}}" for x in numbers.tolist()]
    if full or len(each) <= most:
        lines = ["".join(each[n : n + most]) for n in range(0, len(each), most)]
        return Text("\n".join(lines), no_wrap=True)
    return Text(f"{''.join(each[:most])} ... of {len(each)}", no_wrap=True)


def listed(numbers: Sequence[int]) -> str:
    """Return ``3``, ``3 and 5``, ``3, 5 and 9``."""
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}" if first else last
