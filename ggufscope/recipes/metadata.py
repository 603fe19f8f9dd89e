"""The metadata of a quantized file.

The source's pairs in their order; then what quantizing says about itself, moved to the end where
the source had it already; then what the user overrides. Follows the setting of keys in
``llama_model_quantize_impl`` (llama.cpp's ``llama-quant.cpp``), where setting a key removes it and
appends it anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from ggufscope.container.shards import COUNT_KEY, NUMBER_KEY, TENSORS_KEY
from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Value
from ggufscope.errors import BadOverride
from ggufscope.recipes.plan import DROPPED_KEYS, QUANTIZATION_VERSION


def _u32(number: int) -> Value:
    return Value.of(ValueType.UINT32, number)


_OVERRIDES: Final[dict[str, Callable[[str], Value]]] = {
    "int": lambda text: _u32(abs(int(text))),
    "float": lambda text: Value.of(ValueType.FLOAT32, float(text)),
    "bool": lambda text: Value.of(ValueType.BOOL, {"true": True, "false": False}[text]),
    "str": lambda text: Value.of(ValueType.STRING, text),
}


def written_metadata(
    source: Mapping[str, Value],
    file_type: int,
    block_count: tuple[str, int] | None = None,
    overrides: Mapping[str, Value] | None = None,
) -> dict[str, Value]:
    """Give the metadata of the (first) file that a plan writes.

    ``block_count``: its key and the number of layers left, where layers were pruned.
    """
    written = dict(source)
    _set(written, "general.quantization_version", _u32(QUANTIZATION_VERSION))
    _set(written, "general.file_type", _u32(file_type))
    for key in DROPPED_KEYS:
        written.pop(key, None)
    for key, value in (overrides or {}).items():
        _set(written, key, value)
    if block_count is not None:
        _set(written, block_count[0], _u32(block_count[1]))
    return written


def split_keys(number: int, count: int, tensors: int) -> dict[str, Value]:
    """Give what shard ``number`` (from 0) of ``count`` says of the split."""
    return {
        NUMBER_KEY: Value.of(ValueType.UINT16, number),
        COUNT_KEY: Value.of(ValueType.UINT16, count),
        TENSORS_KEY: Value.of(ValueType.INT32, tensors),
    }


def parse_overrides(texts: Iterable[str]) -> dict[str, Value]:
    """Read ``KEY=TYPE:VALUE`` as ``--override-kv`` takes it; types int, float, bool, str.

    An int is stored as the UINT32 of its magnitude, as llama-quantize does. Raises ``BadOverride``.
    """
    return dict(_override(text) for text in texts)


def _override(text: str) -> tuple[str, Value]:
    key, _, typed = text.partition("=")
    kind, _, data = typed.partition(":")
    try:
        return key, _OVERRIDES[kind](data)
    except (ValueError, KeyError):
        raise BadOverride(
            f"{text!r} overrides no key",
            hint="write KEY=TYPE:VALUE with int, float, bool (true, false) or str",
        ) from None


def _set(values: dict[str, Value], key: str, value: Value) -> None:
    values.pop(key, None)
    values[key] = value
