"""What ``ggufscope quantize --json`` prints: ``schemas/quantize.json``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ggufscope.measure.tailor import Tailored, Tried
from ggufscope.recipes.apply import Result
from ggufscope.recipes.plan import Plan
from ggufscope.recipes.request import Target
from ggufscope.report.as_json import pick

SCHEMA: Final = "ggufscope.quantize/2"


def targets_json(
    targets: Iterable[Target], chosen: Tailored | None = None, *, dry_run: bool
) -> dict[str, Any]:
    """Return what was prepared, or what became of it; and how its types were chosen."""
    return {
        "schema": SCHEMA,
        "dry_run": dry_run,
        "targets": [_target(each) for each in targets],
        "chosen": None if chosen is None else _chosen(chosen),
    }


def _chosen(found: Tailored) -> dict[str, Any]:
    known = found.sensitivities
    return {
        "kept": found.kept,
        "choice": _tried(found.choice),
        "preset": None if found.preset is None else _tried(found.preset),
        "least_possible": found.selection.bound,
        "chosen_by": pick(known, "tokens windows draws seed"),
        "verified_with": {"tokens": found.tokens},
        "unreached_experts": dict(known.unreached),
        "tensors": {
            name: [pick(way, "type nbytes cost") for way in ways]
            for name, ways in found.ways.items()
        },
        "presets": [pick(each, "name nbytes predicted") for each in found.rivals],
        "frontier": [{"nbytes": nbytes, "cost": cost} for nbytes, cost in found.frontier],
    }


def _tried(tried: Tried) -> dict[str, Any]:
    return {
        "name": tried.name,
        "nbytes": tried.nbytes,
        "bits_per_weight": tried.plan.bits_per_weight,
        "predicted": tried.predicted,
        "kl_divergence": tried.divergence.nats,
        "kl_divergence_error": tried.divergence.error,
        "types": {
            tensor.name: tensor.target.name for tensor in tried.plan.tensors if tensor.converted
        },
    }


def _target(target: Target) -> dict[str, Any]:
    found = {
        **_plan_json(target.plan),
        "importance_matrix": _imatrix_json(target),
        "files": [{"path": str(file.path), "nbytes": file.nbytes} for file in target.files],
        "relative_error": None,
    }
    if isinstance(target, Result):
        found["relative_error"] = {
            "tensors": {name: cost.relative for name, cost in target.costs.items()},
            "roles": {name: cost.relative for name, cost in target.costs_by_role.items()},
        }
    return found


def _imatrix_json(target: Target) -> dict[str, Any] | None:
    matrix = target.imatrix
    if matrix is None:
        return None
    return {
        "path": str(matrix.path),
        "entries": len(matrix.entries),
        "chunk_count": matrix.chunk_count,
        "datasets": list(matrix.datasets),
    }


def _plan_json(plan: Plan) -> dict[str, Any]:
    return {
        "preset": plan.preset,
        "file_type": plan.file_type,
        "bits_per_weight": plan.bits_per_weight,
        "tensor_nbytes": plan.nbytes,
        "source_tensor_nbytes": plan.source_nbytes,
        "needs_importance_matrix": plan.needs_importance,
        "pruned": list(plan.pruned),
        "tensors": [
            {
                "name": tensor.name,
                "source_name": tensor.source_name,
                "shape": list(tensor.shape),
                "source_type": tensor.source.name,
                "type": tensor.target.name,
                "nbytes": tensor.nbytes,
                "rule": tensor.rule,
                "fallback_from": tensor.fallback_from.name if tensor.fallback_from else None,
                "needs_importance_matrix": tensor.needs_importance,
            }
            for tensor in plan.tensors
        ],
    }
