"""What ``ggufscope size`` shows of a run: cache, logits, compute, and heads shared otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.console import RenderableType

from ggufscope.report.console import cell, left, paragraph, plain_table, right, title
from ggufscope.report.units import layers, size
from ggufscope.sizing.budget import Range, RunMemory
from ggufscope.sizing.kv_cache import CacheKind
from ggufscope.sizing.overview import Overview
from ggufscope.sizing.settings import RunSettings

AT_ONCE: Final = 3
"""Contexts side by side in a table of 80 columns."""


def memory_section(overview: Overview) -> Iterator[RenderableType]:
    """Show what a run takes beside the weights, for each context."""
    yield title("In memory: what a run takes beside the weights")
    if not overview.runs:
        yield paragraph(f"Not derivable: {overview.no_runs}.")
        return
    for first in range(0, len(overview.runs), AT_ONCE):
        yield _memory_table(overview, overview.runs[first : first + AT_ONCE])
        yield ""
    yield paragraph(_settings_line(overview.runs[0].settings), "dim")


def _memory_table(overview: Overview, runs: tuple[RunMemory, ...]) -> RenderableType:
    table = plain_table(
        left("tokens of context"), *(right(f"{run.settings.context:,}") for run in runs)
    )
    for row in _cache_rows(runs):
        table.add_row(*row)
    if len(runs[0].cache.by_kind()) > 1:
        table.add_row(cell("cache, all layers"), *(size(run.cache.nbytes) for run in runs))
    table.add_row(cell("logits"), *(size(run.logits) for run in runs))
    table.add_row(cell("compute (estimate)"), *(span(run.compute) for run in runs))
    for each in overview.weights:
        name = "as they are" if each is overview.as_it_is else each.preset
        totals = (span(run.with_weights(each.nbytes)) for run in runs)
        table.add_row(cell(f"with the weights, {name}", "bold"), *totals)
    return table


def _cache_rows(runs: tuple[RunMemory, ...]) -> Iterator[list[str]]:
    """Line up what the layers keep over all contexts: cells differ, layers do not."""
    columns = [{(total.kind, total.layers): total for total in run.cache.by_kind()} for run in runs]
    for kind, numbers in columns[0]:
        name = f"{kind}, {layers(numbers) if len(numbers) < 4 else f'{len(numbers)} layers'}"
        if kind is CacheKind.STATE:
            name += " (any length)"
        totals = (column.get((kind, numbers)) for column in columns)
        yield [name, *(size(total.nbytes) if total else "" for total in totals)]


def _settings_line(settings: RunSettings) -> str:
    types = dict.fromkeys(layout.name for layout in settings.layouts)
    parts = [f"Keys and values in {' and '.join(types)}"]
    if settings.parallel > 1:
        how = "one cache for all" if settings.unified else "each with its share of the context"
        parts.append(f"{settings.parallel} sequences, {how}")
    tokens = "1 token" if settings.batch == 1 else f"{settings.batch:,} tokens"
    parts.append(f"{tokens} computed at once")
    parts.append("flash attention " + ("on" if settings.flash_attention else "off"))
    return ", ".join(parts) + "."


def sharing_section(overview: Overview) -> Iterator[RenderableType]:
    """Show MHA, GQA and MQA side by side."""
    if not overview.sharings:
        return
    context = overview.runs[-1].settings.context
    yield title("The same model with its key/value heads shared otherwise")
    whole = max(each.kv_nbytes for each in overview.sharings)
    numbers = map(right, ("heads", "K/V heads", "weights", "cache", "share"))
    table = plain_table(left(""), *numbers)
    for each in overview.sharings:
        table.add_row(
            cell(f"{each.name}, this model" if each.own else each.name, "bold" if each.own else ""),
            str(each.heads),
            str(each.kv_heads),
            f"{each.n_elements:,}",
            size(each.kv_nbytes),
            f"1/{whole / each.kv_nbytes:g}" if each.kv_nbytes else "",
        )
    yield table
    yield ""
    yield paragraph(f"Cache for {context:,} tokens.", "dim")


def span(nbytes: Range) -> str:
    """Return a range: ``4.79 to 4.93 GiB``."""
    low, high = size(nbytes.low), size(nbytes.high)
    if low == high:
        return low
    number, unit = low.split(" ")
    return f"{number} to {high}" if high.endswith(f" {unit}") else f"{low} to {high}"
