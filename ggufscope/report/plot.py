"""Size against divergence, in letters, for the terminal and for whatever has no pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.text import Text

from ggufscope.report.console import GREEN
from ggufscope.report.units import size

LETTERS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""What stands for a candidate in a picture."""
_ROWS: Final = 16
_LEFT: Final = 8
"""Columns of the numbers of the vertical axis."""


@dataclass(frozen=True, slots=True)
class Point:
    """One candidate in the picture."""

    letter: str
    nbytes: int
    divergence: float
    beaten: bool


def decades(values: Sequence[float]) -> tuple[int, int]:
    """Return the powers of ten below and above all positive numbers."""
    found = [math.log10(each) for each in values if each > 0 and math.isfinite(each)]
    if not found:
        return -1, 0
    low, high = math.floor(min(found)), math.ceil(max(found))
    return low, max(high, low + 1)


def plot(
    points: Sequence[Point], width: int, curve: Sequence[tuple[int, float]] = ()
) -> list[Text]:
    """Return the lines of the picture: to the right larger, up a larger divergence.

    ``curve``: bytes and divergences by size, drawn in dots from each to the next, under the points.
    """
    numbers = [(each.nbytes, each.divergence) for each in points] + [*curve]
    low, high = decades([divergence for _, divergence in numbers])
    smallest = min((nbytes for nbytes, _ in numbers), default=0)
    largest = max((nbytes for nbytes, _ in numbers), default=1)
    columns = max(20, width - _LEFT - 2)
    grid: list[list[tuple[str, str]]] = [[(" ", "")] * columns for _ in range(_ROWS)]
    for column in range(columns if curve else 0):
        value = _at(curve, smallest + (largest - smallest) * column / (columns - 1))
        if value > 0:
            row = round((high - math.log10(value)) / (high - low) * (_ROWS - 1))
            grid[row][column] = ("·", "")
    for each in sorted(points, key=lambda point: not point.beaten):  # the better ones on top
        share = (each.nbytes - smallest) / max(1, largest - smallest)
        level = math.log10(each.divergence) if each.divergence > 0 else low
        if not math.isfinite(level):
            continue
        row = round((high - level) / (high - low) * (_ROWS - 1))
        column = _free(grid[min(max(row, 0), _ROWS - 1)], round(share * (columns - 1)))
        style = "dim" if each.beaten else f"bold {GREEN}"
        grid[min(max(row, 0), _ROWS - 1)][column] = (each.letter, style)
    lines = []
    ticks = {
        round((high - power) / (high - low) * (_ROWS - 1)): f"{10.0**power:g}"
        for power in range(low, high + 1)
    }
    for number, places in enumerate(grid):
        tick = ticks.get(number, "")
        line = Text(f"{tick:>{_LEFT}} {'┤' if tick else '│'}")
        for character, style in places:
            line.append(character, style)
        line.rstrip()
        lines.append(line)
    lines.append(Text(" " * (_LEFT + 1) + "└" + "─" * columns, "dim"))
    ends = size(smallest), size(largest)
    gap = columns - len(ends[0]) - len(ends[1])
    lines.append(Text(" " * (_LEFT + 2) + ends[0] + " " * max(1, gap) + ends[1], "dim"))
    return lines


def _at(curve: Sequence[tuple[int, float]], nbytes: float) -> float:
    """Return a curve's height at a size, by its logarithm between two points; 0 beside it."""
    before = max((p for p in curve if p[0] <= nbytes), default=None)
    after = min((p for p in curve if p[0] >= nbytes), default=None)
    if before is None or after is None or min(before[1], after[1]) <= 0:
        return 0.0
    part = (nbytes - before[0]) / max(1, after[0] - before[0])
    return float(before[1] ** (1 - part) * after[1] ** part)


def _free(row: Sequence[tuple[str, str]], column: int) -> int:
    """Return the place nearest to a column where nothing stands."""
    free = [at for at, (character, _) in enumerate(row) if character in " ·"]
    return min(free, key=lambda at: abs(at - column)) if free else column
