"""What ``ggufscope evaluate`` prints: the model, a row for each candidate, how numbers spread."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType

from ggufscope.measure.evaluation import Evaluation
from ggufscope.report.console import cell, facts, left, paragraph, plain_table, right, title
from ggufscope.report.evaluate.tables import tables
from ggufscope.report.evaluate.words import (
    MAIN_HEAD,
    Subject,
    answer_words,
    beaten_words,
    left_out_words,
    main_row,
    subject_facts,
)
from ggufscope.report.plot import LETTERS, Point, plot


def evaluation_views(
    subject: Subject, evaluation: Evaluation, *, width: int
) -> Iterator[RenderableType]:
    """Yield everything; ``width``: columns of a picture."""
    yield facts(subject_facts(subject, evaluation))
    if not evaluation.candidates:
        return
    yield ""
    if subject.all_presets:
        yield from _presets(subject, evaluation, width)
        return
    yield _main(evaluation)
    for heading, head, rows in tables(evaluation):
        yield title(heading)
        table = plain_table(left(""), *map(right, head))
        for row in rows:
            table.add_row(cell(row[0]), *row[1:])
        yield table
    beaten = [each for each in evaluation.candidates if each.clearly]
    if beaten:
        yield ""
        said = (f"{each.name} is beaten by {each.beaten_by}" for each in beaten)
        yield paragraph(f"{'; '.join(said)}: no larger, and clearly closer.", "dim")


def _main(evaluation: Evaluation) -> RenderableType:
    table = plain_table(left(""), *map(right, MAIN_HEAD))
    for each in evaluation.candidates:
        table.add_row(cell(each.name), *main_row(each))
    return table


def _presets(subject: Subject, evaluation: Evaluation, width: int) -> Iterator[RenderableType]:
    table = plain_table(left(""), left("preset"), *map(right, MAIN_HEAD), left("beaten by"), gap=1)
    shown = []
    for letter, each in zip(LETTERS, evaluation.candidates, strict=False):
        style = "dim" if each.beaten_by else ""
        table.add_row(letter, cell(each.name, style), *main_row(each), cell(beaten_words(each)))
        if each.weighs and each.divergence:
            divergence = each.divergence.kl_divergence.value
            shown.append(Point(letter, each.weighs.nbytes, divergence, bool(each.beaten_by)))
    yield table
    yield title("Divergence in nats (up) against bytes of tensors (right)")
    yield Group(*plot(shown, width))
    yield ""
    yield paragraph(answer_words(evaluation))
    if subject.left_out:
        yield paragraph(f"Not tried: {left_out_words(subject.left_out)}.", "dim")
