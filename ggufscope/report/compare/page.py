"""The page of a comparison: what ``html.py`` needs, from a ``Comparison`` and its maps."""

from __future__ import annotations

from typing import Final

from ggufscope.measure.comparison import CandidateDifference, Comparison
from ggufscope.measure.effect import Level
from ggufscope.measure.maps import KeptMaps
from ggufscope.report.compare.text import counted_words, subject_facts
from ggufscope.report.compare.words import (
    MODEL_HEAD,
    answer_words,
    candidate_words,
    model_rows,
    original_words,
    scale_words,
)
from ggufscope.report.html import Maps, Page, PageRun, PageScore, PageTable
from ggufscope.report.scores import pattern_scores
from ggufscope.report.subject import Subject
from ggufscope.report.units import bits, percent, small

WORST: Final = 8
"""Heads that each candidate's table of the worst has."""
LINKED: Final = 3
"""Heads that are named with each candidate's verdict."""

# The number of a head, its name, what it says, and whether it is a share.
_SCORES: Final = (
    (
        *("total_variation", "total variation"),
        *("the share of a token's attention that went elsewhere, mean over tokens", True),
    ),
    ("largest_difference", "largest difference", "of any one attention probability", True),
    (
        *("jensen_shannon", "Jensen-Shannon"),
        *("mean divergence of attention rows, 0 to 1 bit", False),
    ),
    ("top_changed", "other top token", "tokens whose most attended token is another one", True),
    (
        *("entropy_shift", "entropy shift"),
        *("in bits; above 0 attention spread, below it narrowed", False),
    ),
    (
        *("output_error", "output error"),
        *("relative error of what the head hands on, mean over tokens", True),
    ),
)


def comparison_page(
    subject: Subject,
    comparison: Comparison,
    maps: KeptMaps,
    start: tuple[int, int, int],
) -> Page:
    """Return the page; ``maps`` of the reference and of each candidate, and where it opens.

    ``start`` counts candidates from 0.
    """
    reference = PageRun("FP32", maps.runs[0], pattern_scores(maps.patterns))
    runs = [
        _run(candidate, candidate_maps)
        for candidate, candidate_maps in zip(comparison.candidates, maps.runs[1:], strict=True)
    ]
    name = subject.summary.name or str(subject.path)
    return Page(
        title=f"{name}: does quantized attention still match?",
        lead=f"{answer_words(comparison)} {original_words(subject.file_name, comparison)}".rstrip(),
        facts=[
            # The text stands in the page.
            (word, counted_words(subject, comparison) if word == "prompt" else fact)
            for word, fact in subject_facts(subject, comparison)
        ],
        notes=[("effect", f"{scale_words()}."), *_windows_note(comparison)],
        tokens=subject.tokens[: len(comparison.windows[0])],
        runs=[reference, *runs],
        tables=[
            _summary(comparison),
            *(t for each in comparison.candidates for t in (_layers(each), _worst(each))),
        ],
        groups=subject.kv_heads(maps.runs[0]),
        next_tokens=[(subject.label(each.id), each.shares) for each in comparison.next_tokens],
        start=(start[0] + 1, start[1], start[2]),
    )


def _windows_note(comparison: Comparison) -> list[tuple[str, str]]:
    count = len(comparison.windows)
    words = f"Maps and tokens are those of the first of {count} windows; numbers are over all."
    return [("windows", words)] if count > 1 else []


def _run(candidate: CandidateDifference, maps: Maps) -> PageRun:
    scores = [
        PageScore(
            name,
            caption,
            {n.layer: [getattr(head, number) for head in n.heads] for n in candidate.layers},
            percent=share,
        )
        for number, name, caption, share in _SCORES
    ]
    return PageRun(
        candidate.name,
        maps,
        scores,
        accepted=_plainly_accepted(candidate),
        level=candidate.verdict.effect.level,
        verdict=candidate_words(candidate),
        facts=[
            ("bits", bits(round(candidate.bits_per_weight, 2))),
        ],
        worst=[(h.layer, h.head, h.total_variation) for h in candidate.worst_heads(LINKED)],
    )


def _summary(comparison: Comparison) -> PageTable:
    names = [each.name for each in comparison.candidates]
    rows = [[name, *row] for name, row in zip(names, model_rows(comparison), strict=True)]
    head = [head.replace("\n", " ") for head in MODEL_HEAD]
    return PageTable("The whole model", ["", *head], rows)


def _layers(candidate: CandidateDifference) -> PageTable:
    head = [
        *("layer", "total variation", "worst head", "largest difference", "Jensen-Shannon, bits"),
        *("other top token", "layer error", "layer cosine", "weights off"),
    ]
    rows = [
        [
            f"layer {layer.layer}",
            percent(layer.attention.total_variation),
            f"{layer.worst_head.head}: {percent(layer.worst_head.total_variation)}",
            percent(layer.attention.largest_difference),
            small(layer.attention.jensen_shannon),
            percent(layer.attention.top_changed),
            percent(layer.output_error),
            f"{layer.output_cosine:.5f}",
            percent(layer.weight_error.relative),
        ]
        for layer in candidate.layers
    ]
    return PageTable(f"{candidate.name}, layer by layer", head, rows)


def _worst(candidate: CandidateDifference) -> PageTable:
    head = [
        *("head", "total variation", "largest difference", "Jensen-Shannon, bits"),
        *("other top token", "entropy shift, bits", "output error", "output cosine"),
    ]
    rows = [
        [
            f"layer {each.layer}, head {each.head}",
            percent(each.total_variation),
            percent(each.largest_difference),
            small(each.jensen_shannon),
            percent(each.top_changed),
            f"{each.entropy_shift:+.3f}",
            percent(each.output_error),
            f"{each.output_cosine:.5f}",
        ]
        for each in candidate.worst_heads(WORST)
    ]
    return PageTable(f"{candidate.name}, the heads furthest off", head, rows)


def _plainly_accepted(candidate: CandidateDifference) -> bool | None:
    """Return whether a candidate will do; None where the reader has to judge a large effect."""
    verdict = candidate.verdict
    large = verdict.effect.level.rank >= Level.VISIBLE.rank
    return None if verdict.accepted and large else verdict.accepted
