"""What exists only while the model runs, for eyes; and a layer explained, stored and computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from rich.console import RenderableType
from rich.table import Table

from ggufscope.model.anatomy.build import Anatomy, LayerAnatomy
from ggufscope.model.anatomy.quantities import Quantity
from ggufscope.model.anatomy.rows import Kind
from ggufscope.model.anatomy.symbols import SYMBOLS
from ggufscope.model.inventory import fold_layers
from ggufscope.report.console import (
    HEADING,
    MAGENTA,
    ORANGE,
    cell,
    left,
    name_cell,
    paragraph,
    plain_table,
    right,
    text,
    title,
    words,
)
from ggufscope.report.units import extents, layers, size

ATTENTION_WEIGHTS: Final = "kq_soft_max"
"""The quantity that people look for in the file; it is shown in bold where it really is."""

_STYLES: Final = {Kind.STORED: "", Kind.COMPUTED: "italic", Kind.CACHED: f"italic {ORANGE}"}


def computed_section(anatomy: Anatomy) -> Iterator[RenderableType]:
    """Show the quantities under their heading, what their symbols mean, and the KV cache."""
    yield title("Computed at run time: not in the file, made anew for each text")
    if anatomy.not_derivable:
        yield paragraph(f"Not derivable: {anatomy.not_derivable}.")
        return
    yield computed_view(anatomy)
    yield ""
    yield legend_view(anatomy)
    yield ""
    if anatomy.cache_elements():
        yield cache_view(anatomy)
    if any(q.name == ATTENTION_WEIGHTS for q in anatomy.all_quantities()):
        yield paragraph(
            f"The attention weights are {ATTENTION_WEIGHTS}. The file holds what makes them "
            "(W_q, W_k), never the weights themselves: they depend on the text."
        )


def computed_view(anatomy: Anatomy) -> RenderableType:
    """Return what exists only while the model runs, layers that are alike together."""
    numbers = map(right, (f"{anatomy.tokens} tokens", "float32"))
    table = plain_table(left("quantity"), left("shape"), *numbers, words("made from"))

    def heading(numbers: Sequence[int], layer: LayerAnatomy) -> list[RenderableType]:
        if layer.not_derivable:
            return ["", "", "", paragraph(f"not derivable: {layer.not_derivable}", "dim")]
        window = f"window {layer.window}" if layer.window else ""
        return ["", cell(window, "dim"), cell("each:" if len(numbers) > 1 else "", "dim"), ""]

    def row(q: Quantity) -> list[RenderableType]:
        made_from = paragraph(" ".join(q.made_from), "dim")
        return ["×".join(q.axes), extents(q.shape), size(q.nbytes), made_from]

    _fill(table, anatomy, heading, row, stored=False)
    return table


def explain_view(anatomy: Anatomy) -> RenderableType:
    """Return a layer of each kind in order, stored and computed, with a caption for each."""
    table = plain_table(left("quantity"), left("kind"), text("what it is"))

    def heading(numbers: Sequence[int], layer: LayerAnatomy) -> list[RenderableType]:
        why = layer.not_derivable
        said = f"Computed quantities: not derivable, it {why}." if why else ""
        return ["", paragraph(said, "dim")]

    def row(q: Quantity) -> list[RenderableType]:
        return [cell(str(q.kind), _STYLES[q.kind]), paragraph(q.caption)]

    _fill(table, anatomy, heading, row, stored=True)
    return table


def _fill(
    table: Table,
    anatomy: Anatomy,
    heading: Callable[[Sequence[int], LayerAnatomy], list[RenderableType]],
    row: Callable[[Quantity], list[RenderableType]],
    *,
    stored: bool,
) -> None:
    """Add a line for each quantity, under a heading for each kind of layer."""

    def add(quantities: Sequence[Quantity], indent: str = "") -> None:
        for q in quantities:
            if stored or q.kind is not Kind.STORED:
                style = "" if stored else _STYLES[q.kind]
                style = f"bold {MAGENTA}" if q.name == ATTENTION_WEIGHTS else style
                table.add_row(name_cell(indent + q.name, style), *row(q))

    add(anatomy.head)
    for numbers, layer in fold_layers(anatomy.layers):
        table.add_row(name_cell(layers(numbers), HEADING), *heading(numbers, layer))
        add(layer.quantities, indent="  ")
    add(anatomy.tail)


def legend_view(anatomy: Anatomy) -> RenderableType:
    """Return what the symbols of the shapes stand for."""
    symbols = (s for s in SYMBOLS if s in anatomy.symbols)
    return paragraph(
        ", ".join(f"{s}={_values(anatomy.symbols[s])} {SYMBOLS[s]}" for s in symbols), "dim"
    )


def _values(numbers: Sequence[int]) -> str:
    return " or ".join(map(str, numbers)) if len(numbers) < 3 else f"{numbers[0]} to {numbers[-1]}"


def cache_view(anatomy: Anatomy) -> RenderableType:
    """Return the size of the KV cache for the tokens of the table."""
    elements = anatomy.cache_elements()
    return paragraph(
        f"KV cache (cache_k, cache_v) for {anatomy.tokens:,} tokens, in the layers above: "
        f"{size(2 * elements)} in F16, llama.cpp's default; {size(4 * elements)} in F32."
    )
