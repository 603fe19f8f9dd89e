"""The page of a comparison: what ``html.py`` needs, from a ``Comparison`` and its maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ggufscope.measure.comparison import CandidateDifference, Comparison, HeadDifference
from ggufscope.report.compare.text import (
    MEANING,
    Subject,
    metric_text,
    moved_attention,
    percent,
    perplexity_text,
    small,
    verdict_words,
)
from ggufscope.report.html import Page, PageRun, PageScore, PageTable
from ggufscope.report.units import bits

Maps = Mapping[int, npt.NDArray[np.floating[Any]]]

WORST: Final = 8
"""Heads that each candidate's table of the worst has."""

# name, what it says, the number of a head, whether it is a share
_SCORES: Final[tuple[tuple[str, str, Callable[[HeadDifference], float], bool], ...]] = (
    (
        "total variation",
        "the share of a token's attention that went elsewhere, mean over tokens",
        lambda head: head.total_variation,
        True,
    ),
    (
        "largest difference",
        "of any one attention probability",
        lambda head: head.largest_difference,
        True,
    ),
    (
        "Jensen-Shannon",
        "mean divergence of attention rows, 0 to 1 bit",
        lambda head: head.jensen_shannon,
        False,
    ),
    (
        "other top token",
        "tokens whose most attended token is another one",
        lambda head: head.top_changed,
        True,
    ),
    (
        "entropy shift",
        "in bits; above 0 attention spread, below it narrowed",
        lambda head: head.entropy_shift,
        False,
    ),
    (
        "output error",
        "relative error of what the head hands on, mean over tokens",
        lambda head: head.output_error,
        True,
    ),
)


def comparison_page(
    subject: Subject,
    comparison: Comparison,
    maps: Sequence[Maps],
    start: tuple[int, int, int],
) -> Page:
    """Give the page; ``maps`` of the reference and of each candidate, ``start`` what it opens at.

    ``start`` counts candidates from 0.
    """
    reference = PageRun("FP32", maps[0])
    runs = [
        _run(candidate, candidate_maps)
        for candidate, candidate_maps in zip(comparison.candidates, maps[1:], strict=True)
    ]
    name = str(subject.model.get("name") or subject.model.get("path"))
    return Page(
        title=f"{name}: does quantized attention still match?",
        lead="Every head of the model in FP32 and of each candidate, on one prompt: which tokens "
        f"each token attends to, and what changed. {MEANING}",
        facts=subject.facts,
        tokens=subject.tokens,
        runs=[reference, *runs],
        tables=[
            _summary(comparison),
            *(t for each in comparison.candidates for t in (_layers(each), _worst(each))),
        ],
        start=(start[0] + 1, start[1], start[2]),
    )


def _run(candidate: CandidateDifference, maps: Maps) -> PageRun:
    scores = [
        PageScore(
            name,
            caption,
            {layer.layer: [number(head) for head in layer.heads] for layer in candidate.layers},
            percent=share,
        )
        for name, caption, number, share in _SCORES
    ]
    variations = [head.total_variation for head in candidate.heads]
    return PageRun(
        candidate.name,
        maps,
        scores,
        matches=candidate.verdict.matches,
        verdict=_sentence(verdict_words(candidate)),
        facts=[
            ("bits per weight", bits(round(candidate.bits_per_weight, 2))),
            ("weights off by", percent(candidate.weight_error.relative)),
            ("attention moved", percent(moved_attention(candidate))),
            ("in the worst head", percent(max(variations))),
            ("KL divergence", metric_text("kl_divergence", candidate.mean_kl_divergence)),
            ("same next token", percent(candidate.top1_agreement)),
        ],
    )


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _summary(comparison: Comparison) -> PageTable:
    head = ["", "bits", "KL, nats", "worst token", "same next token", "perplexity", "weights off"]
    rows = [["FP32", "32", "", "", "", perplexity_text(comparison.perplexity), ""]]
    rows += [
        [
            each.name,
            bits(round(each.bits_per_weight, 2)),
            small(each.mean_kl_divergence),
            small(max(each.kl_divergence)),
            percent(each.top1_agreement),
            perplexity_text(each.perplexity),
            percent(each.weight_error.relative),
        ]
        for each in comparison.candidates
    ]
    return PageTable("The whole model", head, rows)


def _layers(candidate: CandidateDifference) -> PageTable:
    head = [
        *("layer", "total variation", "worst head", "largest difference", "Jensen-Shannon, bits"),
        *("other top token", "layer error", "layer cosine", "weights off"),
    ]
    rows = [
        [
            f"layer {layer.layer}",
            percent(layer.total_variation),
            f"{layer.worst_head.head}: {percent(layer.worst_head.total_variation)}",
            percent(max(h.largest_difference for h in layer.heads)),
            small(float(np.mean([h.jensen_shannon for h in layer.heads]))),
            percent(float(np.mean([h.top_changed for h in layer.heads]))),
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
