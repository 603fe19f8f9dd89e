"""The words and numbers of an evaluation, as text and page both have them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ggufscope.measure.evaluation import Divergence, Evaluated, Evaluation
from ggufscope.measure.metrics.estimates import Estimate
from ggufscope.measure.presets import LeftOut
from ggufscope.model.summary import Summary
from ggufscope.report.units import bits, count, percent, size, small

SPREAD: Final = (50.0, 90.0, 95.0, 99.0, 99.9, 100.0)
"""Percents of the divergence that are shown."""
CHANGES: Final = (0.1, 1.0, 10.0, 90.0, 99.0, 99.9)

BASE_NOTE: Final = (
    "A base does not tell probabilities below exp(-16) or so apart: its own perplexity comes out "
    "lower than that of the run that saved it."
)


@dataclass(frozen=True, slots=True)
class Subject:
    """What was evaluated."""

    path: Path
    summary: Summary
    texts: Sequence[str]
    """What the texts are called; nothing for ids on the command line."""
    base: Path | None = None
    imatrix: Path | None = None
    left_out: Sequence[LeftOut] = ()
    """Presets that were not tried."""
    all_presets: bool = False


def subject_facts(subject: Subject, evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return the model, the text and the reference: a word, and what there is to say."""
    summary, reference = subject.summary, evaluation.reference
    weights = f"{count(summary.n_elements)} weights"
    name = summary.name or "no name"
    rows = [("model", f"{subject.path.name}: {name}, {weights}")]
    said = ", ".join(each for each in subject.texts if each) or "token ids"
    chunks = f"{evaluation.chunks:,} chunk{'s' if evaluation.chunks > 1 else ''}"
    rows.append(
        (
            "text",
            f"{said}: {chunks} of {evaluation.context:,} tokens, {evaluation.scored:,} scored",
        )
    )
    if subject.imatrix:
        rows.append(("imatrix", str(subject.imatrix)))
    if evaluation.candidates:
        own = ", ".join(reference.weighs.types) if reference.weighs else ""
        what = str(subject.base) if subject.base else f"its own weights ({own})"
        rows.append(("reference", f"{what}, perplexity {plus_minus(reference.perplexity, 4)}"))
        if subject.base:
            rows.append(("", BASE_NOTE))
    else:
        rows.append(("perplexity", plus_minus(reference.perplexity, 5)))
    return rows


def plus_minus(of: Estimate, digits: int = 4) -> str:
    """Return a number and its error, with as many decimals as the number has digits to show."""
    if not math.isfinite(of.value):
        return str(of.value)
    if abs(of.value) >= 1e6:
        return f"{of.value:.3g} ±{of.error:.2g}"
    places = max(0, digits - 1 - max(0, math.floor(math.log10(abs(of.value) or 1))))
    return f"{of.value:.{places}f} ±{of.error:.{places}f}"


def tiny(of: Estimate) -> str:
    """Return a number near zero and its error, each with the digits it has."""
    if not math.isfinite(of.value):
        return str(of.value)
    return f"{_short(of.value)} ±{_short(of.error)}"


def _short(number: float) -> str:
    return f"{number:.1e}".replace("e-0", "e-") if 0 < abs(number) < 0.0095 else f"{number:.3f}"


def share(of: Estimate) -> str:
    """Return a share and its error in percent."""
    if not math.isfinite(of.value):
        return str(of.value)
    return f"{100 * of.value:.2f} ±{100 * of.error:.2f}%"


def points(number: float) -> str:
    """Return a difference of probabilities in percentage points."""
    return f"{100 * number:+.2f}" if math.isfinite(number) else str(number)


MAIN_HEAD: Final = ("tensors", "bits", "KL divergence\nnats", "same top", "perplexity")


def main_row(of: Evaluated) -> list[str]:
    """Return the numbers that matter of a candidate."""
    weighs, found = of.weighs, of.divergence
    assert weighs is not None  # a candidate has both
    assert found is not None
    return [
        size(weighs.nbytes),
        bits(round(weighs.bits_per_weight, 2)),
        tiny(found.kl_divergence),
        share(found.same_top),
        plus_minus(of.perplexity),
    ]


def spread_row(numbers: Mapping[float, float]) -> list[str]:
    """Return how the divergence is spread."""
    return [small(numbers[percent_]) for percent_ in SPREAD]


def change_row(found: Divergence) -> list[str]:
    """Return how the probability of the token that followed changed, in percentage points."""
    mean = f"{100 * found.change.value:+.3f} ±{100 * found.change.error:.3f}"
    rms = f"{100 * found.change_rms.value:.2f} ±{100 * found.change_rms.error:.2f}"
    return [mean, rms, *(points(found.change_spread[each]) for each in CHANGES)]


RATIO_HEAD: Final = ("PPL(Q)/PPL(base)", "PPL(Q)-PPL(base)", "ln of the ratio", "correlation")


def ratio_row(found: Divergence) -> list[str]:
    """Return the perplexity beside the reference's."""
    return [
        plus_minus(found.ratio, 5),
        plus_minus(found.difference, 5),
        plus_minus(found.log_ratio, 6),
        percent(found.correlation),
    ]


def percent_name(number: float) -> str:
    """Return what a percent of the tokens is called."""
    return {0.0: "min", 50.0: "median", 100.0: "max"}.get(number, f"{number:g}%")


def left_out_words(left_out: Sequence[LeftOut]) -> str:
    """Return which presets were not tried, by the reason."""
    by_why: dict[str, list[str]] = {}
    for each in left_out:
        by_why.setdefault(each.why, []).append(each.preset)
    return "; ".join(f"{', '.join(names)}: {why}" for why, names in by_why.items())


def beaten_words(of: Evaluated) -> str:
    """Return what makes a candidate pointless, with a question mark where that is not clear."""
    return of.beaten_by and (of.beaten_by if of.clearly else f"{of.beaten_by} ?")


def answer_words(evaluation: Evaluation) -> str:
    """Return which candidates no other one makes pointless."""
    kept = [each.name for each in evaluation.candidates if not each.beaten_by]
    if len(kept) == len(evaluation.candidates):
        return "None is beaten: each is smaller, or closer to the model, than every other."
    unclear = any(each.beaten_by and not each.clearly for each in evaluation.candidates)
    doubt = (
        " A question mark: by less than two errors of the difference, so a longer text may say "
        "otherwise."
        if unclear
        else ""
    )
    return (
        f"Not beaten: {', '.join(kept)}. Each of the others has one that is no larger, and closer "
        f"to the model.{doubt}"
    )
