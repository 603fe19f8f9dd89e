"""Metadata, for eyes."""

from __future__ import annotations

from typing import Any, Final

from rich.console import RenderableType

from ggufscope.container.header import Metadata
from ggufscope.container.values import Array, ValueType
from ggufscope.report.console import cell, left, name_cell, plain_table, words
from ggufscope.report.units import printable

SHOWN_ITEMS: Final = 8
"""Items of an array that a table shows."""
SHOWN_TEXT: Final = 200
"""Characters of a text that a table shows."""


def metadata_view(metadata: Metadata) -> RenderableType:
    """Give every key, its type and its value; long ones cut, with their length."""
    table = plain_table(left("key"), left("type"), words("value"))
    for key, value in metadata.typed.items():
        table.add_row(
            name_cell(key), cell(_type_name(value.type, value.data)), cell(_short(value.data))
        )
    return table


def whole_value(data: Any) -> str:
    """Give one value in full: a text as it is, an array with one item a line."""
    if isinstance(data, Array):
        return "\n".join(_item(item) for item in data)
    return printable(data, keep="\n\t") if isinstance(data, str) else _item(data)


def _type_name(type_: ValueType, data: Any) -> str:
    if isinstance(data, Array):
        return f"{data.element_type.name.lower()}[{len(data)}]"
    return type_.name.lower()


def _short(data: Any) -> str:
    if isinstance(data, Array):
        items = ", ".join(_quoted(item) for item in data.head(SHOWN_ITEMS))
        more = f", ... {len(data) - SHOWN_ITEMS:,} more" if len(data) > SHOWN_ITEMS else ""
        return f"[{items}{more}]"
    text = _item(data)
    return text if len(text) <= SHOWN_TEXT else f"{text[:SHOWN_TEXT]}... {len(text):,} characters"


def _item(data: Any) -> str:
    if isinstance(data, Array):
        return f"[{', '.join(_quoted(item) for item in data)}]"
    if isinstance(data, bool):
        return str(data).lower()
    if isinstance(data, float):
        return f"{data:.9g}"
    return printable(data) if isinstance(data, str) else str(data)


def _quoted(data: Any) -> str:
    return f'"{printable(data)}"' if isinstance(data, str) else _item(data)
