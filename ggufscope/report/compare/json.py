"""What ``ggufscope compare-attention --json`` prints: ``schemas/compare-attention.json``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from ggufscope.blocks.error import WeightError
from ggufscope.measure.comparison import CandidateDifference, Comparison
from ggufscope.measure.differences import LayerDifference, TensorDifference
from ggufscope.measure.making import Making
from ggufscope.measure.verdict import Verdict
from ggufscope.report.as_json import model_json, pick
from ggufscope.report.subject import Subject

SCHEMA: Final = "ggufscope.compare-attention/3"


def comparison_json(subject: Subject, comparison: Comparison) -> dict[str, Any]:
    """Return all that was measured."""
    return {
        "schema": SCHEMA,
        "accepted": comparison.accepted,
        "original": comparison.original,
        "model": model_json(subject.path, subject.summary) | {"types": dict(comparison.types)},
        "prompt": pick(subject, "text ids tokens") | {"windows": [*map(len, comparison.windows)]},
        "reference": {"weights": "FP32", "perplexity": comparison.perplexity},
        "candidates": [_candidate(comparison, each) for each in comparison.candidates],
    }


def _candidate(comparison: Comparison, candidate: CandidateDifference) -> dict[str, Any]:
    return {
        "name": candidate.name,
        "accepted": candidate.verdict.accepted,
        "types": dict(candidate.types),
        "bits_per_weight": candidate.bits_per_weight,
        "cache_types": list(candidate.cache_types) if candidate.cache_types else None,
        "verdict": _verdict(candidate.verdict),
        "kl_divergence": {
            "mean": candidate.mean_kl_divergence,
            "by_token": list(candidate.kl_divergence),
        },
        "top1_agreement": candidate.top1_agreement,
        "perplexity": candidate.perplexity,
        "perplexity_ratio": comparison.perplexity_ratio(candidate),
        "weights": _error(candidate.weight_error),
        "layers": [_layer(layer) for layer in candidate.layers],
        "other_tensors": [_tensor(tensor) for tensor in candidate.other_tensors],
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "effect": pick(verdict.effect, "level decided_by kl_divergence total_variation tokens"),
        "well_made": verdict.well_made,
        "making": _making(verdict.making),
        "required": verdict.required,
        "tolerances": dict(verdict.tolerances),
        "worst": asdict(verdict.worst) if verdict.worst else None,
        "first_out_of_tolerance": asdict(verdict.first) if verdict.first else None,
        "heads_out_of_tolerance": verdict.heads_out,
    }


def _making(making: Making | None) -> dict[str, Any] | None:
    if making is None:
        return None
    return {
        **pick(making, "tensors identical"),
        "unknown": list(making.unknown),
        "largest_ratio": making.largest_ratio,
        "faults": [asdict(fault) for fault in making.faults],
    }


def _layer(layer: LayerDifference) -> dict[str, Any]:
    return {
        "layer": layer.layer,
        "output_cosine": layer.output_cosine,
        "output_error": layer.output_error,
        "weights": _error(layer.weight_error),
        "tensors": [_tensor(tensor) for tensor in layer.tensors],
        "heads": [{"layer": head.layer, "head": head.head} | asdict(head) for head in layer.heads],
    }


def _tensor(tensor: TensorDifference) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "reference_type": tensor.reference_type,
        "type": tensor.type,
        **_error(tensor.error),
    }


def _error(error: WeightError) -> dict[str, Any]:
    return {
        "relative_error": error.relative,
        "largest_error": error.largest,
        "n_elements": error.n,
    }
