"""What a mix chosen by measurement is, what it was held to, and what each step would cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from rich.console import Group, RenderableType

from ggufscope.measure.tailor import Rival, Tailored, Tried
from ggufscope.report.console import (
    MOST_ROWS,
    cell,
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
from ggufscope.report.plot import LETTERS, Point, plot
from ggufscope.report.units import bits, counted, percent, size, small
from ggufscope.sizing.mixing import Way

_ROUNDING: Final = 1e-9
"""A gap to the least below this share is what sums of float64 differ by."""


def tailored_views(
    found: Tailored, *, brief: bool = False, explain: bool = False, width: int = 80
) -> Iterator[RenderableType]:
    """Yield what was chosen and how it did; with ``explain`` each tensor and the frontier.

    ``width``: columns of a picture.
    """
    yield facts(tailored_facts(found))
    yield ""
    yield _trial(found)
    yield ""
    if brief:
        return
    yield paragraph(verdict_words(found))
    yield ""
    if explain:
        yield from _steps(found)
        yield from _frontier(found, width)


def tailored_facts(found: Tailored) -> list[tuple[str, str]]:
    """Return what was measured and what was kept: a word, and what there is to say."""
    known, best = found.sensitivities, found.best
    mix = counted(t.target.name for t in best.plan.tensors if t.converted)
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
        (
            "least",
            "exact" if gap < _ROUNDING else f"within {percent(gap)} of what no choice can beat",
        ),
    ]


TRIAL_HEAD: Final = ("on other text", "size", "bits", "predicted", "KL divergence", "± error")


def _trial(found: Tailored) -> RenderableType:
    table = plain_table(left(TRIAL_HEAD[0]), *map(right, TRIAL_HEAD[1:]))
    for tried in (found.choice, found.preset):
        if tried is not None:
            table.add_row(*trial_row(tried))
    return table


def trial_row(tried: Tried) -> tuple[str, ...]:
    """Return how one of the two did on other text."""
    return (
        tried.name,
        size(tried.nbytes),
        f"{tried.plan.bits_per_weight:.2f}",
        small(tried.predicted),
        small(tried.divergence.nats),
        small(tried.divergence.error),
    )


def verdict_words(found: Tailored) -> str:
    """Return by how much the choice is better than the preset, or worse."""
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


STEPS_HEAD: Final = ("tensor", "type", "nats", "a step down", "a step up")


def step_rows(found: Tailored) -> Iterator[tuple[str, ...]]:
    """Yield of each tensor its type, what that costs, and what the next ones would change."""
    chosen = {t.source_name: t.target.name for t in found.choice.plan.tensors}
    for name, ways in found.ways.items():
        at = next(index for index, way in enumerate(ways) if way.type == chosen[name])
        yield (
            name,
            ways[at].type,
            small(ways[at].cost),
            _step(ways, at, at - 1) if at else "",
            _step(ways, at, at + 1) if at + 1 < len(ways) else "",
        )


def _steps(found: Tailored) -> Iterator[RenderableType]:
    name, type_, nats, *steps = STEPS_HEAD
    table = plain_table(left(name), left(type_), right(nats), *map(text, steps))
    for name, *row in islice(step_rows(found), MOST_ROWS):
        table.add_row(name_cell(name.removesuffix(".weight")), *row)
    yield title("What each tensor costs")
    yield table
    yield from hidden_rows(len(found.ways), "tensors", "--json has every one")
    yield ""


def _step(ways: Sequence[Way], at: int, other: int) -> str:
    more, cost = ways[other].nbytes - ways[at].nbytes, ways[other].cost - ways[at].cost
    return f"{ways[other].type}: {_signed(more)}, {'+' if cost >= 0 else '-'}{small(abs(cost))}"


def _signed(nbytes: int) -> str:
    return f"{'+' if nbytes >= 0 else '-'}{size(abs(nbytes))}"


def _frontier(found: Tailored, width: int) -> Iterator[RenderableType]:
    """Yield the presets of these types, and the choice, beside the least of their sizes."""
    head, axis = counted_words(found)
    table = plain_table(
        left(""),
        left("file"),
        right(head),
        right("bits"),
        right("predicted"),
        right("the least of this size"),
    )
    shown = []
    for letter, each in zip(LETTERS, rated(found), strict=False):
        counted, per_weight = size(each.nbytes), bits(round(each.bits, 2))
        row = (counted, per_weight, small(each.predicted), small(each.least))
        table.add_row(letter, cell(each.name), *row)
        shown.append(Point(letter, each.nbytes, each.predicted, each.name != CHOICE))
    yield title("Presets of the same types, and the least that a file of each size can cost")
    yield table
    yield title(f"Predicted divergence in nats (up) against {axis} (right)")
    yield Group(*plot(shown, width, found.frontier))
    yield ""
    yield paragraph("Dots: the least that a file of each size is predicted to diverge.", "dim")
    yield ""


CHOICE: Final = "choice"


def counted_words(found: Tailored) -> tuple[str, str]:
    """Return what the bytes of the frontier are, as a heading and as an axis."""
    return ("size", "size") if found.wish.bits is None else ("tensors", "bytes of tensors")


def rated(found: Tailored) -> list[Rival]:
    """Return the choice and the presets of the same types, the largest first."""
    tried = found.choice  # the least of its own size
    bits_, cost = tried.plan.bits_per_weight, tried.predicted
    choice = Rival(CHOICE, found.counted(tried), bits_, cost, cost)
    return sorted([choice, *found.rivals], key=lambda each: -each.nbytes)
