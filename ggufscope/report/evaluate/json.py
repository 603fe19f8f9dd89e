"""What ``ggufscope evaluate --json`` prints: ``schemas/evaluate.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ggufscope.measure.evaluation import Divergence, Evaluated, Evaluation
from ggufscope.measure.metrics.estimates import Estimate
from ggufscope.report.as_json import model_json, pick
from ggufscope.report.evaluate.words import Subject

SCHEMA: Final = "ggufscope.evaluate/1"


def evaluation_json(subject: Subject, evaluation: Evaluation) -> dict[str, Any]:
    """Return everything that was found."""
    return {
        "schema": SCHEMA,
        "model": model_json(subject.path, subject.summary),
        "texts": list(subject.texts),
        **pick(evaluation, "context chunks scored"),
        "base": str(subject.base) if subject.base else None,
        "importance_matrix": str(subject.imatrix) if subject.imatrix else None,
        "reference": _evaluated(evaluation.reference),
        "candidates": [
            {
                **_evaluated(each),
                **_divergence(each.divergence),
                "beaten_by": each.beaten_by or None,
                "beaten_clearly": each.clearly,
            }
            for each in evaluation.candidates
            if each.divergence
        ],
        "left_out": [pick(each, "preset why") for each in subject.left_out],
    }


def _evaluated(of: Evaluated) -> dict[str, Any]:
    weighs = of.weighs
    return {
        "name": of.name,
        "types": dict(weighs.types) if weighs else None,
        "nbytes": weighs.nbytes if weighs else None,
        "bits_per_weight": weighs.bits_per_weight if weighs else None,
        "perplexity": _estimate(of.perplexity),
        "so_far": list(of.so_far),
    }


def _divergence(found: Divergence) -> dict[str, Any]:
    return {
        "perplexity_ratio": _estimate(found.ratio),
        "perplexity_log_ratio": _estimate(found.log_ratio),
        "perplexity_difference": _estimate(found.difference),
        "perplexity_correlation": found.correlation,
        "kl_divergence": {**_estimate(found.kl_divergence), **_spread(found.kl_spread)},
        "probability_change": {**_estimate(found.change), **_spread(found.change_spread)},
        "probability_change_rms": _estimate(found.change_rms),
        "same_top": _estimate(found.same_top),
    }


def _estimate(of: Estimate) -> dict[str, Any]:
    return pick(of, "value error")


def _spread(of: Mapping[float, float]) -> dict[str, Any]:
    return {"percentiles": {f"{percent:g}": number for percent, number in of.items()}}
