"""What ``ggufscope imatrix --json`` prints: ``schemas/imatrix*.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ggufscope.measure.gathering import Perplexity
from ggufscope.measure.importance import Findings
from ggufscope.model.summary import Summary
from ggufscope.recipes.importance import ImportanceMatrix
from ggufscope.report.as_json import model_json, pick

SCHEMA: Final = "ggufscope.imatrix/1"
MADE_SCHEMA: Final = "ggufscope.imatrix-made/1"


def findings_json(matrix: ImportanceMatrix, findings: Findings) -> dict[str, Any]:
    """Return what an importance matrix says."""
    return {
        "schema": SCHEMA,
        **_matrix(matrix),
        "coverage": [
            {
                "name": each.name,
                "counts": each.counts.tolist(),
                "unreached": list(each.unreached),
            }
            for each in findings.coverage
        ],
        "tensors": [
            pick(
                each,
                "name layer total per_column largest smallest deviation columns active entropy "
                "evenness z_density cosine",
            )
            for each in findings.tensors
        ],
        "layers": [pick(each, "layer total z_density cosine") for each in findings.layers],
        "uneven_columns": [
            pick(each, "name expert column mean_square times") for each in findings.uneven
        ],
        "histogram": list(findings.histogram),
    }


def made_json(
    matrix: ImportanceMatrix,
    model: tuple[Path, Summary] | None,
    perplexity: Perplexity | None,
) -> dict[str, Any]:
    """Return what was made; model and perplexity are null where matrices were merged."""
    scored = perplexity is not None and perplexity.count > 0
    return {
        "schema": MADE_SCHEMA,
        **_matrix(matrix),
        "model": model_json(*model) if model else None,
        "perplexity": pick(perplexity, "value error count so_far") if scored else None,
    }


def _matrix(matrix: ImportanceMatrix) -> dict[str, Any]:
    return {
        "path": str(matrix.path),
        "format": "dat" if matrix.legacy else "gguf",
        **pick(matrix, "chunk_count chunk_size"),
        "unfinished": bool(matrix.unfinished),
        "datasets": list(matrix.datasets),
        "entries": len(matrix.entries),
    }
