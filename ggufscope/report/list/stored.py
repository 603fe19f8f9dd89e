"""The tensors in the file, for eyes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import RenderableType
from rich.table import Table

from ggufscope.container.file import Tensor
from ggufscope.model.anatomy.build import Anatomy
from ggufscope.model.anatomy.table import TAIL
from ggufscope.model.inventory import Entry, Fold, Total, fold, totals_by_group, totals_by_type
from ggufscope.report.console import (
    GREEN,
    HEADING,
    MOST_ROWS,
    cell,
    hidden_rows,
    left,
    name_cell,
    plain_table,
    right,
    title,
    words,
)
from ggufscope.report.units import bits, count, extents, layers, percent, size, spans

_AFTER_LAYERS: Final = {row.name.removesuffix(".weight") for row in TAIL}


def stored_section(
    entries: Sequence[Entry], anatomy: Anatomy, *, one_a_line: bool
) -> Iterator[RenderableType]:
    """Show the tensors under their heading, and what they weigh together."""
    weights = sum(entry.tensor.info.n_elements for entry in entries)
    nbytes = sum(entry.tensor.nbytes for entry in entries)
    tensors = f"{len(entries)} tensor{'' if len(entries) == 1 else 's'}"
    yield title(f"Stored in the file: {tensors}, {count(weights)} weights, {size(nbytes)}")
    if not entries:
        return
    folds = [] if one_a_line else fold(entries)
    yield flat_view(entries) if one_a_line else stored_view(folds, len(anatomy.layers))
    lines = len(entries) if one_a_line else len(folds)
    yield from hidden_rows(lines, "lines", "--filter and --json reach them")
    if not one_a_line:
        yield ""
        yield totals_view("by type", totals_by_type(entries))
        yield ""
        yield totals_view("by role", totals_by_group(entries))


def stored_view(folds: Sequence[Fold], layer_count: int) -> RenderableType:
    """Return the stored tensors, those of all layers folded into one line each."""
    table, folds = _stored_table(), folds[:MOST_ROWS]
    groups = {
        "": [f for f in folds if not f.layers and f.role.stem not in _AFTER_LAYERS],
        "layers": [f for f in folds if f.layers],
        "after": [f for f in folds if not f.layers and f.role.stem in _AFTER_LAYERS],
    }
    for heading, group in groups.items():
        if heading == "layers" and group:
            numbers = sorted({layer for f in group for layer in f.layers})
            note = f"all {len(numbers)} together" if len(numbers) > 1 else ""
            table.add_row(cell(layers(numbers), HEADING), cell(note, "dim"))
        for f in group:
            indent = "  " if heading == "layers" else ""
            some = f"{_some(f.layers)}: " if 0 < len(f.layers) < layer_count else ""
            _add_stored(table, indent + f.name, some + f.role.label, f.first, f.nbytes)
    return table


def flat_view(entries: Sequence[Entry]) -> RenderableType:
    """Return the stored tensors, one line each, with their whole names."""
    table = _stored_table()
    for entry in entries[:MOST_ROWS]:
        _add_stored(table, entry.tensor.name, entry.role.label, entry.tensor, entry.tensor.nbytes)
    return table


def _some(numbers: Sequence[int]) -> str:
    return layers(numbers) if len(spans(numbers)) <= 12 else f"{len(numbers)} layers"


def _stored_table() -> Table:
    return plain_table(
        left("name"), words("role"), right("shape"), left("type"), right("bits"), right("size")
    )


def _add_stored(table: Table, name: str, label: str, tensor: Tensor, nbytes: int) -> None:
    info = tensor.info
    per_weight = bits(info.bits_per_weight) if info.bits_per_weight is not None else "?"
    table.add_row(
        name_cell(name),
        cell(label, GREEN),
        extents(info.shape),
        cell(info.type.name),
        per_weight,
        size(nbytes),
    )


def totals_view(title: str, totals: Sequence[Total]) -> RenderableType:
    """Return the weight of the stored tensors by type or by role."""
    numbers = map(right, ("tensors", "weights", "bits", "size", "share"))
    table = plain_table(left(title), *numbers)
    whole = sum(total.nbytes for total in totals)
    for total in totals:
        weighs = (count(total.n_elements), bits(total.bits_per_weight), size(total.nbytes))
        share = percent(total.nbytes / whole) if whole else ""
        table.add_row(cell(total.name), str(total.tensors), *weighs, share)
    return table
