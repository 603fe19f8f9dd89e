"""Hugging Face's names of the stored tensors, for eyes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from rich.console import RenderableType

from ggufscope.model.hf_names import HFName
from ggufscope.model.inventory import Entry, Fold, fold
from ggufscope.model.roles import role_of
from ggufscope.report.console import (
    MOST_ROWS,
    hidden_rows,
    left,
    name_cell,
    paragraph,
    plain_table,
    text,
    title,
)


def names_section(
    entries: Sequence[Entry], names: Mapping[str, HFName], *, one_a_line: bool
) -> Iterator[RenderableType]:
    """Show each tensor's name in the file and in a checkpoint, those of several layers as one.

    What the converter did to a tensor is a number in brackets, explained under the table.
    """
    rows = [(entry.tensor.name, names[entry.tensor.name]) for entry in entries]
    yield title("Names of the stored tensors")
    if rows and not any(known.name for _, known in rows):
        yield paragraph(f"{rows[0][1].note}.")
        return
    if not one_a_line:
        rows = [_folded(each, names) for each in fold(entries)]
    notes: dict[str, int] = {}
    table = plain_table(left("in the file"), text("in Hugging Face's checkpoint"))
    for name, known in rows[:MOST_ROWS]:
        mark = f" [{notes.setdefault(known.note, len(notes) + 1)}]" if known.note else ""
        table.add_row(name_cell(name), name_cell((known.short or "-") + mark))
    yield table
    yield from hidden_rows(len(rows), "lines", "--filter and --json reach them")
    yield ""
    for note, number in notes.items():
        yield paragraph(f"[{number}] {note}", "dim")


def _folded(tensors: Fold, names: Mapping[str, HFName]) -> tuple[str, HFName]:
    """Return a name and Hugging Face's, with an N for the layer where it stands for several."""
    name, known = tensors.first.name, names[tensors.first.name]
    if len(tensors.layers) < 2:
        return name, known
    number = f".{role_of(name).layer}."
    if known.name is not None:
        known = replace(known, name=known.name.replace(number, ".N.", 1))
    return tensors.name, known
