"""Metadata, for eyes: a table of short values, and one value whole."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ggufscope.container.header import Metadata
from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Array, Value
from ggufscope.report.units import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

SHOWN_ITEMS: Final = 8
"""Items of an array that a table shows; of an array within it half as many."""
SHOWN_TEXT: Final = 200
"""Bytes of a text that a table shows."""
SHOWN_ITEM: Final = 100
"""Bytes of a text within an array."""
_LINES: Final = 1 << 12
"""Items that are written at a time."""
_PIECE: Final = 1 << 16
"""Bytes of a text that are decoded, escaped and handed on at a time."""


def metadata_view(metadata: Metadata) -> RenderableType:
    """Return every key, its type and its value; long ones cut, with their length."""
    from ggufscope.report.console import MOST_ROWS, cell, left, name_cell, plain_table, text

    table = plain_table(left("key"), left("type"), text("value"))
    for key, value in islice(metadata.typed.items(), MOST_ROWS):
        table.add_row(name_cell(key), cell(type_name(value)), cell(short_value(value)))
    return table


def short_value(value: Value) -> str:
    """Return a value in a few words, decoding no more of it than is shown."""
    if value.type is ValueType.STRING:
        cut = f"... {value.length:,} bytes" if value.length > SHOWN_TEXT else ""
        return printable(value.head(SHOWN_TEXT)) + cut
    data = value.data
    return _short_array(data, SHOWN_ITEMS) if isinstance(data, Array) else _item(data)


def whole_value(value: Value) -> Iterator[str]:
    """Return one value in full, in pieces: a text as it is, an array with one item a line."""
    if value.type is ValueType.STRING:
        yield from (printable(piece, keep="\n\t") for piece in text_pieces(value))
    elif value.type is ValueType.ARRAY and value.data.element_type is not ValueType.ARRAY:
        items = iter(value.data)
        before = ""
        while lines := "\n".join(map(_item, islice(items, _LINES))):
            yield before + lines
            before = "\n"
    elif value.type is ValueType.ARRAY:
        for number, item in enumerate(value.data):
            yield "\n" if number else ""
            yield from _whole_item(item)
    else:
        yield _item(value.data)


def text_pieces(value: Value) -> Iterator[str]:
    """Return a string value in pieces that end where a character ends."""
    raw, start = value.raw, 8
    while start < len(raw):
        stop = min(start + _PIECE, len(raw))
        while start < stop < len(raw) and raw[stop] & 0xC0 == 0x80 and stop > start + _PIECE - 4:
            stop -= 1
        yield str(raw[start:stop], "utf-8", "surrogateescape")
        start = stop


def _whole_item(data: Array) -> Iterator[str]:
    yield "["
    if data.element_type is ValueType.ARRAY:
        for number, item in enumerate(data):
            yield ", " if number else ""
            yield from _whole_item(item)
    else:
        items = iter(data)
        before = ""
        while part := ", ".join(map(_quoted, islice(items, _LINES))):
            yield before + part
            before = ", "
    yield "]"


def type_name(value: Value) -> str:
    """Return the type of a value as ``list`` has it: ``uint32``, ``string[1024]``."""
    if value.type is ValueType.ARRAY:
        return f"{value.data.element_type.name.lower()}[{value.length}]"
    return value.type.name.lower()


def _short_array(data: Array, shown: int) -> str:
    items = ", ".join(
        _short_array(item, shown // 2) if isinstance(item, Array) else _quoted(item)
        for item in data.heads(shown, SHOWN_ITEM)
    )
    more = len(data) - shown
    return (
        f"[{items}{', ' if items and more > 0 else ''}{f'... {more:,} more' if more > 0 else ''}]"
    )


def _item(data: Any) -> str:
    if isinstance(data, bool):
        return str(data).lower()
    if isinstance(data, float):
        return f"{data:.9g}"
    return printable(data) if isinstance(data, str) else str(data)


def _quoted(data: Any) -> str:
    """Return an item; a text in quotes, which are single ones where it has double ones."""
    if not isinstance(data, str):
        return _item(data)
    shown = printable(data)
    if '"' not in shown:
        return f'"{shown}"'
    return f"'{shown}'" if "'" not in shown else '"' + shown.replace('"', '\\"') + '"'
