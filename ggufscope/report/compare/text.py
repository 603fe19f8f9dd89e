"""What ``ggufscope compare-attention`` shows: verdicts first, then candidates, layers, heads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rich.console import RenderableType
from rich.table import Column, Table

from ggufscope.measure.comparison import (
    CandidateDifference,
    Comparison,
    HeadDifference,
    LayerDifference,
)
from ggufscope.measure.verdict import METRICS, Finding
from ggufscope.report.console import cell, facts, paragraph, title
from ggufscope.report.heatmap import difference_map, heatmap
from ggufscope.report.units import bits

Matrix = npt.NDArray[np.floating[Any]]

WORST: Final = 5
"""Heads that the table of the worst shows; ``--json`` has all of them."""


MEANING: Final = "A candidate matches that is as near to FP32 as its types allow."
"""What the verdict says, and what it does not."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What was compared, in words."""

    facts: Sequence[tuple[str, str]]
    """The model, the prompt, the reference: a word, and what there is to say."""
    tokens: Sequence[str]
    prompt: str | None
    """The text, where there was one."""
    model: Mapping[str, Any]
    """For machines: path, name, architecture, stored types."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What was asked to be shown."""

    layer: int | None = None
    head: int | None = None

    def layers(self, candidate: CandidateDifference) -> list[LayerDifference]:
        """Give the layers of a candidate that are shown."""
        return [each for each in candidate.layers if self.layer in (None, each.layer)]

    def heads(self, candidate: CandidateDifference) -> list[HeadDifference]:
        """Give the heads that are shown, the worst first."""
        return [
            each
            for each in candidate.worst_heads(len(candidate.heads))
            if self.layer in (None, each.layer) and self.head in (None, each.head)
        ]


def place_to_show(comparison: Comparison, selection: Selection) -> tuple[int, int, int]:
    """Give candidate, layer and head of the maps to draw: what was asked for, else the worst.

    Of the candidates the first that does not match, or the one furthest from the reference.
    """
    candidates = comparison.candidates
    out = [n for n, each in enumerate(candidates) if not each.verdict.matches]
    chosen = (
        out[0] if out else max(range(len(candidates)), key=lambda n: moved_attention(candidates[n]))
    )
    first = candidates[chosen].verdict.first
    if selection.layer is None and selection.head is None and first and first.head is not None:
        assert first.layer is not None
        return chosen, first.layer, first.head
    worst = selection.heads(candidates[chosen])[0]
    return chosen, worst.layer, worst.head


def moved_attention(candidate: CandidateDifference) -> float:
    """Give the share of attention that went elsewhere, over all heads."""
    return float(np.mean([head.total_variation for head in candidate.heads]))


def comparison_views(
    subject: Subject, comparison: Comparison, selection: Selection
) -> Iterator[RenderableType]:
    """Give everything but the maps."""
    yield facts(subject.facts)
    yield ""
    yield _verdicts(comparison)
    yield ""
    yield paragraph(f"{MEANING} --tolerance holds all to one limit.", "dim")
    yield title("Candidates")
    short = _short_names(comparison)
    named = zip(short, comparison.candidates, strict=True)
    yield _attention_table("", [(name, *_means(each)) for name, each in named])
    yield ""
    yield _model_table(comparison, short)
    for name, each in zip(short, comparison.candidates, strict=True):
        if name != each.name:
            yield paragraph(f"{name} {each.name}", "dim")
    for candidate in comparison.candidates:
        layers = selection.layers(candidate)
        yield title(f"{candidate.name}, layer by layer")
        rows = [(f"layer {layer.layer}", *_layer_cells(layer)) for layer in layers]
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
    """Give the maps of one head: of the reference, of the candidate, and their difference."""
    where = f"layer {place[0]}, head {place[1]}"
    for name, matrix in zip(names, maps, strict=True):
        yield title(f"{name}: {where}, what each token (row) attends to")
        yield from heatmap(matrix, tokens, width=width, shades=shades)
    yield title(f"{names[1]} minus {names[0]}: {where}")
    yield from difference_map(*maps, tokens, width=width, shades=shades)
    yield ""


def _verdicts(comparison: Comparison) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for candidate in comparison.candidates:
        words = verdict_words(candidate)
        if candidate.verdict.matches:
            verdict = cell("matches", "green")
            words = f"{percent(moved_attention(candidate))} of attention moved; {words}"
        else:
            verdict = cell("DOES NOT MATCH", "red")
        table.add_row(cell(candidate.name), verdict, paragraph(words))
    return table


