"""What ``ggufscope list --json`` prints: ``schemas/list.json`` and ``schemas/list-key.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain, islice
from typing import IO, Any, Final

from ggufscope.blocks.layouts import ForeignType
from ggufscope.container.file import GGUFFile
from ggufscope.container.source import NoFile
from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Array, Value
from ggufscope.model.anatomy.build import Anatomy, LayerAnatomy
from ggufscope.model.anatomy.quantities import Quantity
from ggufscope.model.anatomy.rows import Kind
from ggufscope.model.hf_names import HFName
from ggufscope.model.inventory import Entry, Total, totals_by_group, totals_by_type
from ggufscope.model.required import warnings_of
from ggufscope.model.summary import Summary
from ggufscope.report.as_json import dumps, finite, pick
from ggufscope.report.list.metadata import text_pieces

SCHEMA: Final = "ggufscope.list/2"
KEY_SCHEMA: Final = "ggufscope.list-key/1"

SHOWN_ITEMS: Final = 8
"""Items of a long array in the metadata; ``--key`` prints all of them."""
SHOWN_TEXT: Final = 1 << 16
"""Bytes of a text in the metadata; ``--key`` prints all of it."""
_AT_ONCE: Final = 1 << 12
"""Items of an array that are encoded before they are written."""


def write_key(key: str, value: Value, out: IO[str]) -> None:
    """Write one metadata value, whole, bit by bit: the text is never in memory as a whole."""
    element = value.data.element_type.name if value.type is ValueType.ARRAY else None
    head = {"schema": KEY_SCHEMA, "key": key, "type": value.type.name, "element_type": element}
    out.write(dumps(head).removesuffix("\n}") + ',\n  "value": ')
    if value.type is ValueType.STRING:
        pieces = (json.dumps(piece)[1:-1] for piece in text_pieces(value))
        out.writelines(chain('"', pieces, '"'))
    elif value.type is ValueType.ARRAY:
        _write_items(value.data, out, "  ")
    else:
        out.write(dumps(value.data))
    out.write("\n}\n")


def _write_items(items: Array, out: IO[str], indent: str) -> None:
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
        while part := f",{line}".join(json.dumps(finite(x)) for x in islice(rest, _AT_ONCE)):
            out.write(comma + line + part)
            comma = ","
    out.write(f"\n{indent}]")


def listing_json(
    file: GGUFFile,
    summary: Summary,
    entries: list[Entry],
    anatomy: Anatomy,
    names: Mapping[str, HFName] | None = None,
) -> dict[str, Any]:
    """Return all that ``ggufscope list`` knows of a model; with Hugging Face's names if given."""
    hparams = summary.hparams
    return {
        "schema": SCHEMA,
        "file": {
            "paths": [] if file.no_file else [shard.source.name for shard in file.shards],
            "nbytes": file.nbytes,
            "version": file.header.version,
            "byte_order": "little" if file.header.order == "<" else "big",
            "alignment": file.header.alignment,
        },
        "model": {
            **pick(summary, "name architecture n_elements"),
            "tensor_nbytes": summary.tensor_bytes,
            **pick(summary, "file_type bits_per_weight attention tokenizer vocab_size"),
            "tied_embeddings": summary.tied,
            "context_length": hparams.context_length if hparams else None,
            "block_count": hparams.block_count if hparams else None,
        },
        "metadata": {key: value_json(value) for key, value in file.metadata.typed.items()},
        "stored": {
            "tensors": [_tensor(entry, names) for entry in entries],
            "by_type": [_total(total) for total in totals_by_type(entries)],
            "by_role": [_total(total) for total in totals_by_group(entries)],
        },
        "computed": _computed(anatomy),
        "warnings": warnings_of(file),
    }


def value_json(value: Value) -> dict[str, Any]:
    """Return a metadata value, of a long one its beginning and how long it is."""
    found: dict[str, Any] = {"type": value.type.name}
    if value.type is ValueType.STRING and value.length > SHOWN_TEXT:
        return found | {"length": value.length, "first": value.head(SHOWN_TEXT)}
    if value.type is not ValueType.ARRAY:
        return found | {"value": value.data}
    data = value.data
    return found | {
        "element_type": data.element_type.name,
        "count": len(data),
        "first": _first_items(data, SHOWN_ITEMS),
    }


def _first_items(data: Array, shown: int) -> list[Any]:
    return [
        _first_items(item, shown // 2) if isinstance(item, Array) else item
        for item in data.heads(shown, SHOWN_TEXT // SHOWN_ITEMS)
    ]


def _tensor(entry: Entry, names: Mapping[str, HFName] | None) -> dict[str, Any]:
    tensor, role = entry.tensor, entry.role
    return {
        "name": tensor.name,
        "layer": role.layer,
        "role": role.label,
        "group": role.group,
        "shape": tensor.shape,
        "type": tensor.type.name,
        "type_number": tensor.type.number,
        "known_type": not isinstance(tensor.type, ForeignType),
        **pick(tensor.info, "n_elements nbytes bits_per_weight"),
        "hf_names": _hf_names(names[tensor.name]) if names else None,
        "path": None if isinstance(tensor.shard.source, NoFile) else tensor.shard.source.name,
        "offset": tensor.offset,
    }


def _hf_names(name: HFName) -> dict[str, Any]:
    return {"names": name.names, "stacked": bool(name.experts), "note": name.note or None}


def _total(total: Total) -> dict[str, Any]:
    return pick(total, "name tensors n_elements nbytes bits_per_weight")


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
        **pick(layer, "layer window"),
        "not_derivable": layer.not_derivable or None,
        "quantities": [_quantity(q) for q in layer.quantities],
    }


def _quantity(q: Quantity) -> dict[str, Any]:
    nbytes = None if q.kind is Kind.STORED else q.nbytes
    return {
        **pick(q, "name kind axes shape"),
        "nbytes_f32": nbytes,
        **pick(q, "made_from caption"),
    }
