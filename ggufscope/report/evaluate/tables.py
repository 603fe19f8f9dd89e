"""The tables of an evaluation beside the main one, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Iterator

from ggufscope.measure.evaluation import Evaluation
from ggufscope.report.evaluate.words import (
    CHANGES,
    RATIO_HEAD,
    SPREAD,
    change_row,
    percent_name,
    ratio_row,
    spread_row,
)

Table = tuple[str, list[str], list[list[str]]]
"""A heading, the heads of the columns of numbers, and rows: a name, then those numbers."""


def tables(evaluation: Evaluation) -> Iterator[Table]:
    """Yield how divergences and changes spread, and the perplexity beside the reference's."""
    found = [(each.name, each.divergence) for each in evaluation.candidates if each.divergence]
    yield (
        "KL divergence in nats: what a share of the tokens does not exceed",
        [percent_name(each) for each in SPREAD],
        [[name, *spread_row(each.kl_spread)] for name, each in found],
    )
    yield (
        "Probability of the token that followed: its change in points",
        ["mean", "RMS", *map(percent_name, CHANGES)],
        [[name, *change_row(each)] for name, each in found],
    )
    yield (
        "Perplexity beside the reference's",
        list(RATIO_HEAD),
        [[name, *ratio_row(each)] for name, each in found],
    )
