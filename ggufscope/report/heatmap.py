"""A head's attention in the terminal: tokens down and across, shares as shades.

Rows are the tokens that look, columns those that are looked at. The shade is a character, so the
picture survives a pipe and a terminal without colour; where there is room the share stands beside
it in percent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from ggufscope.arrays import Reals
from ggufscope.measure.maps import window
from ggufscope.report.console import BLUE, CYAN, GREEN, MAGENTA, ORANGE, PIPE_WIDTH, RED
from ggufscope.report.units import decimals, printable

DEFAULT_WIDTH: Final = 80
SHADES: Final = "·░▒▓█"
PLAIN_SHADES: Final = ".-+*#"
"""For an output that can write nothing but ASCII."""
_UP_TO: Final = (0.005, 0.10, 0.35, 0.70, 1.0)
"""The share that each shade goes up to."""
_STYLES: Final = ("dim", BLUE, CYAN, f"bold {GREEN}", f"bold {RED}")
_MORE, _LESS = ORANGE, MAGENTA
_NO_NUMBER: Final = "?"

_NUMBER: Final = 7
"""Columns of a cell with a number: a blank, a shade, five for the number."""
_SHADE: Final = 2
_LABEL: Final = 16
"""The widest label of a row."""
_HEADING: Final = 8
"""Lines that a token across the top may take."""
_EARLIER: Final = "(earlier)"

# The unit that the largest difference is at least 1 of: factor, and its name.
_UNITS: Final = (
    (100.0, "percentage points"),
    (1e5, "thousandths of a percentage point"),
    (1e8, "millionths of a percentage point"),
)


@dataclass(frozen=True, slots=True)
class _Grid:
    """What part of a matrix is shown, and how."""

    labels: list[str]
    headings: list[str]
    numbers: bool
    shades: str
    indent: int


def map_width(console: Console) -> int:
    """Return the columns that a map may take: the terminal's, or 80 in a pipe."""
    return DEFAULT_WIDTH if console.width == PIPE_WIDTH else console.width


def shades_for(console: Console) -> str:
    """Return the shades that the console's encoding can write."""
    try:
        SHADES.encode(console.encoding)
    except UnicodeEncodeError:
        return PLAIN_SHADES
    return SHADES


def heatmap(
    weights: Reals, tokens: Sequence[str], *, width: int = DEFAULT_WIDTH, shades: str = SHADES
) -> Iterator[Text]:
    """weights (R, R), row by row what a token attends to; tokens (T) -> the lines of a picture.

    Nothing is drawn where a token cannot look: right of the diagonal, and where a share is
    exactly 0. Of a prompt too long for ``width`` the last tokens are shown, and what they give to
    all the others together in a first column. The weights may be cut so already: (R, R + 1) for
    the last R of T tokens, as ``window`` does it.
    """
    grid = _grid(tokens, width, shades, len(tokens) - len(weights))
    shown = window(np.asarray(weights, np.float64), len(grid.labels))
    yield from _head(grid)
    for row, label in enumerate(grid.labels):
        line = Text(set_cell_size(label, grid.indent))
        for share in shown[row][: len(grid.headings) - len(grid.labels) + row + 1]:
            level = sum(share > most for most in _UP_TO[:-1])
            shade = grid.shades[level] if share > 0 else " "
            number = f"{100 * share:5.0f}" if share > 0 else "     "
            if np.isnan(share):
                shade, number = _NO_NUMBER, "  nan"
            cell = f" {shade}{number}" if grid.numbers else shade * _SHADE
            line.append(cell, _STYLES[level])
        yield line
    yield _legend(grid)


def difference_map(
    reference: Reals,
    candidate: Reals,
    tokens: Sequence[str],
    *,
    width: int = DEFAULT_WIDTH,
    shades: str = SHADES,
) -> Iterator[Text]:
    """Two matrices as for ``heatmap`` -> a picture of candidate minus reference.

    Every cell has a sign; the darkest shade is the largest difference, which the last line gives.
    """
    grid = _grid(tokens, width, shades, len(tokens) - len(reference))
    gap = np.asarray(candidate, np.float64) - np.asarray(reference, np.float64)
    shown = window(gap, len(grid.labels))
    sizes = np.abs(shown)
    largest = float(sizes[np.isfinite(sizes)].max(initial=0.0))
    factor, unit = next((u for u in _UNITS if u[0] * largest >= 1), _UNITS[-1])
    places = decimals(factor * largest)
    yield from _head(grid)
    for row, label in enumerate(grid.labels):
        line = Text(set_cell_size(label, grid.indent))
        for change in shown[row][: len(grid.headings) - len(grid.labels) + row + 1]:
            known = bool(np.isfinite(change))
            level = int(np.ceil(4 * abs(change) / largest)) if largest and known else 0
            shade = grid.shades[level] if level else " " if known else _NO_NUMBER
            sign = "+" if change > 0 else "-" if change < 0 else " "
            number = f"{factor * change:+5.{places}f}" if change else "     "
            cell = f" {shade}{number}" if grid.numbers else sign + shade
            line.append(cell, _MORE if change > 0 else _LESS if change < 0 else "")
        yield line
    most = f"{factor * largest:.{places}f}"
    darkest = grid.shades[-1]
    said = (
        f"{darkest} {most}: the largest"
        if grid.numbers
        else f"+{darkest} {most} more, -{darkest} less"
    )
    if not np.isfinite(sizes).all():
        yield Text(f"{_NO_NUMBER}: a share that is no number in one of the two", "dim")
    elif not largest:
        yield Text("no difference", "dim")
    if largest:
        yield Text(f"{said}, in {unit}", "dim")


def _grid(tokens: Sequence[str], width: int, shades: str, cut: int) -> _Grid:
    """``cut``: how many of the first tokens share a column already."""
    names = [_name(token) for token in tokens]
    digits = len(str(len(names) - 1))
    longest = max((cell_len(name) for name in names), default=0)
    indent = min(digits + 1 + longest, _LABEL)
    numbers = not cut and indent + _NUMBER * len(names) <= width
    room = max(2, (width - indent - 1) // _SHADE)
    first = 0 if numbers or len(names) <= room else len(names) - (room - 1)
    first = max(first, cut)
    labels = [f"{n:>{digits}} {names[n]}" for n in range(first, len(names))]
    headings = ([_EARLIER] if first else []) + names[first:]
    return _Grid(labels, headings, numbers, shades, indent if numbers else indent + 1)


def _name(token: str) -> str:
    """Return a token that shows where it begins: a leading blank is part of most of them."""
    return printable(token).replace(" ", "▁") or "(empty)"


def _head(grid: _Grid) -> Iterator[Text]:
    blank = " " * grid.indent
    if grid.numbers:
        cells = (" " + set_cell_size(name, _NUMBER - 1) for name in grid.headings)
        yield Text(blank + "".join(cells).rstrip(), "bold")
        return
    letters = [[c for c in name if cell_len(c)][:_HEADING] for name in grid.headings]
    depth = max(map(len, letters), default=0)
    for n in range(depth):
        # Hung from below: each token ends right above its column.
        row = [name[n - depth + len(name)] if n >= depth - len(name) else "" for name in letters]
        yield Text(blank + "".join(set_cell_size(c, _SHADE) for c in row).rstrip(), "bold")


def _legend(grid: _Grid) -> Text:
    limits = ", ".join(
        f"{shade} {100 * most:g}%" for shade, most in zip(grid.shades, _UP_TO, strict=True)
    )
    return Text(f"{'in percent; ' if grid.numbers else ''}up to {limits}", "dim")
