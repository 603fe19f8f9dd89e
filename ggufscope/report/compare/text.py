"""What ``ggufscope compare-attention`` prints: verdicts first, then candidates, layers, heads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rich.console import RenderableType
from rich.table import Column, Table

from ggufscope.measure.comparison import CandidateDifference, Comparison
from ggufscope.measure.differences import AttentionDifference, HeadDifference, LayerDifference
from ggufscope.report.compare.words import MEANING, MODEL_HEAD, model_rows, verdict_words
from ggufscope.report.console import (
    GREEN,
    RED,
    cell,
    facts,
    left,
    paragraph,
    plain_table,
    right,
    title,
)
from ggufscope.report.heatmap import difference_map, heatmap
from ggufscope.report.subject import Subject
from ggufscope.report.units import decimals, percent, small

Matrix = npt.NDArray[np.floating[Any]]

WORST: Final = 5
"""Heads that the table of the worst shows; ``--json`` has all of them."""
LONGEST_PROMPT: Final = 240
"""Characters of the prompt that are printed."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What was asked to be shown."""

    layer: int | None = None
    head: int | None = None

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
    first = candidate.verdict.first
    if selection == Selection() and first and first.head is not None:
        assert first.layer is not None
        return number, first.layer, first.head
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
        ("prompt", f"{said}{subject.counted}"),
        ("reference", f"its own weights ({', '.join(comparison.types)}) in FP32"),
        *subject.rope_facts,
    ]


def brief_views(comparison: Comparison) -> Iterator[RenderableType]:
    """Return the verdicts alone."""
    yield _verdicts(comparison)


def comparison_views(
    subject: Subject, comparison: Comparison, selection: Selection
) -> Iterator[RenderableType]:
    """Return everything but the maps."""
    yield facts(subject_facts(subject, comparison))
    yield ""
    yield _verdicts(comparison)
    yield ""
    yield paragraph(f"{MEANING} --tolerance holds all to one limit.", "dim")
    yield title("Candidates")
    short = _short_names(comparison)
    named = zip(short, comparison.candidates, strict=True)
    yield _attention_table("", [(name, *_cells(each)) for name, each in named])
    yield ""
    yield _model_table(comparison, short)
    for name, each in zip(short, comparison.candidates, strict=True):
        if name != each.name:
            yield paragraph(f"{name} {each.name}", "dim")
    for candidate in comparison.candidates:
        layers = selection.layers(candidate)
        yield title(f"{candidate.name}, layer by layer")
        rows = [(f"layer {layer.layer}", *_cells(layer)) for layer in layers]
        yield _attention_table("", rows)
        yield ""
        heads = selection.heads(candidate)[:WORST]
        rows = [(f"{each.layer} / {each.head}", *_head_cells(each)) for each in heads]
        yield _attention_table("layer / head", rows)
    yield ""
    yield from _legend()


def map_views(
    names: tuple[str, str],
    place: tuple[int, int],
    maps: tuple[Matrix, Matrix],
    tokens: Sequence[str],
    *,
    width: int,
    shades: str,
) -> Iterator[RenderableType]:
    """Return the maps of one head: of the reference, of the candidate, and their difference."""
    where = f"layer {place[0]}, head {place[1]}"
    for name, matrix in zip(names, maps, strict=True):
        yield title(f"{name}: {where}, what each token (row) attends to")
        yield from heatmap(matrix, tokens, width=width, shades=shades)
    yield title(f"{names[1]} minus {names[0]}: {where}")
    yield from difference_map(*maps, tokens, width=width, shades=shades)
    yield ""


def _verdicts(comparison: Comparison) -> Table:
    names = Column(no_wrap=True, style="bold")
    table = plain_table(names, Column(no_wrap=True), Column(overflow="fold"), header=False)
    for candidate in comparison.candidates:
        words = verdict_words(candidate)
        if candidate.verdict.matches:
            verdict = cell("matches", GREEN)
            words = f"{percent(candidate.attention.total_variation)} of attention moved; {words}"
        else:
            verdict = cell("DOES NOT MATCH", RED)
        table.add_row(cell(candidate.name), verdict, paragraph(words))
    return table


_NAME: Final = 8
"""The widest name of a row."""
_HEADS: Final = (
    "mean\ndiff",
    "max\ndiff",
    "TV",
    "JS",
    "other\ntop",
    "entropy",
    "heads\nerror",
    "cosine",
    "layer\nerror",
    "cosine",
    "weight\nerror",
)


def _attention_table(name: str, rows: Sequence[Sequence[str]]) -> Table:
    """Return a table of up to eleven numbers a row, one blank between them: so 80 columns do."""
    heads = _HEADS[: max(map(len, rows), default=1) - 1]
    table = plain_table(left(name), *map(right, heads), gap=1)
    for row in rows:
        table.add_row(*map(cell, row))
    return table


def _cells(of: CandidateDifference | LayerDifference) -> list[str]:
    """Return the average of all heads, then what is the layers' own."""
    own = (_percent(of.output_error), f"{of.output_cosine:.5f}")
    return [*_head_cells(of.attention), *own, _percent(of.weight_error.relative)]


def _head_cells(of: AttentionDifference) -> list[str]:
    return [
        _percent(of.mean_difference),
        _percent(of.largest_difference),
        _percent(of.total_variation),
        small(of.jensen_shannon),
        _percent(of.top_changed),
        f"{of.entropy_shift:+.3f}",
        _percent(of.output_error),
        f"{of.output_cosine:.5f}",
    ]


def _percent(number: float) -> str:
    """Return a share in percent for a narrow column: one or two decimals."""
    share = 100 * number
    return f"{share:.{max(1, decimals(share))}f}" if isfinite(share) else str(number)


def _short_names(comparison: Comparison) -> list[str]:
    """Return names that leave a table its room: a long one is a number, explained below it."""
    names = [each.name for each in comparison.candidates]
    return [name if len(name) <= _NAME else f"({n})" for n, name in enumerate(names, 1)]


def _model_table(comparison: Comparison, names: Sequence[str]) -> Table:
    table = plain_table(left(""), *map(right, MODEL_HEAD))
    for name, row in zip(("reference", *names), model_rows(comparison), strict=True):
        table.add_row(cell(name), *row)
    return table


def _legend() -> Iterator[RenderableType]:
    rows = [
        ("mean, max diff", "of one attention probability, in percentage points"),
        ("TV", "total variation: the share of a token's attention that went elsewhere, %"),
        ("JS", "Jensen-Shannon divergence of attention rows, 0 to 1 bit"),
        ("other top", "tokens whose most attended token is another one, %"),
        ("entropy", "shift in bits: above 0 attention spread, below it narrowed"),
        (
            "heads, layer",
            "relative error in % and cosine of what heads (kqv) and layers (l_out) give",
        ),
        ("weights", "relative error of the weights themselves, %"),
        ("KL", "of the next-token distribution: the mean over the prompt, and the worst"),
    ]
    yield facts(rows)
