"""Results for machines: one object, ``schema`` first, described in ``ggufscope/schemas``.

Numbers that JSON cannot hold (NaN, infinities) become the strings ``"nan"``, ``"inf"``, ``"-inf"``.
"""

from __future__ import annotations

import json
import math
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

from ggufscope.model.summary import Summary

_ENCODER: Final = json.JSONEncoder(indent=2, ensure_ascii=True, allow_nan=False)
_BLOCK: Final = 1 << 12
"""Tokens of JSON that are joined before they are written."""


def dumps(data: Any) -> str:
    """Return JSON of two-space indent, ASCII only: safe in any terminal and any pipe."""
    return _ENCODER.encode(finite(data))


def write_json(data: Any, out: IO[str]) -> None:
    """Write JSON as ``dumps`` returns it, bit by bit: the whole text is never in memory."""
    tokens = _ENCODER.iterencode(finite(data))
    while block := "".join(islice(tokens, _BLOCK)):
        out.write(block)
    out.write("\n")


def finite(data: Any) -> Any:
    """Return the data with strings in place of the numbers that JSON cannot hold."""
    if isinstance(data, dict):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite(value) for value in data]
    return repr(data) if isinstance(data, float) and not math.isfinite(data) else data


def pick(item: object, names: str) -> dict[str, Any]:
    """Return the attributes of these names, as they are."""
    return {name: getattr(item, name) for name in names.split()}


def model_json(path: Path, summary: Summary) -> dict[str, Any]:
    """Return a model that was run in a few facts."""
    return {
        "path": str(path),
        **pick(summary, "name architecture n_elements"),
        "block_count": summary.hparams.block_count if summary.hparams else None,
    }
