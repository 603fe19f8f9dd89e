"""Several models at a glance, for eyes and for machines (``schemas/list-models.json``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from rich.console import RenderableType
from rich.table import Column

from ggufscope.report.as_json import pick
from ggufscope.report.console import (
    GREEN,
    MOST_ROWS,
    RED,
    cell,
    hidden_rows,
    left,
    name_cell,
    paragraph,
    plain_table,
    right,
)
from ggufscope.report.units import bits, count, printable, size
from ggufscope.sizing.fitting import Fit
from ggufscope.sizing.shelf import CONTEXT, Row, Shelf

SCHEMA: Final = "ggufscope.list-models/1"
_UNKNOWN: Final = "-"
_STYLES: Final = {Fit.YES: GREEN, Fit.TIGHT: "", Fit.NO: RED}
_WORDS: Final = {Fit.YES: "yes", Fit.TIGHT: "tight", Fit.NO: "no"}


def shelf_views(shelf: Shelf) -> Iterator[RenderableType]:
    """Show the models in a table, what is odd about some, and what they take together."""
    rows = shelf.rows[:MOST_ROWS]
    cells = [(name_cell(row.label or row.name), *_cells(row)) for row in rows]
    # What is the same for all, or known of none, is no column.
    shown = [n for n in range(len(_COLUMNS)) if n not in _ALIKE or not _alike(shelf, _ALIKE[n])]
    table = plain_table(*(_COLUMNS[n]() for n in shown))
    for line in cells:
        table.add_row(*(line[n] for n in shown))
    yield table
    yield from hidden_rows(len(shelf.rows), "models", "--json reaches them")
    noted = [row for row in shelf.rows[:MOST_ROWS] if _note(row)]
    if noted:
        yield ""
    for row in noted:
        yield paragraph(printable(f"{row.label or row.name}: {_note(row)}"))
    yield ""
    yield paragraph(_sum_line(shelf))
    example = next((row.name for row in rows if row.label not in ("", row.name)), "")
    if example:
        yield paragraph(printable(f"name one, for example: {example}"), "dim")
    if shelf.limit is not None:
        gpu = shelf.here.gpu if shelf.here else None
        where = f"{gpu.name}'s" if gpu else "this machine's"
        yield paragraph(
            f"fits here: with {CONTEXT:,} tokens of context, or fewer where it was made for "
            f"fewer, in {where} {size(shelf.limit)} of free memory.",
            "dim",
        )


_COLUMNS: Final[tuple[Callable[[], Column], ...]] = (
    lambda: left("model"),
    lambda: right("weights"),
    lambda: left("type"),
    lambda: right("bits"),
    lambda: right("size"),
    lambda: right("context"),
    lambda: left("fits here"),
)
_ALIKE: Final = {1: "n_elements", 5: "context_length"}
"""Columns that a sentence takes the place of, where all rows have the same in it."""


def _alike(shelf: Shelf, what: str) -> bool:
    return len(shelf.rows) > 1 and len({getattr(row, what) for row in shelf.rows} - {None}) < 2


def _cells(row: Row) -> Iterator[RenderableType]:
    weight = row.bits_per_weight
    yield count(row.n_elements) if row.n_elements else _UNKNOWN
    yield cell(row.type or _UNKNOWN)
    yield bits(round(weight, 2)) if weight else _UNKNOWN
    yield size(row.nbytes) if row.nbytes else _UNKNOWN
    yield f"{row.context_length:,}" if row.context_length else _UNKNOWN
    yield cell(_WORDS[row.fits], _STYLES[row.fits]) if row.fits else cell(_UNKNOWN)


def _note(row: Row) -> str:
    same = _SAME[row.same_by].format(row.same_as) if row.same_as else ""
    return "; ".join(filter(None, [same, row.note]))


_SAME: Final = {
    "inode": "the same file as {}",
    "sha256": "named by the same SHA-256 as {}: not all weights were compared",
    "header": "may be a copy of {}: not all weights were compared; `ggufscope diff` tells",
}


def _sum_line(shelf: Shelf) -> str:
    models = f"{len(shelf.rows):,} model{'' if len(shelf.rows) == 1 else 's'}"
    taken = shelf.nbytes
    double = shelf.nbytes_twice
    spare = f", {size(double)} of it in files named as copies" if double else ""
    weights = {row.n_elements for row in shelf.rows if row.n_elements}
    context = {row.context_length for row in shelf.rows if row.context_length}
    alike = [f"; weights: {count(n)}" for n in weights if _alike(shelf, "n_elements")]
    alike += [f"; context: {n:,} tokens" for n in context if _alike(shelf, "context_length")]
    return f"{models}, {size(taken)}{spare}{''.join(alike)}"


def shelf_json(shelf: Shelf) -> dict[str, Any]:
    """Return the same as one object."""
    return {
        "schema": SCHEMA,
        "memory": {"nbytes": shelf.limit, "context": CONTEXT},
        "models": [
            {
                **pick(row, "name path nbytes files type n_elements bits_per_weight"),
                **pick(row, "context_length fits"),
                "same_as": row.same_as or None,
                "same_by": row.same_by or None,
                "note": row.note or None,
            }
            for row in shelf.rows
        ],
        "nbytes": shelf.nbytes,
        "nbytes_of_copies": shelf.nbytes_twice,
    }
