"""What ``ggufscope diff`` shows, for eyes: the verdict, the metadata, the tensors worst first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from rich.console import RenderableType
from rich.text import Text

from ggufscope.container.file import GGUFFile
from ggufscope.container.values import Value
from ggufscope.measure.diff.diff import Diff, relative_of
from ggufscope.measure.diff.metadata import Change, KeyChange
from ggufscope.measure.diff.pairs import Kind, TensorChange
from ggufscope.measure.diff.verdict import Relation
from ggufscope.model.file_types import file_type_name
from ggufscope.report.console import (
    GREEN,
    MOST_ROWS,
    ORANGE,
    RED,
    cell,
    facts,
    hidden_rows,
    left,
    name_cell,
    paragraph,
    plain_table,
    right,
    title,
    words,
)
from ggufscope.report.list.metadata import short_value
from ggufscope.report.units import extents, percent, printable, size, small

SHOWN: Final = 20
"""Tensors that are shown; ``--all`` and ``--json`` have every one."""
_KEYS: Final = 40
_TEXT: Final = 60
"""Bytes of a text that are shown on either side of where it first differs."""
_COLOURS: Final = {
    Relation.IDENTICAL: GREEN,
    Relation.SAME_HEADERS: GREEN,
    Relation.SAME_WEIGHTS: GREEN,
    Relation.UNRELATED: RED,
    Relation.DAMAGED: RED,
    Relation.RETRAINED: RED,
}
_SIGNS: Final = {Change.ADDED: "+", Change.REMOVED: "-", Change.CHANGED: "~"}
_WORDS: Final = {
    Kind.SAME: "the same",
    Kind.RECODED: "the same weights in other bytes",
    Kind.REQUANTIZED: "requantized",
    Kind.DIFFERENT: "different",
    Kind.RESHAPED: "reshaped",
    Kind.RENAMED: "renamed",
    Kind.REMOVED: "only in A",
    Kind.ADDED: "only in B",
    Kind.UNREAD: "of one shape",
}


def diff_views(
    a: GGUFFile, b: GGUFFile, found: Diff, *, brief: bool = False, whole: bool = False
) -> Iterator[RenderableType]:
    """Show what differs; ``brief``: the verdict alone; ``whole``: every tensor and key."""
    colour = _COLOURS.get(found.verdict.relation, ORANGE)
    verdict = Text(printable(found.verdict.words), f"bold {colour}")
    if brief:
        yield verdict
        return
    counts = [f"{found.count(kind):,} {_WORDS[kind]}" for kind in Kind if found.count(kind)]
    rows = [("A", _file(a, found.recipes[0])), ("B", _file(b, found.recipes[1]))]
    rows.append(("tensors", ", ".join(counts) or "none"))
    table = facts(rows)
    table.add_row("verdict", verdict)
    yield table
    yield from _metadata(found.metadata, MOST_ROWS if whole else _KEYS)
    yield from _tensors(found, MOST_ROWS if whole else SHOWN, whole=whole)


def _file(file: GGUFFile, recipe: str) -> str:
    shards = f" over {len(file.shards)} files" if len(file.shards) > 1 else ""
    return f"{file.path}: {recipe}, {len(file.tensors):,} tensors, {size(file.nbytes)}{shards}"


def _metadata(changes: Sequence[KeyChange], most: int) -> Iterator[RenderableType]:
    if not changes:
        return
    yield title(f"Metadata: {len(changes)} key{'s' if len(changes) > 1 else ''}")
    for change in islice(changes, most):
        yield paragraph(f"{_SIGNS[change.change]} {change.key}", "bold")
        for line in _values(change):
            yield paragraph(f"    {line}")
    if len(changes) > most:
        yield paragraph(f"... and {len(changes) - most:,} keys more: --json has all", "dim")


def _values(change: KeyChange) -> Iterator[str]:
    a, b = change.a, change.b
    if a is None or b is None:
        value = a or b
        if value is not None:
            yield _value(change.key, value)
        return
    if change.differing is not None and change.first is not None:
        both = f"{a.length:,}" if a.length == b.length else f"{a.length:,} > {b.length:,}"
        yield f"{both} items, {change.differing:,} differ, the first at {change.first:,}"
        x, y = (_item(value, change.first) for value in (a, b))
        yield f"{x} > {y}"
    elif change.first is not None and max(a.length, b.length) > _TEXT:
        yield f"{a.length:,} > {b.length:,} bytes, other from byte {change.first:,} on:"
        for value in (a, b):
            yield _excerpt(value, change.first)
    else:
        types = a.type is not b.type
        x, y = (
            _value(change.key, value) + (f" ({value.type.name.lower()})" if types else "")
            for value in (a, b)
        )
        yield f"{x} > {y}"


def _value(key: str, value: Value) -> str:
    name = file_type_name(value.data) if key == "general.file_type" else None
    return f"{short_value(value)} ({name})" if name else short_value(value)


def _item(value: Value, at: int) -> str:
    """Return one item of an array; of strings no more is decoded than those before it."""
    item = next(islice(value.data, at, None), None)
    if item is None:
        return "nothing"
    return (
        repr(printable(item, most=_TEXT))
        if isinstance(item, str)
        else printable(str(item), most=_TEXT)
    )


def _excerpt(value: Value, at: int) -> str:
    start = max(0, at - _TEXT // 4)
    piece = bytes(value.raw[8 + start : 8 + at + _TEXT]).decode("utf-8", "replace")
    before, after = ("..." if start else ""), ("..." if at + _TEXT < value.length else "")
    return f"{before}{printable(piece)}{after}"


def _tensors(found: Diff, most: int, *, whole: bool) -> Iterator[RenderableType]:
    shown = [each for each in found.tensors if whole or each.kind is not Kind.SAME]
    if found.quick:
        shown = [each for each in shown if whole or _header_differs(each)]
    if not shown:
        return
    by_types = _by_types(found)
    if by_types is not None:
        yield title("Weights by type: error relative to A's weights (root mean square)")
        yield by_types
    yield title("Tensors, the worst first" if not found.quick else "Tensors")
    measured = [each for each in shown if each.agreement]
    if measured:
        table = plain_table(
            left("tensor"),
            *(right("error"), right("cosine"), right("largest")),
            *(left("types"), words("what")),
        )
        for change in islice(measured, most):
            agreed = change.agreement
            if agreed is None:
                continue
            table.add_row(
                name_cell(change.name),
                percent(agreed.relative),
                f"{agreed.cosine:.5f}",
                small(agreed.error.largest),
                _types(change),
                cell(_note(change), RED if change.kind is Kind.DIFFERENT else ""),
            )
        yield table
        yield from _left_out(len(measured), most)
        if any(_note(each) == "plain" for each in islice(measured, most)):
            yield paragraph("plain: just what quantizing the other's weights gives", "dim")
    others = [each for each in shown if not each.agreement]
    if others:
        if measured:
            yield ""
        table = plain_table(left("tensor"), right("shape"), left("types"), words("what"))
        for change in islice(others, most):
            table.add_row(
                name_cell(change.name), _shapes(change), _types(change), cell(_note(change))
            )
        yield table
        yield from _left_out(len(others), most)


def _left_out(rows: int, most: int) -> Iterator[RenderableType]:
    if most == MOST_ROWS:
        yield from hidden_rows(rows, "tensors", "--json has every one")
    elif rows > most:
        yield paragraph(f"... and {rows - most:,} tensors more: --all", "dim")


def _header_differs(change: TensorChange) -> bool:
    return change.kind is not Kind.UNREAD or len(set(_types(change).split(" > "))) > 1


def _by_types(found: Diff) -> RenderableType | None:
    """Return a row for each pair of types: how many tensors, and their errors."""
    groups: dict[str, list[TensorChange]] = {}
    for change in found.tensors:
        if change.agreement and change.kind is not Kind.RESHAPED:
            groups.setdefault(_types(change), []).append(change)
    if not groups or sum(map(len, groups.values())) < 2:
        return None
    table = plain_table(left("types"), right("tensors"), right("together"), right("worst"))
    for types, changes in groups.items():
        worst = max(change.relative for change in changes)
        together = percent(relative_of(changes))
        table.add_row(types, f"{len(changes):,}", together, percent(worst))
    return table


def _types(change: TensorChange) -> str:
    names = [t.type.name for t in (change.a, change.b) if t is not None]
    return " > ".join(dict.fromkeys(names))


def _shapes(change: TensorChange) -> str:
    shapes = [extents(t.shape) for t in (change.a, change.b) if t is not None]
    return " > ".join(dict.fromkeys(shapes))


def _note(change: TensorChange) -> str:
    agreed = change.agreement
    if change.kind is Kind.RENAMED and change.b is not None:
        return f"in B {change.b.name}"
    if change.kind is Kind.RESHAPED and agreed:
        return f"{_shapes(change)}: compared {agreed.error.n:,} weights"
    if agreed and agreed.unmatched:
        return f"{agreed.unmatched:,} weights are no number"
    if change.kind is Kind.REQUANTIZED and change.made is not None:
        if change.made.through:
            return f"by way of {', '.join(change.made.through)}"
        if change.made.dequantized:
            return "dequantized"
        return "plain" if change.made.exact else "requantized"
    return str(change.kind) if change.kind is not Kind.UNREAD else ""
