"""What ``ggufscope compare-attention`` prints: what it says of each candidate, a table, the answer.

Layers and heads come where they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import RenderableType
from rich.table import Column, Table

from ggufscope.arrays import Reals
from ggufscope.measure.comparison import CandidateDifference, Comparison
from ggufscope.measure.differences import HeadDifference, LayerDifference
from ggufscope.report.compare.tables import (
    attention_table,
    head_cells,
    layer_cells,
    legend,
    model_table,
)
from ggufscope.report.compare.words import (
    answer_words,
    broken_unasked,
    candidate_words,
    original_words,
    scale_words,
)
from ggufscope.report.console import (
    GREEN,
    ORANGE,
    RED,
    cell,
    facts,
    paragraph,
    plain_table,
    title,
)
from ggufscope.report.heatmap import difference_map, heatmap
from ggufscope.report.subject import Subject

HEADS: Final = 16
"""Heads that a table shows, those that moved most; ``--json`` has all of them."""
FEW_TOKENS: Final = 64
"""A prompt of fewer tokens says little about the KL divergence."""
LONGEST_PROMPT: Final = 240
"""Characters of the prompt that are printed."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What was asked to be shown."""

    layer: int | None = None
    head: int | None = None
    by_layer: bool = False
    by_head: bool = False

    @property
    def maps(self) -> bool:
        """Whether a head's attention is drawn."""
        return self.by_head or self.layer is not None or self.head is not None

    def layers(self, candidate: CandidateDifference) -> list[LayerDifference]:
        """Return the layers of a candidate that are shown."""
        return [each for each in candidate.layers if self.layer in (None, each.layer)]

    def heads(self, candidate: CandidateDifference) -> list[HeadDifference]:
        """Return the heads that are shown, the worst first."""
        return [
            each
            for each in candidate.worst_heads()
            if self.layer in (None, each.layer) and self.head in (None, each.head)
        ]


def place_to_show(comparison: Comparison, selection: Selection) -> tuple[int, int, int]:
    """Return candidate, layer and head of the maps to draw: what was asked for, else the worst."""
    number = comparison.worst
    candidate = comparison.candidates[number]
    making = candidate.verdict.making
    faults = [each for each in making.faults if each.part.startswith("head")] if making else []
    if selection.layer is None and selection.head is None:
        for place in (*faults, candidate.verdict.first):
            if place and place.layer is not None and place.head is not None:
                return number, place.layer, place.head
    worst = selection.heads(candidate)[0]
    return number, worst.layer, worst.head


def subject_facts(subject: Subject, comparison: Comparison) -> list[tuple[str, str]]:
    """Return the model, the prompt and the reference: a word, and what there is to say."""
    layers = comparison.candidates[0].layers
    heads = " or ".join(map(str, sorted({len(layer.heads) for layer in layers})))
    name = subject.summary.name or "no name"
    text = subject.text
    if text is not None and len(text) > LONGEST_PROMPT:
        text = f"{text[: LONGEST_PROMPT - 3]}..."
    said = "" if text is None else f'"{text}", '
    return [
        ("model", f"{subject.file_name}: {name}, {len(layers)} layers of {heads} heads"),
        ("prompt", f"{said}{counted_words(subject, comparison)}"),
        ("reference", f"its own weights ({', '.join(comparison.types)}) in FP32"),
        *subject.rope_facts,
    ]


def counted_words(subject: Subject, comparison: Comparison) -> str:
    """Say how many tokens were run, and in how many windows of the context if not in one."""
    windows = comparison.windows
    if len(windows) == 1:
        return subject.counted
    longest = max(map(len, windows))
    return f"{subject.counted}, in {len(windows)} windows of at most {longest}"


def brief_views(comparison: Comparison) -> Iterator[RenderableType]:
    """Return the answers alone."""
    yield _sentences(comparison)
    yield answer_view(comparison)


def comparison_views(
    subject: Subject, comparison: Comparison, selection: Selection
) -> Iterator[RenderableType]:
    """Return everything but the maps."""
    warning = original_words(subject.file_name, comparison)
    if warning:
        yield paragraph(warning, ORANGE)
        yield ""
    yield facts(subject_facts(subject, comparison))
    yield ""
    yield _sentences(comparison)
    yield ""
    short = _short_names(comparison)
    yield model_table(comparison, short)
    for name, each in zip(short, comparison.candidates, strict=True):
        if name != each.name:
            yield paragraph(f"{name} {each.name}", "dim")
    yield from _details(comparison, selection)
    yield ""
    yield paragraph(f"{_few_tokens(subject, comparison)}Effect, {scale_words()}.", "dim")
    if not selection.by_layer and not selection.by_head:
        yield paragraph("--by layer and --by head show more.", "dim")


def answer_view(comparison: Comparison) -> RenderableType:
    """Return the last line: whether all candidates will do."""
    passed = ORANGE if broken_unasked(comparison) else GREEN
    return paragraph(answer_words(comparison), passed if comparison.accepted else RED)


def _few_tokens(subject: Subject, comparison: Comparison) -> str:
    few = comparison.n_tokens < FEW_TOKENS
    noisy = ": few, so the KL divergence is noisy" if few else ""
    return f"Measured over {counted_words(subject, comparison)}{noisy}. "


def _details(comparison: Comparison, selection: Selection) -> Iterator[RenderableType]:
    if not selection.by_layer and not selection.by_head:
        return
    for candidate in comparison.candidates:
        yield title(candidate.name)
        if selection.by_layer:
            layers = selection.layers(candidate)
            rows = [(f"layer {layer.layer}", *layer_cells(layer)) for layer in layers]
            rows.append(("all", *layer_cells(candidate)))
            yield attention_table("", rows)
        if selection.by_layer and selection.by_head:
            yield ""
        if selection.by_head:
            heads = selection.heads(candidate)
            rows = [(f"{each.layer} / {each.head}", *head_cells(each)) for each in heads[:HEADS]]
            yield attention_table("layer / head", rows)
            if len(heads) > HEADS:
                yield paragraph(f"... and {len(heads) - HEADS} that moved less: --json", "dim")
    yield ""
    yield from legend()


def map_views(
    names: tuple[str, str],
    place: tuple[int, int],
    maps: tuple[Reals, Reals],
    tokens: Sequence[str],
    *,
    width: int,
    shades: str,
    windows: int = 1,
) -> Iterator[RenderableType]:
    """Return the maps of one head: of the reference, of the candidate, and their difference.

    ``windows``: how many there are; the maps are those of the first.
    """
    where = f"layer {place[0]}, head {place[1]}"
    if windows > 1:
        where += f", the first of {windows} windows"
    for name, matrix in zip(names, maps, strict=True):
        yield title(f"{name}: {where}, what each token (row) attends to")
        yield from heatmap(matrix, tokens, width=width, shades=shades)
    yield title(f"{names[1]} minus {names[0]}: {where}")
    yield from difference_map(*maps, tokens, width=width, shades=shades)
    yield ""


def _sentences(comparison: Comparison) -> Table:
    names = Column(no_wrap=True, style="bold")
    table = plain_table(names, Column(overflow="fold"), header=False)
    for candidate in comparison.candidates:
        style = "" if candidate.verdict.accepted else RED
        table.add_row(cell(candidate.name), paragraph(candidate_words(candidate), style))
    return table


_NAME: Final = 8
"""The widest name of a row."""


def _short_names(comparison: Comparison) -> list[str]:
    """Return names that leave a table its room: a long one is a number, explained below it."""
    names = [each.name for each in comparison.candidates]
    return [name if len(name) <= _NAME else f"({n})" for n, name in enumerate(names, 1)]
