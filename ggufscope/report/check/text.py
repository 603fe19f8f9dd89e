"""What ``ggufscope check`` shows, for eyes: the verdict, then each finding with what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ggufscope.checking.findings import SUBJECTS, Checked, Finding, Grade
from ggufscope.report.console import GREEN, ORANGE, RED, paragraph
from ggufscope.report.units import printable, size

MOST: Final = 20
"""Findings of one model that are shown; ``--json`` has all."""
_WORD: Final = 9
"""Columns of the word before a line."""
_COLOURS: Final = {Grade.ERROR: RED, Grade.WARNING: ORANGE, Grade.NOTE: "default"}


def check_views(checked: Sequence[Checked], *, brief: bool = False) -> Iterator[RenderableType]:
    """Show what became of each model; ``brief``: the verdicts alone."""
    for number, each in enumerate(checked):
        if brief:
            yield paragraph(printable(f"{each.path}: ")) + _verdict(each)
            continue
        if number:
            yield ""
        yield _rows([*_facts(each), (Text("verdict", "bold"), _verdict(each))])
        for finding in each.findings[:MOST]:
            yield ""
            yield _rows(_finding(finding))
        if len(each.findings) > MOST:
            yield ""
            yield paragraph(f"... and {len(each.findings) - MOST} more: --json has all", "dim")
    if len(checked) > 1:
        yield ""
        yield paragraph(f"{len(checked)} files: {_summed(checked)}", "bold")


def _summed(checked: Sequence[Checked]) -> str:
    counts = Counter(each.outcome for each in checked)
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items())


def _rows(rows: Iterable[tuple[Text, Text]]) -> Table:
    """Return a word and a text in each row; the text is wrapped beside the word."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, width=_WORD - 2)
    table.add_column(overflow="fold")
    for word, words in rows:
        table.add_row(word, words)
    return table


def _facts(each: Checked) -> Iterator[tuple[Text, Text]]:
    rows = {"file": printable(str(each.path))}
    if each.readable:
        many = f"{each.tensors:,} tensor{'s' if each.tensors != 1 else ''}"
        rows["what"] = f"{each.kind}, {many}, {size(each.nbytes)}"
        if each.recipe is not None:
            rows["types"] = each.recipe
        rows["checked"] = "; ".join(SUBJECTS[name] for name in each.looked_at)
    for word, fact in rows.items():
        yield Text(word, "bold"), paragraph(fact)


def _verdict(each: Checked) -> Text:
    colour = RED if each.count(Grade.ERROR) else GREEN if each.clean else ORANGE
    return Text(each.verdict, f"bold {colour}")


def _finding(finding: Finding) -> Iterator[tuple[Text, Text]]:
    yield Text(finding.grade, f"bold {_COLOURS[finding.grade]}"), paragraph(finding.what, "bold")
    yield Text(), paragraph(f"It means: {finding.meaning}.")
    yield Text(), paragraph(f"What to do: {finding.advice}.")
    if finding.llama_cpp:
        yield Text(), paragraph(f"llama.cpp says: {finding.llama_cpp}", "dim")
