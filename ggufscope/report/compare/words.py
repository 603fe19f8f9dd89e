"""Verdicts in words, and metrics as people read them."""

from __future__ import annotations

from typing import Final

from ggufscope.measure.comparison import CandidateDifference, Comparison
from ggufscope.measure.verdict import METRICS, Reading
from ggufscope.report.units import bits, percent, small

MEANING: Final = "A candidate that matches is as near to FP32 as its types allow."
"""What the verdict says, and what it does not."""


def verdict_words(candidate: CandidateDifference) -> str:
    """Say why a candidate matches, or which layer and head do not."""
    verdict = candidate.verdict
    if verdict.worst is None:
        return "no tolerance was set"
    if verdict.matches:
        return f"closest to its limit: {reading_words(verdict.worst)}"
    assert verdict.first is not None
    words = reading_words(verdict.first)
    if verdict.first.layer is not None:
        words = f"first in {words}"
    if verdict.worst != verdict.first:
        words += f"; furthest in {reading_words(verdict.worst)}"
    return words


def reading_words(reading: Reading) -> str:
    """Say what was measured where, and what the limit is."""
    place = "the whole model"
    if reading.layer is not None:
        place = f"layer {reading.layer}"
        place += f", head {reading.head}" if reading.head is not None else ""
    metric = METRICS[reading.metric]
    value, limit = (
        metric_text(reading.metric, number) for number in (reading.value, reading.tolerance)
    )
    bound = "at least" if metric.at_least else "limit"
    return f"{place}, {metric.words} {value} ({bound} {limit})"


def metric_text(name: str, number: float) -> str:
    """Return a metric as people read it."""
    if name == "kl_divergence":
        return f"{small(number)} nats"
    if name == "jensen_shannon":
        return f"{small(number)} bits"
    return percent(number)


MODEL_HEAD: Final = ("bits", "KL, nats", "worst token", "same next token", "perplexity")
"""Headings of the numbers that are about the whole model."""


def model_rows(comparison: Comparison) -> list[list[str]]:
    """Return the numbers about the whole model: of the reference, then of each candidate."""
    reference = ["32", "", "", "", _perplexity(comparison.perplexity)]
    return [reference] + [
        [
            bits(round(each.bits_per_weight, 2)),
            small(each.mean_kl_divergence),
            small(max(each.kl_divergence)),
            percent(each.top1_agreement),
            _perplexity(each.perplexity),
        ]
        for each in comparison.candidates
    ]


def _perplexity(number: float | None) -> str:
    return "-" if number is None else f"{number:.4g}"  # a prompt of one token has none
