"""What ``ggufscope inspect --json`` prints: ``schemas/inspect.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from ggufscope.blocks.apart import Apart
from ggufscope.measure.statistics import Norms
from ggufscope.model.roles import role_of
from ggufscope.report.as_json import pick
from ggufscope.report.inspect.facts import Inspected

SCHEMA: Final = "ggufscope.inspect/1"


def inspect_json(found: Inspected, html: Path | None, save: Path | None) -> dict[str, Any]:
    """Return all that was found out about a tensor, and the files that were written."""
    part, s = found.part, found.statistics
    tensor, role = part.tensor, role_of(part.tensor.name)
    return {
        "schema": SCHEMA,
        "tensor": {
            "name": tensor.name,
            "layer": role.layer,
            "role": role.label,
            "group": role.group,
            "hf_names": found.hf_name.names,
            "hf_note": found.hf_name.note or None,
            "shape": tensor.shape,
            "type": tensor.type.name,
            **pick(tensor.info, "n_elements nbytes bits_per_weight"),
            "path": tensor.shard.source.name,
            "offset": tensor.offset,
        },
        "rows": [part.start, part.stop],
        "statistics": {
            **pick(s, "n finite zeros smallest largest"),
            "smallest_at": part.index(s.smallest_at) if s.finite else None,
            "largest_at": part.index(s.largest_at) if s.finite else None,
            "mean": s.mean_weight,
            **pick(s, "deviation root_mean_square kurtosis outliers"),
            "row_norms": _norms(s.row_norms, part.start),
            "column_norms": _norms(s.column_norms, 0),
        },
        "histogram": {
            "low": s.edges[0],
            "high": s.edges[1],
            **pick(s, "counts below above"),
        },
        "costs": {
            "tried": found.costs.tried,
            "types": [
                {
                    **pick(cost, "type bits_per_weight nbytes"),
                    "relative_error": cost.error.relative if cost.error else None,
                    "largest_error": cost.error.largest if cost.error else None,
                    "why_not": cost.why_not or None,
                }
                for cost in found.costs.costs
            ],
        },
        "block": None if found.apart is None else _block(found.apart, found.block or 0),
        "written": {
            "html": None if html is None else str(html),
            "npy": None if save is None else str(save),
        },
    }


def _norms(norms: Norms | None, first: int) -> dict[str, Any] | None:
    if norms is None:
        return None
    low, middle, high = np.quantile(norms.values, [0, 0.5, 1]).tolist()
    longest = [{"number": at + first, "norm": norm} for at, norm in norms.largest]
    return {"smallest": low, "median": middle, "largest": high, "longest": longest}


def _block(apart: Apart, number: int) -> dict[str, Any]:
    return {
        "number": number,
        **pick(apart, "type formula"),
        "fields": [
            {
                "name": field.name or None,
                "offset": field.offset,
                "hex": field.raw.hex(),
                "value": field.value,
                "meaning": field.meaning,
            }
            for field in apart.fields
        ],
        "numbers": {
            name: values[:: apart.shared[name]].tolist() for name, values in apart.numbers.items()
        },
        "weights": apart.weights.tolist(),
    }
