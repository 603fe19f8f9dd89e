"""The page of an evaluation: size against divergence as a picture, and all tables. No script."""

from __future__ import annotations

from collections.abc import Sequence

from ggufscope.measure.evaluation import Evaluated, Evaluation
from ggufscope.report.evaluate.tables import tables
from ggufscope.report.evaluate.words import (
    MAIN_HEAD,
    Subject,
    answer_words,
    beaten_words,
    left_out_words,
    main_row,
    subject_facts,
    tiny,
)
from ggufscope.report.html import PageTable, escaped, facts_html, filled, table_html
from ggufscope.report.size_plot import Dot, size_plot


def evaluation_page(subject: Subject, evaluation: Evaluation) -> str:
    """Return the whole page as text."""
    name = subject.summary.name or str(subject.path)
    shown = [_main(evaluation)]
    shown += [PageTable(title, ["", *head], rows) for title, head, rows in tables(evaluation)]
    lead = "Perplexity and KL divergence over a text, in the terms of llama-perplexity."
    if evaluation.candidates:
        lead += f" {answer_words(evaluation)}"
    return filled(
        "evaluate.html",
        title=escaped(f"{name}: quality over a text"),
        lead=escaped(lead),
        facts=facts_html(subject_facts(subject, evaluation)),
        plot=_plot(evaluation.candidates),
        left_out=escaped(f"Not tried: {left_out_words(subject.left_out)}.")
        if subject.left_out
        else "",
        tables="\n".join(table_html(table) for table in shown if table.rows),
    )


def _main(evaluation: Evaluation) -> PageTable:
    rows = [[each.name, *main_row(each), beaten_words(each)] for each in evaluation.candidates]
    head = [head.replace("\n", ", ") for head in MAIN_HEAD]
    return PageTable("Candidates", ["", *head, "beaten by"], rows)


def _plot(candidates: Sequence[Evaluated]) -> str:
    """Return size against divergence as SVG; nothing where there are fewer than two."""
    dots = [
        Dot(
            each.name,
            each.weighs.nbytes,
            each.divergence.kl_divergence.value,
            each.divergence.kl_divergence.error,
            tiny(each.divergence.kl_divergence),
            beaten=bool(each.beaten_by),
        )
        for each in candidates
        if each.weighs and each.divergence
    ]
    kept = sorted((dot.nbytes, dot.divergence) for dot in dots if not dot.beaten)
    return size_plot(
        dots,
        kept,
        "bytes of tensors, and KL divergence in nats (logarithmic)",
        "Lower left is better. The dashed line joins those that no other beats; bars are one "
        "error. The table below has the numbers.",
    )
