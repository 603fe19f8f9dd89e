"""Verdicts in words, and metrics as people read them."""

from __future__ import annotations

from typing import Final

from ggufscope.measure.comparison import CandidateDifference, Comparison
from ggufscope.measure.effect import LIMITS, Level
from ggufscope.measure.making import Fault
from ggufscope.measure.verdict import METRICS, Reading, Verdict
from ggufscope.report.units import bits, percent, small


def scale_words() -> str:
    """Say what the levels of an effect are."""
    kl, moved = LIMITS[Level.NEGLIGIBLE]
    parts = [f"{Level.NEGLIGIBLE}: KL under {kl:g} nats, under {moved:.0%} of attention moved"]
    for level in (Level.SMALL, Level.VISIBLE):
        kl, moved = LIMITS[level]
        parts.append(f"{level}: under {kl:g}, {moved:.0%}")
    return f"{'; '.join(parts)}; beyond: {Level.BROKEN}"


def candidate_words(candidate: CandidateDifference) -> str:
    """Say in a sentence or two what there is to say of a candidate."""
    verdict = candidate.verdict
    said = [_effect_words(verdict)]
    if verdict.making is not None:
        said.append(making_words(verdict))
    if not verdict.within_requirement:
        said.append(f"That is beyond --require {verdict.required}.")
    if verdict.first is not None:
        said.append(f"Out of tolerance: {_tolerance_words(verdict, verdict.first)}.")
    return " ".join(said)


def _effect_words(verdict: Verdict) -> str:
    effect = verdict.effect
    if not effect.is_number:
        return "What the model computes is no number (NaN): it is broken."
    why = f"{percent(effect.total_variation)} of the attention moved"
    if effect.decided_by == "kl_divergence" and effect.level is not Level.NEGLIGIBLE:
        why = f"KL divergence {small(effect.kl_divergence)} nats, {why}"
    word = "Broken" if effect.level is Level.BROKEN else f"A {effect.level} effect"
    return f"{word}: {why}."


def making_words(verdict: Verdict) -> str:
    """Say whether a file is well made, and if not, where it is not."""
    making = verdict.making
    assert making is not None
    unknown = f" Nothing is said about its {', '.join(making.unknown)}." if making.unknown else ""
    if making.well_made is None:
        return f"Whether it is well made cannot be told.{unknown}"
    if making.faults:
        more = len(making.faults) - 1
        rest = f", and {more} fault{'s' if more > 1 else ''} more" if more else ""
        return f"Not well made: {fault_words(making.faults[0])}{rest}."
    if making.identical == making.tensors:
        return f"Well made: exactly what plain quantization gives.{unknown}"
    ratio = f"{making.largest_ratio:.2f} times the error of plain quantization at most"
    return f"Well made: {ratio}.{unknown}"


def fault_words(fault: Fault) -> str:
    """Say what is wrong with a tensor, and in which layer and head."""
    place = [] if fault.layer is None else [f"layer {fault.layer}"]
    place += [fault.part] if fault.part else []
    where = f"{fault.tensor} ({', '.join(place)})" if place else fault.tensor
    if fault.through:
        return f"{where} is exactly {fault.through}, quantized twice"
    off = f"off by {percent(fault.error)}, where {fault.type} costs {percent(fault.plain_error)}"
    if fault.reason == "scaled":
        return f"{where} is scaled by about {fault.gain:.3g} ({off})"
    if fault.reason == "other weights":
        return f"{where} holds other weights, or the same in another order ({off})"
    return f"{where} is {off}"


def made_word(candidate: CandidateDifference) -> str:
    """Say in a word or two how a candidate was made."""
    making = candidate.verdict.making
    if making is None:
        return "in memory" if candidate.in_memory else "unknown"
    if making.well_made is None:
        return "unknown"
    if making.faults:
        return "NOT WELL"
    return "as plain" if making.identical == making.tensors else "well"


def answer_words(comparison: Comparison) -> str:
    """Say the whole answer in a line."""
    out = [each.name for each in comparison.candidates if not each.verdict.accepted]
    worst = max(comparison.candidates, key=lambda each: each.verdict.effect.severity)
    effect = f"the largest effect is {worst.verdict.effect.level} ({worst.name})"
    total = len(comparison.candidates)
    if out:
        return f"{', '.join(out)} {'fail' if len(out) > 1 else 'fails'}; {effect}."
    if broken_unasked(comparison):
        return f"No limit was set; {effect}."
    return f"{f'All {total} candidates pass' if total > 1 else 'It passes'}; {effect}."


def broken_unasked(comparison: Comparison) -> bool:
    """Whether a candidate is broken, and nothing that was asked for says that it may not be."""
    verdicts = [each.verdict for each in comparison.candidates]
    limited = any(each.required is not None or each.tolerances for each in verdicts)
    return not limited and any(each.effect.level is Level.BROKEN for each in verdicts)


def original_words(file_name: str, comparison: Comparison) -> str:
    """Say that the reference is not the original; nothing where it is."""
    if comparison.original:
        return ""
    types = ", ".join(f"{type_} {count}" for type_, count in comparison.types.items())
    return (
        f"{file_name} is already quantized ({types}); the original is needed to tell what "
        "quantizing did to it. This is what quantizing it once more does."
    )


def _tolerance_words(verdict: Verdict, first: Reading) -> str:
    words = reading_words(first)
    if first.layer is not None:
        words = f"first in {words}"
    if verdict.worst is not None and verdict.worst != first:
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


MODEL_HEAD: Final = (
    *("bits", "effect", "KL\nnats", "attention\nmoved", "top-1\nsame", "PPL\nratio"),
    *("weights\noff by", "made"),
)
"""Headings of the numbers that are about the whole model."""


def model_rows(comparison: Comparison) -> list[list[str]]:
    """Return the numbers about the whole model, a row a candidate."""
    return [
        [
            bits(round(each.bits_per_weight, 2)),
            str(each.verdict.effect.level),
            small(each.mean_kl_divergence),
            percent(each.verdict.effect.total_variation),
            percent(each.top1_agreement),
            _ratio(comparison.perplexity_ratio(each)),
            percent(each.weight_error.relative),
            made_word(each),
        ]
        for each in comparison.candidates
    ]


def _ratio(number: float | None) -> str:
    return "-" if number is None else f"{number:.3f}"  # a prompt of one token has none
