"""The metadata of a quantized file.

The source's pairs in their order; then what quantizing says about itself, moved to the end where
the source had it already; then what the user overrides. Follows the setting of keys in
``llama_model_quantize_impl`` (llama.cpp's ``llama-quant.cpp``), where setting a key removes it and
appends it anew, and of overrides in its ``llama-model-loader.cpp``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from ggufscope.container.header import Metadata
from ggufscope.container.shards import COUNT_KEY, NUMBER_KEY, TENSORS_KEY
from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Value
from ggufscope.errors import BadOverride
from ggufscope.recipes.plan import Plan


def _u32(number: int) -> Value:
    return Value.of(ValueType.UINT32, number)


_KINDS: Final = {  # and integers of every size
    ValueType.BOOL: "bool",
    ValueType.STRING: "str",
    ValueType.FLOAT32: "float",
    ValueType.FLOAT64: "float",
    ValueType.ARRAY: "array",
}
_PER_LAYER: Final = (".attention.head_count", ".attention.head_count_kv", ".feed_forward_length")

_OVERRIDES: Final[dict[str, Callable[[str], Value]]] = {
    "int": lambda text: _u32(abs(int(text))),
    "float": lambda text: Value.of(ValueType.FLOAT32, float(text)),
    "bool": lambda text: Value.of(ValueType.BOOL, {"true": True, "false": False}[text]),
    "str": lambda text: Value.of(ValueType.STRING, text),
}


def overridden(source: Metadata, overrides: Mapping[str, Value]) -> Metadata:
    """Return the metadata that types are chosen by: that of the source, as llama.cpp overrides it.

    Reading a model, it takes an override where the file has a value of the same kind (an integer,
    say, of whatever size), and where it has none; but a number that may differ from layer to layer
    has to be in the file. What it does not take here is written all the same.
    """
    typed = dict(source.typed)
    for key, value in overrides.items():
        there = typed.get(key)
        kind = _KINDS.get(there.type) if there else "array" if key.endswith(_PER_LAYER) else None
        if _KINDS.get(value.type) == kind:
            typed[key] = value
    return Metadata(typed)


def written_metadata(
    source: Metadata, overrides: Mapping[str, Value], plan: Plan, architecture: str | None
) -> dict[str, Value]:
    """Return the metadata of the (first) file that a plan writes.

    ``architecture``: of the model as overridden, after which its number of layers is named.
    """
    written = dict(source.typed)
    _set(written, "general.quantization_version", _u32(2))
    _set(written, "general.file_type", _u32(plan.file_type))
    for key in (NUMBER_KEY, COUNT_KEY, TENSORS_KEY):
        written.pop(key, None)
    for key, value in overrides.items():
        _set(written, key, value)
    if plan.block_count is not None:
        _set(written, f"{architecture}.block_count", _u32(plan.block_count))
    return written


def split_keys(number: int, count: int, tensors: int) -> dict[str, Value]:
    """Return what shard ``number`` (from 0) of ``count`` says of the split."""
    return {
        NUMBER_KEY: Value.of(ValueType.UINT16, number),
        COUNT_KEY: Value.of(ValueType.UINT16, count),
        TENSORS_KEY: Value.of(ValueType.INT32, tensors),
    }


def importance_keys(
    name: str, dataset: str | None, entries: int = 0, chunks: int | None = 0
) -> dict[str, Value]:
    """Return what a quantized file says of the importance matrix it was made with.

    What is None is not known, and left out.
    """
    keys = {"quantize.imatrix.file": Value.of(ValueType.STRING, name)}
    if dataset is not None:
        keys["quantize.imatrix.dataset"] = Value.of(ValueType.STRING, dataset)
    keys["quantize.imatrix.entries_count"] = _u32(entries)
    if chunks is not None:
        keys["quantize.imatrix.chunks_count"] = _u32(chunks)
    return keys


def parse_overrides(texts: Iterable[str]) -> dict[str, Value]:
    """Read ``KEY=TYPE:VALUE`` as ``--override-kv`` takes it; types int, float, bool, str.

    An int is stored as the UINT32 of its magnitude, as llama-quantize does. Raises ``BadOverride``.
    """
    found: dict[str, Value] = {}
    for text in texts:
        with split_override(text) as (key, kind, data):
            _set(found, key, _OVERRIDES[kind](data))
    return found


@contextmanager
def split_override(
    text: str, hint: str = "write KEY=TYPE:VALUE with int, float, bool (true, false) or str"
) -> Iterator[tuple[str, str, str]]:
    """Yield key, type and value of ``KEY=TYPE:VALUE``, which are read inside.

    Raises ``BadOverride`` for a ``ValueError`` or ``KeyError`` there.
    """
    key, _, typed = text.partition("=")
    kind, _, data = typed.partition(":")
    if not key:
        raise BadOverride(f"{text!r:.60} names no key", hint=hint)
    try:
        yield key, kind, data
    except (ValueError, KeyError):
        raise BadOverride(f"{text!r:.60} overrides no key", hint=hint) from None


def _set(values: dict[str, Value], key: str, value: Value) -> None:
    values.pop(key, None)
    values[key] = value
