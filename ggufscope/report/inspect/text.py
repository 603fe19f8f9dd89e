"""What ``ggufscope inspect`` shows, for eyes: facts, histogram, costs, and a block taken apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import RenderableType

from ggufscope.blocks.apart import Apart
from ggufscope.measure.costs import Costs
from ggufscope.measure.statistics import BINS, Statistics
from ggufscope.report.console import (
    cell,
    facts,
    left,
    paragraph,
    plain_table,
    right,
    text,
    title,
)
from ggufscope.report.inspect.facts import Inspected, how_tried, number_facts, tensor_facts
from ggufscope.report.units import bits, percent, size, small

_BAR: Final = 40
"""Columns of the longest bar."""
_SHOWN_BINS: Final = 20
_PER_LINE: Final = 4
_HEX: Final = 16
"""Bytes on a line."""


def inspect_views(
    found: Inspected,
    written: Sequence[tuple[str, Path]] = (),
    *,
    mark: str,
    brief: bool = False,
) -> Iterator[RenderableType]:
    """Show one tensor, or a block of it; ``mark`` is what bars are drawn with.

    ``written``: what files were made of it, and where. ``brief``: the facts alone.
    """
    yield facts([*tensor_facts(found), *number_facts(found)])
    if not brief:
        yield from _detail(found, mark)
    if written:
        yield ""
        yield facts([(word, str(path)) for word, path in written])


def _detail(found: Inspected, mark: str) -> Iterator[RenderableType]:
    if found.apart is not None:
        yield from _block(found.apart, found.block or 0)
        return
    if found.statistics.finite:
        yield title("How its weights are spread")
        yield _histogram(found.statistics, mark)
    yield title("What other types would cost")
    yield _costs(found.costs, found.part.tensor.type.name, mark)
    yield paragraph(how_tried(found), "dim")


def _histogram(s: Statistics, mark: str) -> RenderableType:
    table = plain_table(right("from"), right("share"), left(""))
    low, high = s.edges
    together = BINS // _SHOWN_BINS
    counts = [sum(s.counts[at : at + together]) for at in range(0, BINS, together)]
    if high == low:
        counts = counts[:1]
    most = max(*counts, s.below, s.above, 1)
    rows = [(f"{low + (high - low) * n / _SHOWN_BINS:.3g}", c) for n, c in enumerate(counts)]
    rows = [("below", s.below), *rows, ("above", s.above)]
    for word, count in rows:
        if count or word not in {"below", "above"}:
            table.add_row(word, percent(count / s.finite), _bar(count / most, mark))
    return table


def _bar(share: float, mark: str) -> str:
    return mark * max(math.ceil(_BAR * share), 0)


def _costs(costs: Costs, own: str, mark: str) -> RenderableType:
    """Return a row for each type; the bar is the error on a logarithmic scale, so a plot."""
    table = plain_table(
        *(left("type"), right("bits"), right("size"), right("error")),
        left("0.01%      0.1%       1%         10%"),
    )
    for cost in costs.costs:
        if cost.error is None:
            error, bar = "not made", ""
        elif cost.type == own:
            error, bar = "as it is", ""
        else:
            error = percent(cost.error.relative)
            decades = math.log10(max(cost.error.relative, 1e-5)) + 4
            bar = mark * round(min(max(decades, 0.0), 4) * 11)
        table.add_row(cost.type, bits(cost.bits_per_weight), size(cost.nbytes), error, bar)
    return table


def _block(apart: Apart, number: int) -> Iterator[RenderableType]:
    yield title(f"Block {number:,} of {apart.type}, taken apart")
    table = plain_table(left("field"), right("byte"), left("raw"), text("what it is"))
    for field in apart.fields:
        for start in range(0, len(field.raw), _HEX):
            raw = field.raw[start : start + _HEX].hex(" ", 4)
            value = "" if field.value is None else f"{small(field.value)}: "
            words = f"{value}{field.meaning}" if not start else ""
            table.add_row(
                cell(field.name if not start else ""), str(field.offset + start), raw, words
            )
    yield table
    yield ""
    yield paragraph(f"weight = {apart.formula}", "bold")
    yield ""
    runs = {name: shared for name, shared in apart.shared.items() if shared > 1}
    own = [name for name in apart.shared if apart.shared[name] == 1]
    length = len(apart.weights)
    whole = [name for name in runs if runs[name] == length]
    if whole and length > 1:
        said = ", ".join(f"{name} = {_number(apart.numbers[name][0])}" for name in whole)
        yield paragraph(f"For all weights: {said}")
    parts = [name for name in runs if runs[name] < length]
    step = min((runs[name] for name in parts), default=length)
    for start in range(0, length, step):
        stop = min(start + step, length)
        said = ", ".join(f"{name} = {_number(apart.numbers[name][start])}" for name in parts)
        head = f"Weights {start} to {stop - 1}" if stop - start > 1 else f"Weight {start}"
        yield paragraph(f"{head}{': ' if said else ''}{said}", "bold")
        yield _levels(apart, own, start, stop)


def _levels(apart: Apart, own: list[str], start: int, stop: int) -> RenderableType:
    """Return each weight of a run: the numbers that are its own, and what comes of them."""
    columns = min(_PER_LINE, stop - start)
    table = plain_table(*(right("") for _ in range(columns)), header=False, gap=3)
    cells = []
    for at in range(start, stop):
        numbers = " ".join(_number(apart.numbers[name][at]) for name in own)
        cells.append(f"{numbers} > {_number(apart.weights[at])}".lstrip(" >"))
    for at in range(0, len(cells), columns):
        row = cells[at : at + columns]
        table.add_row(*row, *[""] * (columns - len(row)))
    return table


def _number(value: np.generic) -> str:
    return f"{value.item():.5g}"
