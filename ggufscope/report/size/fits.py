"""What ``ggufscope size`` answers to "will it fit?": a sentence first, the table after."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from rich.console import RenderableType

from ggufscope.report.console import cell, left, paragraph, plain_table, right, title, words
from ggufscope.report.size.memory import AT_ONCE, span
from ggufscope.report.units import asked_size, bits, size
from ggufscope.sizing.file_size import AS_IT_IS, PresetSize, Target
from ggufscope.sizing.fitting import Fit, FitRow, FitTable, fit
from ggufscope.sizing.offload import SplitRow, SplitTable
from ggufscope.sizing.overview import Overview


def answer_lines(overview: Overview) -> Iterator[str]:
    """Show the answers in words, one question each."""
    for table in overview.fits:
        yield _fits_line(table)
    yield from map(_split_line, overview.splits)
    for aim, target in overview.targets:
        yield _target_line(aim, target)


def _fits_line(table: FitTable) -> str:
    itself = table.itself
    if itself is None:
        return _presets_line(table, range(len(table.contexts)), "fits in", "fit in")
    line, missed = _itself_line(table, itself), table.missed()
    if not missed:
        return line
    if itself.size.is_quantized:
        return f"{line} {_ALREADY}" if 0 in missed else line
    return f"{line} {_presets_line(table, missed, 'would fit in', 'would fit in')}"


_ALREADY: Final = "It is quantized already: a smaller file is made from the original."


def _itself_line(table: FitTable, itself: FitRow) -> str:
    limit, longest = asked_size(table.limit), f"{itself.longest:,}"
    if 0 not in table.missed():
        return f"The file as it is fits in {limit} with up to {longest} tokens of context."
    asked, need = f"{table.contexts[0]:,}", size(itself.needs[0].high)
    if itself.longest:
        return (
            f"The file as it is does not fit in {limit} with {asked} tokens of context, only with "
            f"up to {longest}."
        )
    return f"The file as it is does not fit in {limit}: it needs {need}."


def _presets_line(table: FitTable, columns: Iterable[int], one: str, several: str) -> str:
    limit = asked_size(table.limit)
    fitting: dict[str, int] = {}
    parts = []
    for column in columns:
        context = table.contexts[column]
        best = table.best(column)
        if best is None:  # nor does anything with more
            if fitting:
                parts.append(f"nothing does with {context:,}")
            else:
                unweighed = table.best(column, importance=True) is not None
                without = f" {_WITHOUT}" if unweighed else ""
                parts.append(f"nothing fits in {limit} with {context:,} tokens of context{without}")
            break
        fitting[best.size.preset] = context
    if fitting:
        named = [f"{preset} with {context:,}" for preset, context in fitting.items()]
        named[0] += " tokens of context"
        verb = one if len(named) == 1 else several
        parts.insert(0, f"{' and '.join(named)} {verb} {limit}")
    roomiest, smallest = table.roomiest(), table.smallest()
    if roomiest is not None:
        if [*fitting][-1:] != [roomiest.size.preset] and not (
            table.itself is not None and table.itself.longest
        ):
            parts.append(f"{roomiest.size.preset} leaves room for {roomiest.longest:,}")
    elif smallest is not None:
        parts.append(f"the smallest, {smallest.size.preset}, needs {size(smallest.needs[0].high)}")
        parts += _with_importance(table, smallest)
    line = "; ".join(parts)
    return f"{line[0].upper()}{line[1:]}."


_WITHOUT: Final = "without an importance matrix"


def _with_importance(table: FitTable, smallest: FitRow) -> Iterator[str]:
    """Yield what an importance matrix would change, where nothing fits without one."""
    best = table.best(0, importance=True)
    if best is not None:
        yield f"with one (--with-imatrix) {best.size.preset} does"
        return
    least = table.smallest(importance=True)
    if least is not None and least is not smallest:
        need = size(least.needs[0].high)
        yield f"with an importance matrix (--with-imatrix) {least.size.preset}, {need}"


def _split_line(table: SplitTable) -> str:
    length = f"With {table.context:,} tokens of context"
    itself, runnable = table.itself, table.runnable
    if itself is None:
        return f"{length} {_presets_split(runnable) or 'nothing fits in both memories'}."
    if itself.fits is not Fit.YES:
        said = f"{length} the file as it is does not fit in both memories"
    elif itself.is_whole:
        return f"{length} the file as it is fits on the GPU whole."
    else:
        said = f"{length} the file as it is runs with {_layers(itself)} on the GPU"
    if itself.size.is_quantized:
        return f"{said}. {_ALREADY}"
    return f"{said}; {_presets_split(runnable) or 'nor does any preset'}."


def _presets_split(runnable: list[SplitRow]) -> str:
    """Return what is best: whole on the GPU, and else as much of it there as can be."""
    if not runnable:
        return ""
    whole = next((row for row in runnable if row.is_whole), None)
    if whole is not None:
        return f"{whole.size.preset} fits on the GPU whole"
    most = max(runnable, key=lambda row: row.split.gpu_layers)
    if not most.split.gpu_layers:
        return f"no layer fits on the GPU; {most.size.preset} runs without it"
    return f"no preset fits on the GPU whole; {most.size.preset} has {_layers(most)} there"


def _layers(row: SplitRow) -> str:
    return f"{row.split.gpu_layers} of {row.split.layers} layers"


def _target_line(aim: float, target: Target) -> str:
    wanted = asked_size(aim) if isinstance(aim, int) else f"{bits(aim)} bits per weight"
    nearest, larger = target.nearest, target.next_larger
    if nearest is None and larger is None and target.with_importance is None:
        return "No preset can be made of this file: it is quantized already."
    if nearest is None:
        least = f": the smallest, {larger.preset}, has {_measure(aim, larger)}" if larger else ""
        weighed = target.with_importance
        if weighed is None:
            return f"No preset is as small as {wanted}{least}."
        has = f"{weighed.preset} has {_measure(aim, weighed)}"
        if (weighed.weighs if isinstance(aim, int) else weighed.bits_per_weight) > aim:
            line = f"No preset is as small as {wanted}{least}; with an importance matrix"
            return f"{line} (--with-imatrix) {has}."
        return (
            f"No preset is as small as {wanted} {_WITHOUT}{least}; with one (--with-imatrix) {has}."
        )
    line = f"{nearest.preset} is the nearest below {wanted}: {_measure(aim, nearest)}"
    return (
        f"{line}; the next, {larger.preset}, is {_measure(aim, larger)}." if larger else f"{line}."
    )


def _measure(aim: float, each: PresetSize) -> str:
    return size(each.weighs) if isinstance(aim, int) else bits(each.bits_per_weight)


def fits_section(overview: Overview) -> Iterator[RenderableType]:
    """Show a table for each memory, and for each context one of layers on the GPU."""
    for table in overview.fits:
        yield title(f"What fits in {asked_size(table.limit)}")
        for first in range(0, len(table.contexts), AT_ONCE):
            yield _fits_table(table, slice(first, first + AT_ONCE))
            yield ""
        yield paragraph(
            "longest: tokens of context there is room for. Needed: weights, cache, logits, and the "
            "upper end of the compute estimate. tight: it fits by the lower end alone.",
            "dim",
        )
    for each in overview.splits:
        yield title(f"On a GPU, with {each.context:,} tokens of context")
        yield _split_table(each.rows)
        yield ""
    if overview.splits:
        yield paragraph("-ngl counts the output as a layer, as llama.cpp does.", "dim")


def _fits_table(table: FitTable, part: slice) -> RenderableType:
    grid = plain_table(
        left("preset"),
        right("longest"),
        *(right(f"{context:,} tokens") for context in table.contexts[part]),
        words("note"),
    )
    for row in (*([table.itself] if table.itself else []), *table.rows):
        cells = (f"{size(need.high)} {_WORDS[fit(need, table.limit)]}" for need in row.needs[part])
        longest = f"{row.longest:,}" if row.longest else "none"
        grid.add_row(cell(_name(row.size)), longest, *cells, cell(preset_note(row.size), "dim"))
    return grid


_WORDS = {Fit.YES: "fits ", Fit.TIGHT: "tight", Fit.NO: "no   "}


def _name(each: PresetSize) -> str:
    return "as it is" if each.preset == AS_IT_IS else each.preset


def preset_note(each: PresetSize) -> str:
    """Return what keeps a preset from being proposed, in a word or two."""
    twice = "twice" if each.quantizes_twice else ""
    imatrix = "imatrix" if each.needs_importance else ""
    aside = "" if twice else each.set_aside
    return ", ".join(filter(None, (twice, imatrix, aside)))


def _split_table(rows: tuple[SplitRow, ...]) -> RenderableType:
    grid = plain_table(
        left("preset"), right("-ngl"), right("of"), right("on the GPU"), right("in RAM"), words("")
    )
    for row in rows:
        split = row.split
        grid.add_row(
            cell(_name(row.size)),
            str(split.gpu_layers),
            str(split.layers),
            span(split.vram),
            span(split.ram),
            cell({Fit.YES: "", Fit.TIGHT: "tight", Fit.NO: "too little RAM"}[row.fits]),
        )
    return grid
