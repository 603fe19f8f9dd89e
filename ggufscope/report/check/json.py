"""What ``ggufscope check --json`` prints: ``schemas/check.json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ggufscope.checking.findings import Checked, Finding
from ggufscope.report.as_json import pick

SCHEMA: Final = "ggufscope.check/1"


def check_json(checked: Sequence[Checked]) -> dict[str, Any]:
    """Return all that was found in each model."""
    return {"schema": SCHEMA, "models": [_model(each) for each in checked]}


def _model(each: Checked) -> dict[str, Any]:
    return {
        "path": str(each.path),
        **pick(each, "readable clean outcome verdict"),
        "kind": each.kind or None,
        **pick(each, "tensors nbytes recipe looked_at"),
        "findings": [_finding(finding) for finding in each.findings],
        "hashes": [pick(found, "algorithm digest path tensor") for found in each.hashes],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        **pick(finding, "grade subject what meaning advice"),
        "llama_cpp": finding.llama_cpp or None,
        **pick(finding, "tensor key"),
    }
