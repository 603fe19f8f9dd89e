"""The page of an evaluation: size against divergence as a picture, and all tables. No script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Final

from ggufscope.measure.evaluation import Evaluated, Evaluation
from ggufscope.report.evaluate.plot import decades
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
from ggufscope.report.html import PageTable, facts_html, table_html
from ggufscope.report.units import printable, size

_WIDTH: Final = 800
_HEIGHT: Final = 440
_LEFT: Final = 76
_RIGHT: Final = 100
_TOP: Final = 16
_BOTTOM: Final = 48
_LINE: Final = 15
"""Height of a name."""
_NAME: Final = 62
"""Width of a name, about; one that would cover another is left out, the dot still has it."""
_TICKS: Final = 5


def evaluation_page(subject: Subject, evaluation: Evaluation) -> str:
    """Return the whole page as text."""
    assets = files("ggufscope.report") / "page"
    name = subject.summary.name or str(subject.path)
    shown = [_main(evaluation)]
    shown += [PageTable(title, ["", *head], rows) for title, head, rows in tables(evaluation)]
    lead = "Perplexity and KL divergence over a text, in the terms of llama-perplexity."
    if evaluation.candidates:
        lead += f" {answer_words(evaluation)}"
    return Template((assets / "evaluate.html").read_text(encoding="utf-8")).substitute(
        title=_text(f"{name}: quality over a text"),
        lead=_text(lead),
        facts=facts_html(subject_facts(subject, evaluation)),
        plot=_plot(evaluation.candidates),
        left_out=_text(f"Not tried: {left_out_words(subject.left_out)}.")
        if subject.left_out
        else "",
        tables="\n".join(table_html(table) for table in shown if table.rows),
        style=(assets / "page.css").read_text(encoding="utf-8"),
    )


def _main(evaluation: Evaluation) -> PageTable:
    rows = [[each.name, *main_row(each), beaten_words(each)] for each in evaluation.candidates]
    head = [head.replace("\n", ", ") for head in MAIN_HEAD]
    return PageTable("Candidates", ["", *head, "beaten by"], rows)


def _plot(candidates: Sequence[Evaluated]) -> str:
    """Return size against divergence as SVG; nothing where there are fewer than two."""
    dots = [
        (each, each.weighs.nbytes, each.divergence.kl_divergence)
        for each in candidates
        if each.weighs and each.divergence and each.divergence.kl_divergence.value > 0
        if math.isfinite(each.divergence.kl_divergence.value)
    ]
    if len(dots) < 2:
        return ""
    low, high = decades([estimate.value for _, _, estimate in dots])
    smallest, largest = min(n for _, n, _ in dots), max(n for _, n, _ in dots)
    room, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def across(nbytes: float) -> float:
        return round(_LEFT + 8 + (room - 8) * (nbytes - smallest) / max(1, largest - smallest), 1)

    def down(number: float) -> float:
        level = math.log10(max(number, 10.0**low))
        return round(_TOP + tall * (high - level) / (high - low), 1)

    parts = []
    for power in range(low, high + 1):
        y = down(10.0**power)
        parts.append(f'<line x1="{_LEFT}" y1="{y}" x2="{_WIDTH - _RIGHT}" y2="{y}"/>')
        label = f"{10.0**power:g}"
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{label}</text>')
    for tick in range(_TICKS):
        nbytes = smallest + (largest - smallest) * tick / (_TICKS - 1)
        y = _HEIGHT - _BOTTOM + 18
        label = size(round(nbytes))
        parts.append(f'<text x="{across(nbytes)}" y="{y}" text-anchor="middle">{label}</text>')
    centre = _LEFT + room / 2
    axis = "bytes of weights, and KL divergence in nats (logarithmic)"
    parts.append(f'<text x="{centre}" y="{_HEIGHT - 8}" text-anchor="middle">{axis}</text>')
    kept = sorted((n, e.value) for each, n, e in dots if not each.beaten_by)
    line = " ".join(f"{across(nbytes)},{down(value)}" for nbytes, value in kept)
    parts.append(f'<polyline class="frontier" points="{line}"/>')
    taken: list[tuple[float, float]] = []
    for each, nbytes, estimate in sorted(dots, key=lambda dot: bool(dot[0].beaten_by)):
        kind = "beaten" if each.beaten_by else "kept"
        x, y = across(nbytes), down(estimate.value)
        ends = down(estimate.value + estimate.error), down(estimate.value - estimate.error)
        parts.append(f'<line class="{kind}" x1="{x}" y1="{ends[0]}" x2="{x}" y2="{ends[1]}"/>')
        title = _text(f"{each.name}: {size(nbytes)}, {tiny(estimate)}")
        parts.append(
            f'<circle class="{kind}" cx="{x}" cy="{y}" r="4"><title>{title}</title></circle>'
        )
        at = _label_place(x, y, taken)
        if at is not None:
            label = f'<text class="{kind}" x="{x + 8:.1f}" y="{at}">'
            parts.append(f"{label}{_text(each.name)}</text>")
    body = "\n".join(parts)
    return (
        '<section id="plot" aria-labelledby="plot-title">\n'
        '<h2 id="plot-title">Size against divergence</h2>\n'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="plot-title">\n'
        f"{body}\n</svg>\n"
        '<p class="hint">Lower left is better. The dashed line joins those that no other beats; '
        "bars are one error. The table below has the numbers.</p>\n</section>"
    )


def _text(text: str) -> str:
    return escape(printable(text))


def _label_place(x: float, y: float, taken: list[tuple[float, float]]) -> float | None:
    """Return where a name stands beside its dot, clear of the names before it, if anywhere."""
    for step in (0, -1, 1):
        at = round(y + 4 + step * _LINE, 1)
        if all(abs(x - other) > _NAME or abs(at - there) >= _LINE - 1 for other, there in taken):
            taken.append((x, at))
            return at
    return None
