"""What ``ggufscope diff --json`` prints: ``schemas/diff.json``."""

from __future__ import annotations

from typing import Any, Final

from ggufscope.container.file import GGUFFile, Tensor
from ggufscope.container.values import Value
from ggufscope.measure.diff.diff import Diff
from ggufscope.measure.diff.metadata import KeyChange
from ggufscope.measure.diff.pairs import Kind, TensorChange
from ggufscope.report.as_json import pick
from ggufscope.report.list.json import value_json

SCHEMA: Final = "ggufscope.diff/1"


def diff_json(a: GGUFFile, b: GGUFFile, found: Diff) -> dict[str, Any]:
    """Return all that differs, and each tensor."""
    return {
        "schema": SCHEMA,
        "a": _file(a, found.recipes[0]),
        "b": _file(b, found.recipes[1]),
        "relation": found.verdict.relation,
        "verdict": found.verdict.words,
        **pick(found, "same quick"),
        "relative_error": found.relative if found.error.n else None,
        "counts": {kind: found.count(kind) for kind in Kind},
        "metadata": [_key(change) for change in found.metadata],
        "tensors": [_tensor(change) for change in found.tensors],
    }


def _file(file: GGUFFile, recipe: str) -> dict[str, Any]:
    return {
        "paths": [shard.source.name for shard in file.shards],
        "nbytes": file.nbytes,
        "tensors": len(file.tensors),
        "types": recipe,
    }


def _key(change: KeyChange) -> dict[str, Any]:
    return {
        **pick(change, "key change"),
        "a": _value(change.a),
        "b": _value(change.b),
        "differing_items": change.differing,
        "first_difference": change.first,
    }


def _value(value: Value | None) -> dict[str, Any] | None:
    return None if value is None else value_json(value)


def _tensor(change: TensorChange) -> dict[str, Any]:
    agreed, made = change.agreement, change.made
    return {
        **pick(change, "name kind"),
        "a": _stored(change.a),
        "b": _stored(change.b),
        "compared": agreed.error.n if agreed else 0,
        "relative_error": agreed.relative if agreed else None,
        "cosine": agreed.cosine if agreed else None,
        "largest_error": agreed.error.largest if agreed else None,
        "largest_at": _place(change),
        "not_finite": agreed.unmatched if agreed else 0,
        "made": None
        if made is None
        else {
            "from": made.source or None,
            "exact": made.exact,
            "ratio": made.ratio or None,
            "through": made.through,
            "dequantized": made.dequantized,
        },
    }


def _stored(tensor: Tensor | None) -> dict[str, Any] | None:
    if tensor is None:
        return None
    return {
        "name": tensor.name,
        "shape": tensor.shape,
        "type": tensor.type.name,
        "nbytes": tensor.nbytes,
    }


def _place(change: TensorChange) -> list[int] | None:
    """Return where the largest error is, in A's shape; None where there is none."""
    if change.agreement is None or change.a is None or not change.agreement.error.largest:
        return None
    found, place = [], change.agreement.place
    for extent in reversed(change.a.shape):
        place, index = divmod(place, extent)
        found.append(index)
    return found[::-1]
