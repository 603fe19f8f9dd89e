"""The terminal, the pipe, and tables that fit either."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from rich.console import Console, RenderableType
from rich.table import Column, Table
from rich.text import Text

from ggufscope.report.units import printable

PIPE_WIDTH: Final = 400
"""Width for output that is not a terminal: wide enough that no line is broken or cut."""

HEADING: Final = "bold cyan"
"""The style of a heading within a table."""

LONGEST_CELL: Final = 300
"""Characters of a name or a value in a table; a paragraph may have more."""
LONGEST_PARAGRAPH: Final = 4000
MOST_ROWS: Final = 2000
"""Rows that a table shows."""


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that interprets nothing: no markup, no emoji codes, no guessed colours.

    Colours follow ``NO_COLOR`` and the terminal; the width follows ``COLUMNS`` and the terminal.
    """
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(
        stderr=stderr, width=width, markup=False, emoji=False, highlight=False, soft_wrap=False
    )


def show(console: Console, views: Iterable[RenderableType]) -> None:
    """Print one view under the other, without the blanks that fill up the last column."""
    with console.capture() as capture:
        for view in views:
            console.print(view)
    lines = (line.rstrip(" ") for line in capture.get().split("\n"))
    console.file.write("\n".join(lines))


def plain_table(*columns: Column, header: bool = True) -> Table:
    """Return a table without lines, two spaces between columns."""
    return Table(
        *columns,
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        show_header=header,
        header_style="bold",
    )


def left(title: str) -> Column:
    """Return a column of names: never cut, folded only where nothing else helps."""
    return Column(title, no_wrap=True, overflow="fold")


def words(title: str) -> Column:
    """Return a column of words: what gives way first where the terminal is narrow."""
    return Column(title, overflow="ellipsis")


def right(title: str) -> Column:
    """Return a column of numbers."""
    return Column(title, no_wrap=True, justify="right")


def cell(text: str, style: str = "") -> Text:
    """Return a cell of one line, control characters escaped; cut with an ellipsis if it must."""
    shown = printable(text, most=LONGEST_CELL)
    return Text(shown, style=style, no_wrap=True, overflow="ellipsis")


def name_cell(text: str, style: str = "") -> Text:
    """Return a cell of one name, its control characters escaped; never cut."""
    return Text(printable(text, most=LONGEST_CELL), style=style, overflow="fold")


def paragraph(text: str, style: str = "") -> Text:
    """Return running text, wrapped at words."""
    return Text(printable(text, "\n", LONGEST_PARAGRAPH), style=style, overflow="fold")


def title(text: str) -> Text:
    """Return the heading of a section."""
    return paragraph(f"\n{text}\n", "bold underline")


def hidden_rows(rows: int, what: str, where: str) -> Iterator[Text]:
    """Say how many of a table's rows are left out, if any, and where they are."""
    if rows > MOST_ROWS:
        yield paragraph(f"... and {rows - MOST_ROWS:,} {what} more: {where}", "dim")


def facts(rows: Sequence[tuple[str, str]]) -> Table:
    """Return a list of facts: a word, and what there is to say."""
    table = plain_table(Column(no_wrap=True, style="bold"), Column(overflow="fold"), header=False)
    for word, fact in rows:
        table.add_row(word, paragraph(fact))
    return table
