"""The best mix for a size or a memory, by sensitivities that were kept: a sentence, a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType

from ggufscope.report.console import cell, left, paragraph, plain_table, right, title
from ggufscope.report.units import asked_size, bits, counted, percent, size, small

if TYPE_CHECKING:
    from ggufscope.sizing.chosen import Aim, Chosen


def mix_lines(found: Sequence[Chosen]) -> Iterator[str]:
    """Show in words what was asked about: a mix for each size or memory."""
    for each in found:
        if not each.aim.preset:
            yield _line(each)


def _line(each: Chosen) -> str:
    place = _place(each.aim)
    if each.mix is None:
        return f"No mix of the types that were measured is as small as {place}."
    said = (
        f"The best mix for {place} has {bits(round(each.mix.plan.bits_per_weight, 2))} bits "
        f"({size(each.mix.nbytes)}), and is predicted to diverge by {small(each.mix.predicted)} "
        "nats"
    )
    if each.preset is None or each.predicted is None:
        return f"{said}; no preset of these types is as small."
    return f"{said}; {each.preset.preset}, by {small(each.predicted)}."


def _place(aim: Aim) -> str:
    if aim.nbytes is not None:
        return asked_size(aim.nbytes)
    if aim.bits is not None:
        return f"{bits(aim.bits)} bits"
    return f"{asked_size(aim.memory or 0)} with {aim.context:,} tokens of context"


def mixes_section(found: Sequence[Chosen]) -> Iterator[RenderableType]:
    """Show a row for each mix beside the preset that it would take the place of."""
    if not found:
        return
    yield title("The best mixes, by what types were measured to cost")
    table = plain_table(
        left("for"),
        right("size"),
        right("bits"),
        right("predicted"),
        left("preset"),
        right("predicted"),
        right("less"),
    )
    for each in found:
        beside = _beside(each)
        if each.mix is None:
            table.add_row(cell(_short(each.aim)), "none", "", "", *beside)
            continue
        plan = each.mix.plan
        numbers = (size(each.mix.nbytes), f"{plan.bits_per_weight:.2f}", small(each.mix.predicted))
        table.add_row(cell(_short(each.aim)), *numbers, *beside)
    yield table
    yield ""
    for each in found:
        if each.mix is not None and not each.aim.preset:
            mix = counted(t.target.name for t in each.mix.plan.tensors if t.converted)
            yield paragraph(f"{_short(each.aim)}: {mix}.")
    yield paragraph(
        "predicted: KL divergence in nats, of the mix and of the largest preset of these types "
        "that is no larger. ggufscope quantize --target-size, with the same --sensitivities and "
        "--text, makes such a file, and tries it on text that was not used to choose.",
        "dim",
    )


def _short(aim: Aim) -> str:
    if aim.preset:
        return f"size of {aim.preset}"
    if aim.memory is not None:
        return f"{size(aim.memory)}, {aim.context:,} tokens"
    return _place(aim)


def _beside(each: Chosen) -> tuple[str, str, str]:
    if each.preset is None or each.predicted is None:
        return "", "", ""
    less = ""
    if each.mix is not None and each.predicted:
        less = percent(1 - each.mix.predicted / each.predicted)
    return each.preset.preset, small(each.predicted), less
