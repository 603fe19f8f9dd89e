"""What ``ggufscope edit`` shows: the keys that differ, and what is done with which file."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType

from ggufscope.container.values import Value
from ggufscope.recipes.edits import PreparedEdit
from ggufscope.report.console import (
    MOST_ROWS,
    cell,
    facts,
    hidden_rows,
    left,
    name_cell,
    paragraph,
    plain_table,
    text,
)
from ggufscope.report.list.metadata import short_value, type_name
from ggufscope.report.units import size


def edit_views(prepared: PreparedEdit, *, dry_run: bool) -> Iterator[RenderableType]:
    """Return what is different, or will be, and where that is written."""
    if not prepared.differences:
        yield paragraph("Nothing is different.")
    else:
        table = plain_table(left("key"), left("type"), text("before"), text("after"))
        for each in prepared.differences[:MOST_ROWS]:
            name = each.key if each.was == each.key else f"{each.was} > {each.key}"
            value = each.after or each.before
            assert value is not None  # one of them is what makes it a difference
            table.add_row(
                name_cell(name), cell(type_name(value)), *map(_value, (each.before, each.after))
            )
        yield table
        yield from hidden_rows(len(prepared.differences), "keys", "--json has all of them")
    if prepared.rewrites:
        yield ""
        yield facts(_facts(prepared, dry_run=dry_run))


def _value(value: Value | None) -> RenderableType:
    return paragraph("-", "dim") if value is None else paragraph(short_value(value))


def _facts(prepared: PreparedEdit, *, dry_run: bool) -> list[tuple[str, str]]:
    if prepared.in_place:
        path, nbytes = prepared.source.path, prepared.written_nbytes
        said = "1 byte" if nbytes == 1 else f"{nbytes:,} bytes"
        how = f"{path}, in place: {said} of its header"
        return [("would change" if dry_run else "changed", how)]
    word = "written" if prepared.is_copy else "replaced"
    word = {"written": "would write", "replaced": "would replace"}[word] if dry_run else word
    return [
        (word, f"{target}: {rewrite.nbytes:,} bytes, {size(rewrite.nbytes)}")
        for rewrite, target in prepared.rewrites
    ]
