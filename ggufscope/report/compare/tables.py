"""The tables of a comparison: the model's numbers, those of its layers and heads, and a legend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Final

from rich.console import RenderableType
from rich.table import Table

from ggufscope.measure.comparison import CandidateDifference, Comparison
from ggufscope.measure.differences import AttentionDifference, LayerDifference
from ggufscope.report.compare.words import MODEL_HEAD, model_rows
from ggufscope.report.console import cell, facts, left, plain_table, right
from ggufscope.report.units import decimals, small

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


def attention_table(name: str, rows: Sequence[Sequence[str]]) -> Table:
    """Return a table of up to eleven numbers a row, one blank between them: so 80 columns do."""
    heads = _HEADS[: max(map(len, rows), default=1) - 1]
    table = plain_table(left(name), *map(right, heads), gap=1)
    for row in rows:
        table.add_row(*map(cell, row))
    return table


def layer_cells(of: CandidateDifference | LayerDifference) -> list[str]:
    """Return the average of all heads, then what is the layers' own."""
    own = (_percent(of.output_error), f"{of.output_cosine:.5f}")
    return [*head_cells(of.attention), *own, _percent(of.weight_error.relative)]


def head_cells(of: AttentionDifference) -> list[str]:
    """Return the numbers of a head, or of the average head."""
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


def model_table(comparison: Comparison, names: Sequence[str]) -> Table:
    """Return what came of the whole model, a candidate a row."""
    numbers = [right(head) for head in MODEL_HEAD]
    numbers[1] = left(MODEL_HEAD[1])
    numbers[-1] = left(MODEL_HEAD[-1])
    table = plain_table(left(""), *numbers)
    for name, row in zip(names, model_rows(comparison), strict=True):
        table.add_row(cell(name), *row)
    return table


def legend() -> Iterator[RenderableType]:
    """Return what the columns of an attention table are."""
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
        (
            "weight error",
            "relative error of the weights that the prompt read, %: of token_embd the rows of its "
            "tokens alone. With the output's in it, all may lie below every layer",
        ),
    ]
    yield facts(rows)
