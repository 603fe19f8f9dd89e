"""What heads do, as numbers that a page sorts and shades them by."""

from __future__ import annotations

from collections.abc import Mapping

from ggufscope.measure.patterns import PATTERNS, Patterns
from ggufscope.report.html import PageScore


def pattern_scores(patterns: Mapping[int, Patterns]) -> list[PageScore]:
    """Return, for heads by layer, the share that goes to each kind of token, and the entropy."""

    def values(name: str) -> dict[int, list[float]]:
        return {layer: each.of(name).tolist() for layer, each in patterns.items()}

    shares = [
        PageScore(f"attends to {words}", f"share of attention to {words}", values(name))
        for name, words in PATTERNS.items()
    ]
    words = "mean over tokens, in bits: 0 where each attends to one other"
    return [*shares, PageScore("entropy", words, values("entropy"), percent=False)]
