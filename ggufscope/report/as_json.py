"""Results for machines: plain dicts and lists, and how they are written.

Numbers that JSON cannot hold (NaN, infinities) become the strings ``"nan"``, ``"inf"``, ``"-inf"``.
"""

from __future__ import annotations

import json
import math
from itertools import chain, islice
from typing import IO, Any, Final

from ggufscope.blocks.layouts import ForeignType
from ggufscope.container.file import GGUFFile
from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Array, Value
from ggufscope.model.anatomy.build import Anatomy, LayerAnatomy
from ggufscope.model.anatomy.quantities import Quantity
from ggufscope.model.anatomy.rows import Kind
from ggufscope.model.inventory import Entry, Total, totals_by_group, totals_by_type
from ggufscope.model.summary import Summary
from ggufscope.report.list.metadata import text_pieces

LIST_SCHEMA: Final = "ggufscope.list/1"
"""Changes with the meaning of a field; fields may be added without notice."""

SHOWN_ITEMS: Final = 8
"""Items of a long array in the metadata; ``--key`` gives all of them."""
SHOWN_TEXT: Final = 1 << 16
"""Bytes of a text in the metadata; ``--key`` gives all of it."""

_ENCODER: Final = json.JSONEncoder(indent=2, ensure_ascii=True, allow_nan=False)
_BLOCK: Final = 1 << 12
"""Tokens of JSON that are joined before they are written."""


def dumps(data: Any) -> str:
    """Give JSON of two-space indent, ASCII only: safe in any terminal and any pipe."""
    return _ENCODER.encode(data)


def write_json(data: Any, out: IO[str]) -> None:
    """Write JSON as ``dumps`` gives it, bit by bit: the whole of it is never in memory."""
    tokens = _ENCODER.iterencode(data)
    while block := "".join(islice(tokens, _BLOCK)):
        out.write(block)
    out.write("\n")


def write_value(value: Value, out: IO[str]) -> None:
    """Write one metadata value, whole, as JSON of one line an item; bit by bit too."""
    if value.type is ValueType.STRING:
        pieces = (json.dumps(piece)[1:-1] for piece in text_pieces(value))
        out.writelines(chain('"', pieces, '"\n'))
    elif value.type is ValueType.ARRAY:
        _write_items(value.data, out)
        out.write("\n")
    else:
        write_json(value_json(value.data), out)


def _write_items(items: Array, out: IO[str], indent: str = "") -> None:
    if not len(items):
        out.write("[]")
        return
    comma, line = "[", f"\n{indent}  "
    if items.element_type is ValueType.ARRAY:
        for item in items:
            out.write(comma + line)
            _write_items(item, out, indent + "  ")
            comma = ","
    else:
        rest = iter(items)
        while part := f",{line}".join(json.dumps(value_json(x)) for x in islice(rest, _BLOCK)):
            out.write(comma + line + part)
            comma = ","
    out.write(f"\n{indent}]")


def value_json(data: Any) -> Any:
    """Give a number or a text as JSON can hold it."""
    return repr(data) if isinstance(data, float) and not math.isfinite(data) else data


def _short_items(data: Array, shown: int) -> list[Any]:
    return [
        _short_items(item, shown // 2) if isinstance(item, Array) else value_json(item)
        for item in data.heads(shown, SHOWN_TEXT // SHOWN_ITEMS)
    ]


def listing_json(
    file: GGUFFile, summary: Summary, entries: list[Entry], anatomy: Anatomy
) -> dict[str, Any]:
    """Give all that ``ggufscope list`` knows of a model."""
    return {
        "schema": LIST_SCHEMA,
        "file": {
            "paths": [shard.source.name for shard in file.shards],
            "nbytes": file.nbytes,
            "version": file.header.version,
            "byte_order": "little" if file.header.order == "<" else "big",
            "alignment": file.header.alignment,
        },
        "model": _model(summary),
        "metadata": {key: _metadata(value) for key, value in file.metadata.typed.items()},
        "stored": {
            "tensors": [_tensor(entry) for entry in entries],
            "by_type": [_total(total) for total in totals_by_type(entries)],
            "by_role": [_total(total) for total in totals_by_group(entries)],
        },
        "computed": _computed(anatomy),
        "warnings": file.warnings(),
    }


def _model(summary: Summary) -> dict[str, Any]:
    return {
        "name": summary.name,
        "architecture": summary.architecture,
        "parameters": summary.n_elements,
        "tensor_bytes": summary.tensor_bytes,
        "file_type": summary.file_type,
        "bits_per_weight": summary.bits_per_weight,
        "attention": summary.attention,
        "tokenizer": summary.tokenizer,
        "vocab_size": summary.vocab_size,
        "tied_embeddings": summary.tied,
        "context_length": summary.hparams.context_length if summary.hparams else None,
        "block_count": summary.hparams.block_count if summary.hparams else None,
    }


def _metadata(value: Value) -> dict[str, Any]:
    found: dict[str, Any] = {"type": value.type.name}
    if value.type is ValueType.STRING and value.length > SHOWN_TEXT:
        return found | {"length": value.length, "first": value.head(SHOWN_TEXT)}
    if value.type is not ValueType.ARRAY:
        return found | {"value": value_json(value.data)}
    data = value.data
    return found | {
        "element_type": data.element_type.name,
        "count": len(data),
        "first": _short_items(data, SHOWN_ITEMS),
    }


def _tensor(entry: Entry) -> dict[str, Any]:
    tensor, role = entry.tensor, entry.role
    return {
        "name": tensor.name,
        "layer": role.layer,
        "role": role.label,
        "group": role.group,
        "shape": list(tensor.shape),
        "type": tensor.type.name,
        "type_number": tensor.type.number,
        "known_type": not isinstance(tensor.type, ForeignType),
        "n_elements": tensor.info.n_elements,
        "nbytes": tensor.nbytes,
        "bits_per_weight": tensor.info.bits_per_weight,
        "path": tensor.shard.source.name,
        "offset": tensor.offset,
    }


def _total(total: Total) -> dict[str, Any]:
    return {
        "name": total.name,
        "tensors": total.tensors,
        "n_elements": total.n_elements,
        "nbytes": total.nbytes,
        "bits_per_weight": total.bits_per_weight,
    }


def _computed(anatomy: Anatomy) -> dict[str, Any]:
    elements = anatomy.cache_elements()
    return {
        "tokens": anatomy.tokens,
        "not_derivable": anatomy.not_derivable or None,
        "symbols": {symbol: list(numbers) for symbol, numbers in anatomy.symbols.items()},
        "before_layers": [_quantity(q) for q in anatomy.head],
        "layers": [_layer(layer) for layer in anatomy.layers],
        "after_layers": [_quantity(q) for q in anatomy.tail],
        "kv_cache": {
            "n_elements": elements,
            "nbytes_f16": 2 * elements,
            "nbytes_f32": 4 * elements,
        },
    }


def _layer(layer: LayerAnatomy) -> dict[str, Any]:
    return {
        "layer": layer.layer,
        "window": layer.window,
        "not_derivable": layer.not_derivable or None,
        "quantities": [_quantity(q) for q in layer.quantities],
    }


def _quantity(q: Quantity) -> dict[str, Any]:
    return {
        "name": q.name,
        "kind": str(q.kind),
        "axes": list(q.axes),
        "shape": list(q.shape),
        "nbytes_f32": None if q.kind is Kind.STORED else q.nbytes,
        "made_from": list(q.made_from),
        "caption": q.caption,
    }
