"""What the terminal is shown, as GitHub Markdown: to paste into an issue, or a model's page.

The names in a model file are a stranger's words. None of them may become a link, a picture, HTML,
a mention or another cell of a table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ggufscope import __version__
from ggufscope.report.console import TITLE
from ggufscope.report.units import printable

_ACTIVE: Final = re.compile(r"[\\`*\[\]~#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""What Markdown acts on within a line; an underscore within a word is none of it."""
_AT_START: Final = re.compile(r"(\d*)([-+](?=[ -]|$)|(?<=\d)[.)](?= |$))")
"""What makes a paragraph a list, or a line across."""
_ENTITIES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"})
_LINKED: Final = re.compile(r"://|www\.|@|\$|[#:]\w|\bGH-", re.IGNORECASE)
"""What GitHub makes a link, a mention, an emoji or a formula of, even where it is escaped."""
_FENCES: Final = re.compile("`+")


def report(views: Iterable[RenderableType], command: str) -> Iterator[str]:
    """Return views as Markdown, block after block; the last line has version and command."""
    for view in views:
        if isinstance(view, Table):
            block = _facts(view) if not view.show_header else _table(view)
        elif isinstance(view, Text):
            text = escaped(view.plain)
            if start := _AT_START.match(text):
                text = f"{start[1]}\\{text[start.start(2) :]}"
            block = f"## {text}" if view.style == TITLE else _marked(text, view)
        else:
            continue  # an empty line, which stands between blocks anyway
        if block:
            yield f"{block}\n\n"
    yield f"ggufscope {__version__}: {code(printable(command))}\n"


def escaped(text: str) -> str:
    """Return a text as Markdown that shows it, in one line, and does nothing else."""
    text = " ".join(text.split())
    if _LINKED.search(text):  # only code keeps GitHub from it; a cell would end at a pipe even so
        return "&#124;".join(code(part) if part else "" for part in text.split("|"))
    return _ACTIVE.sub(r"\\\g<0>", text).translate(_ENTITIES)


def code(text: str) -> str:
    """Return a text as code, with as many backticks around it as no run in it has."""
    fence = "`" * (1 + max(map(len, _FENCES.findall(text)), default=0))
    edge = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{edge}{text}{edge}{fence}"


def _table(table: Table) -> str:
    """Return a table with a line of headings; numbers stay at the right."""
    rules = ("---:" if column.justify == "right" else "---" for column in table.columns)
    heads = (escaped(str(column.header)) for column in table.columns)
    return "\n".join(_line(cells) for cells in (heads, rules, *_rows(table)))


def _facts(table: Table) -> str:
    """Return a table without headings as a list: a word, and what there is to say."""
    return "\n".join(
        f"- **{first.strip('*')}**: {' '.join(filter(None, others))}"
        for first, *others in _rows(table)
    )


def _rows(table: Table) -> Iterator[list[str]]:
    for row in zip(*(column.cells for column in table.columns), strict=True):
        yield [_cell(each) for each in row]


def _cell(of: RenderableType) -> str:
    text = of if isinstance(of, Text) else Text(str(of))
    indent = len(text.plain) - len(text.plain.lstrip(" "))
    return "&emsp;" * (indent // 2) + _marked(escaped(text.plain), text)


def _marked(shown: str, text: Text) -> str:
    return f"**{shown}**" if shown and "bold" in str(text.style) else shown


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
