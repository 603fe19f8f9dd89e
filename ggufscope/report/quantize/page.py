"""The page of a mix chosen by measurement: the frontier as a picture, and all tables. No script."""

from __future__ import annotations

from typing import Final

from ggufscope.measure.tailor import Tailored
from ggufscope.report.html import PageTable, escaped, facts_html, filled, table_html
from ggufscope.report.quantize.tailored import (
    CHOICE,
    STEPS_HEAD,
    TRIAL_HEAD,
    counted_words,
    rated,
    step_rows,
    tailored_facts,
    trial_row,
    verdict_words,
)
from ggufscope.report.size_plot import Dot, size_plot
from ggufscope.report.units import bits, size, small

_POINTS: Final = 500
"""Of the frontier that are drawn at the most."""


def tailored_page(name: str, found: Tailored) -> str:
    """Return the whole page of a model of this name as text."""
    every, (head, axis) = rated(found), counted_words(found)
    tried = [each for each in (found.choice, found.preset) if each]
    tables = [
        PageTable("On text that was not used to choose", TRIAL_HEAD, [*map(trial_row, tried)]),
        PageTable(
            "Presets of the same types",
            ["", head, "bits", "predicted", "the least of this size"],
            [
                [
                    *(r.name, size(r.nbytes), bits(round(r.bits, 2))),
                    *(small(r.predicted), small(r.least)),
                ]
                for r in every
            ],
        ),
        PageTable("What each tensor costs", STEPS_HEAD, [*step_rows(found)]),
    ]
    dots = [
        Dot(r.name, r.nbytes, r.predicted, 0.0, small(r.predicted), beaten=r.name != CHOICE)
        for r in every
    ]
    dots += [
        Dot(
            f"{each.name}, tried",
            found.counted(each),
            each.divergence.nats,
            each.divergence.error,
            f"{small(each.divergence.nats)} ± {small(each.divergence.error)}",
            beaten=each is not found.choice,
        )
        for each in tried
    ]
    every_so = -(-len(found.frontier) // _POINTS)
    picture = size_plot(
        dots,
        [*found.frontier[::every_so], found.frontier[-1]],
        f"{axis}, and predicted KL divergence in nats (logarithmic)",
        "The dashed line is the least that a file of each size is predicted to diverge. What was "
        "tried was run over text that was not used to choose; its bar is one error.",
    )
    return filled(
        "evaluate.html",
        title=escaped(f"{name}: a mix chosen by measurement"),
        lead=escaped(verdict_words(found)),
        facts=facts_html(tailored_facts(found)),
        plot=picture,
        left_out="",
        tables="\n".join(table_html(table) for table in tables),
    )