def verdict_words(candidate: CandidateDifference) -> str:
    """Say why a candidate matches, or which layer and head do not."""
    verdict = candidate.verdict
    if verdict.worst is None:
        return "no tolerance was set"
    if verdict.matches:
        return f"closest to its limit: {finding_words(verdict.worst)}"
    assert verdict.first is not None
    words = finding_words(verdict.first)
    if verdict.first.layer is not None:
        words = f"first in {words}"
    if verdict.worst != verdict.first:
        words += f"; furthest in {finding_words(verdict.worst)}"
    return words


def finding_words(finding: Finding) -> str:
    """Say what was measured where, and what the limit is."""
    place = "the whole model"
    if finding.layer is not None:
        place = f"layer {finding.layer}"
        place += f", head {finding.head}" if finding.head is not None else ""
    metric = METRICS[finding.metric]
    value, limit = (
        metric_text(finding.metric, number) for number in (finding.value, finding.tolerance)
    )
    bound = "at least" if metric.at_least else "limit"
    return f"{place}, {metric.words} {value} ({bound} {limit})"


def metric_text(name: str, number: float) -> str:
    """Give a metric as people read it."""
    if name == "kl_divergence":
        return f"{small(number)} nats"
    if name == "jensen_shannon":
        return f"{small(number)} bits"
    return percent(number)


def percent(number: float) -> str:
    """Give a share in percent, with three digits at the most."""
    if not np.isfinite(number):
        return str(number)
    return f"{small(100 * number)}%"


def small(number: float) -> str:
    """Give a number with three digits where it is below 1000, and none that say nothing."""
    if not np.isfinite(number):
        return str(number)
    if number == 0:
        return "0"
    size = abs(number)
    if size < 0.001:
        return f"{number:.1e}".replace("e-0", "e-")
    return (
        f"{number:.{2 if size < 9.995 else 1 if size < 99.95 else 0}f}"
        if size >= 0.1
        else (f"{number:.4f}" if size < 0.01 else f"{number:.3f}")
    )


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
    """Give a table of up to eleven numbers a row, one blank between them: so 80 columns do."""
    heads = _HEADS[: max(map(len, rows), default=1) - 1]
    table = Table(
        Column(name, no_wrap=True),
        *(Column(head, no_wrap=True, justify="right") for head in heads),
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
    )
    for row in rows:
        table.add_row(*map(cell, row))
    return table


def _means(candidate: CandidateDifference) -> list[str]:
    """Over all heads and layers, but the largest difference of all."""
    layers = candidate.layers
    return _cells(
        candidate.heads,
        _percent(float(np.mean([layer.output_error for layer in layers]))),
        f"{float(np.mean([layer.output_cosine for layer in layers])):.5f}",
        _percent(candidate.weight_error.relative),
    )


def _layer_cells(layer: LayerDifference) -> list[str]:
    return _cells(
        layer.heads,
        _percent(layer.output_error),
        f"{layer.output_cosine:.5f}",
        _percent(layer.weight_error.relative),
    )


def _head_cells(head: HeadDifference) -> list[str]:
    """All but the layer's output and weights, which are not the head's own."""
    return _cells([head])


def _cells(heads: Sequence[HeadDifference], *layer: str) -> list[str]:
    def mean(name: str) -> float:
        return float(np.mean([getattr(head, name) for head in heads]))

    return [
        _percent(mean("mean_difference")),
        _percent(max(head.largest_difference for head in heads)),
        _percent(mean("total_variation")),
        small(mean("jensen_shannon")),
        _percent(mean("top_changed")),
        f"{mean('entropy_shift'):+.3f}",
        _percent(mean("output_error")),
        f"{mean('output_cosine'):.5f}",
        *layer,
    ]


def _percent(number: float) -> str:
    if not np.isfinite(number):
        return str(number)
    return f"{100 * number:.2f}" if number < 0.09995 else f"{100 * number:.1f}"


def _short_names(comparison: Comparison) -> list[str]:
    """Give names that leave a table its room: a long one is a number, explained below it."""
    names = [each.name for each in comparison.candidates]
    return [name if len(name) <= _NAME else f"({n})" for n, name in enumerate(names, 1)]


def _model_table(comparison: Comparison, names: Sequence[str]) -> Table:
    table = Table(
        Column("", no_wrap=True),
        *(
            Column(head, no_wrap=True, justify="right")
            for head in ("bits", "KL, nats", "worst token", "same next token", "perplexity")
        ),
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="bold",
    )
    table.add_row("reference", "32", "", "", "", perplexity_text(comparison.perplexity))
    for name, each in zip(names, comparison.candidates, strict=True):
        table.add_row(
            cell(name),
            bits(round(each.bits_per_weight, 2)),
            small(each.mean_kl_divergence),
            small(max(each.kl_divergence)),
            percent(each.top1_agreement),
            perplexity_text(each.perplexity),
        )
    return table


def perplexity_text(number: float | None) -> str:
    """Give a perplexity; a prompt of one token has none."""
    return "-" if number is None else f"{number:.4g}"


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
