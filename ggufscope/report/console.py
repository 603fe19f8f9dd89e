"""The terminal, the pipe, and tables that fit either."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from ggufscope.report.units import printable

PIPE_WIDTH: Final = 1 << 16
"""Width for output that is not a terminal: wide enough that no line is broken or cut."""

# The terminal's own sixteen colours differ from theme to theme: its blue is lost on black, its
# yellow on white. These are of the 256 that are the same everywhere, and stand out on both.
GREEN: Final = "color(28)"
CYAN: Final = "color(30)"
BLUE: Final = "color(31)"
ORANGE: Final = "color(130)"
RED: Final = "color(160)"
MAGENTA: Final = "color(164)"

HEADING: Final = f"bold {CYAN}"
"""The style of a heading within a table."""
TITLE: Final = "bold underline"
"""The style of the heading of a section."""

LONGEST_CELL: Final = 300
"""Characters of a name or a value in a table; a paragraph may have more."""
LONGEST_PARAGRAPH: Final = 4000
MOST_ROWS: Final = 2000
"""Rows that a table shows."""
LEAST_WORDS: Final = 12
"""Columns below which words in a table say nothing."""


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


class _FittingTable(Table):
    """A table that cuts no name and no number, however narrow the terminal.

    Where the columns have too little room, those of words are left out, and a line names them.
    Where that is not enough, each row becomes its first cell and below it ``heading: cell``.
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.max_width
        kept = [column for column in self.columns if not _is_words(column)]
        if self._fits(self.columns, room):
            yield from super().__rich_console__(console, options)
        elif len(kept) > 1 and self._fits(kept, room):
            copies = (column.copy() for column in kept)
            table = plain_table(*copies, header=self.show_header, gap=self.padding[1])
            for row in zip(*(column.cells for column in kept), strict=True):
                table.add_row(*row)
            yield table
            hidden = ", ".join(str(c.header) for c in self.columns if _is_words(c) and c.header)
            if hidden:
                yield paragraph(f"Left out at {room} columns: {hidden}.", "dim")
        else:
            yield from self._stacked(room)

    def _fits(self, columns: Sequence[Column], room: int) -> bool:
        between = self.padding[1] * (len(columns) - 1)
        return between + sum(self._needs(column) for column in columns) <= room

    def _needs(self, column: Column) -> int:
        texts = [_text(each) for each in column.cells]
        texts += [_text(column.header)] if self.show_header else []
        widest = _widest(line for text in texts for line in text.plain.split("\n"))
        if column.no_wrap:
            return widest
        wrapped = [text for text in texts if _is_words(column) and not text.no_wrap]
        word = _widest(word for text in wrapped for word in text.plain.split())
        return min(widest, max(word, LEAST_WORDS))

    def _stacked(self, room: int) -> Iterator[RenderableType]:
        heads = [_text(column.header).plain.replace("\n", " ") for column in self.columns]
        if self.show_header and heads[0]:
            yield Text(heads[0], "bold", overflow="fold")
        for row in zip(*(column.cells for column in self.columns), strict=True):
            first, *others = map(_text, row)
            name = first.plain.lstrip(" ")
            indent = len(first.plain) - len(name)
            if name:
                yield Padding(Text(name, first.style, overflow="fold"), (0, 0, 0, indent))
            line = Text()
            for head, value in zip(heads[1:], others, strict=True):
                if not value.plain.strip():
                    continue
                pair = Text.assemble((f"{head}: " if head else ""), value)
                if line and line.cell_len + 2 + pair.cell_len > room - indent - 2:
                    yield Padding(line, (0, 0, 0, indent + 2))
                    line = Text()
                line.append("  " if line else "").append_text(pair)
            if line:
                yield Padding(line, (0, 0, 0, indent + 2))


def _is_words(column: Column) -> bool:
    """Return whether a column is what ``words`` returns."""
    return column.overflow == "ellipsis" and not column.no_wrap


def _widest(texts: Iterable[str]) -> int:
    return max(map(cell_len, texts), default=0)


def _text(of: RenderableType) -> Text:
    """Return a cell or a heading, which are all words."""
    return of if isinstance(of, Text) else Text(str(of))


def plain_table(*columns: Column, header: bool = True, gap: int = 2) -> Table:
    """Return a table without lines, ``gap`` spaces between columns."""
    return _FittingTable(
        *columns,
        box=None,
        pad_edge=False,
        padding=(0, gap, 0, 0),
        show_header=header,
        header_style="bold",
    )


def left(title: str) -> Column:
    """Return a column of names: never cut, folded only where nothing else helps."""
    return Column(title, no_wrap=True, overflow="fold")


def words(title: str) -> Column:
    """Return a column of words: what gives way first where the terminal is narrow."""
    return Column(title, overflow="ellipsis")


def text(title: str) -> Column:
    """Return a column of text that a reader came for: wrapped, never left out."""
    return Column(title, overflow="fold")


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
    return paragraph(f"\n{text}\n", TITLE)


def hidden_rows(rows: int, what: str, where: str) -> Iterator[Text]:
    """Say how many of a table's rows are left out, if any, and where they are."""
    if rows > MOST_ROWS:
        yield paragraph(f"... and {rows - MOST_ROWS:,} {what} more: {where}", "dim")


def facts(rows: Sequence[tuple[str, str]]) -> Table:
    """Return a list of facts: a word, and what there is to say."""
    table = plain_table(Column(no_wrap=True, style="bold"), Column(overflow="fold"), header=False)
    for word, fact in rows:
        # A newline is no part of a fact: it is in the name of a file, say.
        table.add_row(word, Text(printable(fact, most=LONGEST_PARAGRAPH), overflow="fold"))
    return table
