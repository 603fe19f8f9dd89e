"""What ``ggufscope imatrix`` shows: of a file what it says, of a run what was made."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import RenderableType

from ggufscope.measure.gathering import Perplexity
from ggufscope.measure.importance import BINS, Coverage, Findings
from ggufscope.recipes.importance import ImportanceMatrix
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
from ggufscope.report.units import percent, printable, small, spans

_BAR: Final = 40
"""Characters of the longest bar."""
_THIN: Final = 1000
"""Vectors below which it is said how few reached an expert."""


def findings_views(
    matrix: ImportanceMatrix, findings: Findings, *, every: bool
) -> Iterator[RenderableType]:
    """Yield the views of an importance matrix; with ``every`` each matrix has a line."""
    yield facts(_matrix_facts(matrix) + _coverage_facts(findings.coverage))
    stacks = [each for each in findings.coverage if len(each.counts) > 1]
    if stacks:
        yield title("Vectors that reached each expert")
        yield _stacks(stacks)
        yield from hidden_rows(len(stacks), "stacks", "--json has all")
    yield title("How unevenly columns count: over the mean of their matrix")
    yield _histogram(findings.histogram)
    yield title("The columns furthest above it")
    yield _uneven(findings)
    yield title("Layers")
    yield _layers(findings)
    yield from hidden_rows(len(findings.layers), "layers", "--json has all")
    yield paragraph(
        "μ: means over a layer's matrices. Σ(Act²): mean squares of all columns, added up. "
        "ZD: columns more than one deviation above their mean. CosSim: likeness to the layer "
        "before.",
        "dim",
    )
    if every:
        yield title("Matrices")
        yield _tensors(findings)
        yield from hidden_rows(len(findings.tensors), "matrices", "--json has all")


def made_views(
    matrix: ImportanceMatrix, coverage: Sequence[Coverage], perplexity: Perplexity | None
) -> Iterator[RenderableType]:
    """Yield what was made, and what of the model no vector reached."""
    rows = [("wrote", str(matrix.path)), *_matrix_facts(matrix)[1:], *_coverage_facts(coverage)]
    if perplexity is not None and perplexity.count:
        said = f"{perplexity.value:.4f} ± {perplexity.error:.5f}"
        rows.append(("perplexity", f"{said}, of the second half of {_chunks(perplexity)}"))
    yield facts(rows)


def _chunks(perplexity: Perplexity) -> str:
    count = len(perplexity.so_far)
    return f"each of {count:,} chunks" if count > 1 else "the chunk"


def _matrix_facts(matrix: ImportanceMatrix) -> list[tuple[str, str]]:
    size = f" of {matrix.chunk_size:,} tokens" if matrix.chunk_size else ""
    kind = "legacy .dat" if matrix.legacy else "GGUF"
    unfinished = "; a checkpoint: --resume goes on from it" if matrix.unfinished else ""
    return [
        ("file", f"{matrix.path}, {kind}"),
        ("made of", ", ".join(map(printable, matrix.datasets)) or "texts that it does not name"),
        ("chunks", f"{matrix.chunk_count:,}{size}{unfinished}"),
        ("entries", _matrices(len(matrix.entries))),
    ]


def _coverage_facts(coverage: Sequence[Coverage]) -> list[tuple[str, str]]:
    missed = [each for each in coverage if each.unreached]
    if not missed:
        return [("reached", "all of them")]
    single = [each for each in missed if len(each.counts) == 1]
    missed = [each for each in missed if len(each.counts) > 1]
    said = []
    if single:
        said.append(f"{_matrices(len(single))}, the first {single[0].name}")
    if missed:
        experts = sum(len(each.unreached) for each in missed)
        of = sum(len(each.counts) for each in coverage if len(each.counts) > 1)
        said.append(
            f"{experts:,} of {of:,} experts, in {len(missed)} "
            f"stack{'s' if len(missed) > 1 else ''}, the first "
            f"{spans(missed[0].unreached)} of {missed[0].name}"
        )
    return [("NOT reached", f"{'; '.join(said)}: there every column counts the same")]


def _matrices(count: int) -> str:
    return f"{count:,} {'matrix' if count == 1 else 'matrices'}"


def _stacks(stacks: Sequence[Coverage]) -> RenderableType:
    table = plain_table(
        left("stack"), right("experts"), right("fewest"), right("most"), text("never reached")
    )
    for each in stacks[:MOST_ROWS]:
        counts = each.counts
        fewest = int(counts[counts > 0].min(initial=int(counts.max())))
        table.add_row(
            name_cell(each.name),
            str(len(counts)),
            f"{fewest:,}{' (few)' if fewest < _THIN else ''}",
            f"{int(counts.max()):,}",
            spans(each.unreached),
        )
    return table


def _histogram(histogram: Sequence[int]) -> RenderableType:
    """Draw a bar for each bin; every bin that is not empty has a mark at least."""
    table = plain_table(right("times"), left(""), right("columns"))
    total, most = sum(histogram), max(histogram, default=0)
    for place, count in enumerate(histogram):  # of the outer bins their one edge is said
        sign = "< " if place == 0 else "≥ " if place == BINS - 1 else ""
        times = 4.0 ** min(max(place - BINS // 2, 1 - BINS / 2), BINS / 2 - 1)
        words = f"×{times:g}" if times >= 1 else f"1/{1 / times:g}"
        length = math.ceil(_BAR * count / most) if most else 0
        share = f"{count:,}  {percent(count / total):>6}" if total else "0"
        table.add_row(sign + words, "█" * length, share)
    return table


def _uneven(findings: Findings) -> RenderableType:
    table = plain_table(
        left("matrix"), right("expert"), right("column"), right("mean square"), right("times")
    )
    for each in findings.uneven:
        expert = "" if each.expert is None else str(each.expert)
        numbers = (expert, str(each.column), small(each.mean_square), small(each.times))
        table.add_row(name_cell(each.name), *numbers)
    return table


def _layers(findings: Findings) -> RenderableType:
    table = plain_table(right("layer"), right("μΣ(Act²)"), right("μZD"), right("μCosSim"))
    compared = {each.layer for each in findings.tensors if each.cosine is not None}
    for each in findings.layers[:MOST_ROWS]:
        cosine = f"{each.cosine:.4f}" if each.layer in compared else "-"
        table.add_row(str(each.layer), f"{each.total:,.2f}", percent(each.z_density), cosine)
    return table


def _tensors(findings: Findings) -> RenderableType:
    table = plain_table(
        left("matrix"),
        *map(right, ("Σ(Act²)", "mean", "largest", "active", "even", "ZD", "CosSim")),
    )
    for each in findings.tensors[:MOST_ROWS]:
        table.add_row(
            name_cell(each.name.removesuffix(".weight")),
            f"{each.total:,.1f}",
            small(each.per_column),
            small(each.largest),
            percent(each.active),
            percent(each.evenness),
            percent(each.z_density),
            "" if each.cosine is None else f"{each.cosine:.3f}",
        )
    return table
