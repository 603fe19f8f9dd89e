"""The page of ``ggufscope attention``: every head of a run."""

from __future__ import annotations

from collections.abc import Mapping

from ggufscope.arrays import Floats
from ggufscope.measure.watching import Spotlight, Watched
from ggufscope.report.attention.text import model_facts
from ggufscope.report.html import Page, PageRun
from ggufscope.report.scores import pattern_scores
from ggufscope.report.subject import Subject


def attention_page(
    watched: Watched,
    spotlight: Spotlight,
    subject: Subject,
    maps: Mapping[int, Floats],
) -> Page:
    """Return every head of the run as a page."""
    start = (0, spotlight.layer, spotlight.head or 0)
    return Page(
        title=f"Attention of {subject.file_name}",
        lead="What each token attends to, in every head of every layer.",
        facts=[*model_facts(subject), ("prompt", subject.counted)],
        tokens=subject.tokens,
        runs=[PageRun(subject.file_name, maps, pattern_scores(watched.patterns))],
        groups=subject.kv_heads(maps),
        next_tokens=[(subject.label(id_), (share,)) for id_, share in watched.next_tokens()],
        start=start,
    )
