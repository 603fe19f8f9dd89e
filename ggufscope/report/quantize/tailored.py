"""What a mix chosen by measurement is, what it was held to, and what each step would cost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import RenderableType

from ggufscope.measure.tailor import Tailored, Tried
from ggufscope.report.console import (
    MOST_ROWS,
    facts,
    hidden_rows,
    left,
    name_cell,
    paragraph,
    plain_table,
    right,
    text,
    title,
)
from ggufscope.report.units import bits, percent, size, small
from ggufscope.sizing.mixing import Way

_POINTS: Final = 10
"""Sizes that the frontier is shown at."""
_BAR: Final = 32


def tailored_views(
    found: Tailored, *, brief: bool = False, explain: bool = False
) -> Iterator[RenderableType]:
    """Yield what was chosen and how it did; with ``explain`` each tensor and the frontier."""
    yield facts(_facts(found))
    yield ""
    if brief:
        return
    yield _trial(found)
    yield ""
    yield paragraph(_verdict(found))
    yield ""
    if explain:
        yield from _steps(found)
        yield from _frontier(found)


def _facts(found: Tailored) -> list[tuple[str, str]]:
    known, best = found.sensitivities, found.best
    counts = Counter(t.target.name for t in best.plan.tensors if t.converted)
    mix = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    gap = 1 - found.selection.bound / found.selection.cost if found.selection.cost else 0.0
    return [
        (
            "chosen by",
            f"{known.tokens:,} tokens in {known.windows:,} windows, {known.draws} gradients each",
        ),
        ("kept", f"{best.name}: {mix}"),
        ("preset", f"{best.plan.preset}, with a --tensor-type for each tensor")
        if best is found.choice
        else ("preset", best.plan.preset),
        ("least", "exact" if gap <= 0 else f"within {percent(gap)} of what no choice can beat"),
    ]


def _trial(found: Tailored) -> RenderableType:
    table = plain_table(
        left("on other text"),
        right("size"),
        right("bits"),
        right("predicted"),
        right("KL divergence"),
        right("± error"),
    )
    for tried in (found.choice, found.preset):
        if tried is not None:
            table.add_row(*_row(tried))
    return table


def _row(tried: Tried) -> tuple[str, ...]:
    return (
        tried.name,
        size(tried.nbytes),
        f"{tried.plan.bits_per_weight:.2f}",
        small(tried.predicted),
        small(tried.divergence.nats),
        small(tried.divergence.error),
    )


def _verdict(found: Tailored) -> str:
    if found.preset is None:
        return (
            "No preset of these types is as small. "
            f"Verified on {found.tokens:,} tokens not used to choose."
        )
    gain, error = found.choice.divergence.less_than(found.preset.divergence)
    ratio = 1 - found.choice.divergence.nats / max(found.preset.divergence.nats, 1e-300)
    said = (
        f"{percent(ratio)} less than {found.preset.name}"
        if gain >= 0
        else f"more than {found.preset.name}, which is kept"
    )
    return (
        f"The choice diverges {said}, on {found.tokens:,} tokens not used to choose: by "
        f"{small(abs(gain))} ± {small(error)} nats."
    )


def _steps(found: Tailored) -> Iterator[RenderableType]:
    table = plain_table(
        left("tensor"),
        left("type"),
        right("nats"),
        text("a step down"),
        text("a step up"),
    )
    chosen = {t.source_name: t.target.name for t in found.choice.plan.tensors}
    rows = list(found.ways.items())
    for name, ways in rows[:MOST_ROWS]:
        at = next(index for index, way in enumerate(ways) if way.type == chosen[name])
        table.add_row(
            name_cell(name.removesuffix(".weight")),
            ways[at].type,
            small(ways[at].cost),
            _step(ways, at, at - 1) if at else "",
            _step(ways, at, at + 1) if at + 1 < len(ways) else "",
        )
    yield title("What each tensor costs")
    yield table
    yield from hidden_rows(len(rows), "tensors", "--json has every one")
    yield ""


def _step(ways: Sequence[Way], at: int, other: int) -> str:
    more, cost = ways[other].nbytes - ways[at].nbytes, ways[other].cost - ways[at].cost
    return f"{ways[other].type}: {_signed(more)}, {'+' if cost >= 0 else '-'}{small(abs(cost))}"


def _signed(nbytes: int) -> str:
    return f"{'+' if nbytes >= 0 else '-'}{size(abs(nbytes))}"


def _frontier(found: Tailored) -> Iterator[RenderableType]:
    """Yield the least that a file of each size can cost, one bar a size, by its logarithm."""
    points = _points(found.frontier)
    costs = [cost for _, cost in points if cost > 0]
    if not costs:
        return
    low, high = math.log10(min(costs)), math.log10(max(costs))
    table = plain_table(right("size"), right("bits"), right("predicted"), left(""))
    weights = found.choice.plan.n_elements
    mark = min(points, key=lambda point: abs(point[0] - found.choice.nbytes))
    for nbytes, cost in points:
        share = (math.log10(cost) - low) / (high - low or 1) if cost > 0 else 0.0
        bar = "█" * max(1, round(share * _BAR)) + (
            " < about here" if (nbytes, cost) == mark else ""
        )
        per_weight = bits(round(8 * nbytes / max(1, weights), 2))
        table.add_row(size(nbytes), per_weight, small(cost), bar)
    yield title("The least that a file of each size can cost, in nats, logarithmic")
    yield table
    yield ""


def _points(frontier: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return the frontier at sizes that are evenly apart, its two ends among them."""
    first, last = frontier[0][0], frontier[-1][0]
    wanted = [first + (last - first) * n / (_POINTS - 1) for n in range(_POINTS)]
    at = [max(p for p in frontier if p[0] <= size or p == frontier[0]) for size in wanted]
    return list(dict.fromkeys(at))
