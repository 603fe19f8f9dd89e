"""The keys of the metadata, one at a time: each value is checked as it is read.

Some keys hold one number for the whole model or an array with one number a layer; both become a
``PerLayer``. Limits follow ``llama_model_base::load_hparams`` in llama.cpp's ``llama-model.cpp``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ggufscope.container.header import Metadata
from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Array
from ggufscope.errors import HyperparameterError


@dataclass(frozen=True, slots=True)
class PerLayer:
    """One number for all layers, or one for each."""

    numbers: tuple[int, ...]

    def __getitem__(self, layer: int) -> int:
        return self.numbers[0] if len(self.numbers) == 1 else self.numbers[layer]

    def distinct(self) -> list[int]:
        """Return the different numbers, ascending."""
        return sorted(set(self.numbers))


def value_of(metadata: Mapping[str, Any], key: str, most: int = 512) -> Any:
    """Return a value, None where there is none; of a text no more than its first ``most`` bytes.

    The rest of a longer text is not even decoded: no key that is read here has one, and a hostile
    file may have gigabytes of it.
    """
    if isinstance(metadata, Metadata):
        value = metadata.typed.get(key)
        if value is not None and value.type is ValueType.STRING:
            return value.head(most)
    return metadata.get(key)


def text_of(metadata: Mapping[str, Any], key: str, most: int = 512) -> str | None:
    """Return a text, no more than its first ``most`` bytes; None where there is no text."""
    value = value_of(metadata, key, most)
    return value if isinstance(value, str) else None


def architecture_of(metadata: Mapping[str, Any]) -> str | None:
    """Return ``general.architecture``, or None where the file does not say."""
    return text_of(metadata, "general.architecture", 128)


_LISTS: Final = Array | list | tuple
"""What holds one number a layer: as a file has it, or as a caller does."""


class KeyReader:
    """The keys of one architecture, checked as they are read."""

    def __init__(self, metadata: Mapping[str, Any], architecture: str) -> None:
        self.metadata = metadata
        self.prefix = architecture
        self.layers = 0

    def _value(self, key: str) -> tuple[str, Any]:
        full = f"{self.prefix}.{key}"
        return full, value_of(self.metadata, full)

    def number(self, key: str, default: int | None = None) -> int | None:
        """Return a whole number, not negative."""
        full, value = self._value(key)
        return default if value is None else _whole(full, value)

    def count(self, key: str, default: int) -> int:
        """Return a number of things."""
        return self.number(key, default) or 0

    def head_size(self, key: str, default: None = None) -> int | None:
        """Return the size of a head: as llama.cpp, the embedding over the heads of layer 0."""
        embedding, heads = self.number("embedding_length"), self.per_layer("attention.head_count")
        return self.number(key, embedding // heads[0] if embedding and heads and heads[0] else None)

    def vocabulary(self, key: str, default: None = None) -> int | None:
        """Return the size of the vocabulary: where the key is missing, the number of tokens."""
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        return self.number(key, len(tokens) if isinstance(tokens, _LISTS) else None)

    def is_true(self, key: str, default: None = None) -> bool:
        """Return whether a flag is set."""
        return self._value(key)[1] is True

    def real(self, key: str, default: None = None) -> float | None:
        """Return a number of any kind."""
        full, value = self._value(key)
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            return value
        raise _wrong(full, value, "a number")

    def stretch(self, key: str, default: None = None) -> float | None:
        """Return a number, also under the key that older files have for it."""
        return self.real(key) or self.real("rope.scale_linear")

    def text(self, key: str, default: str) -> str:
        """Return a text."""
        full, value = self._value(key)
        if value is not None and not isinstance(value, str):
            raise _wrong(full, value, "a text")
        return default if value is None else value

    def per_layer(self, key: str, default: PerLayer | None = None) -> PerLayer | None:
        """Return a number, or an array (list, tuple) with one number (or bool) a layer.

        llama.cpp wants exactly one a layer, but reads a window pattern that is longer.
        """
        full, value = self._value(key)
        if value is None:
            return default
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if not isinstance(value, _LISTS):
            return PerLayer((_whole(full, value),))
        if len(value) < self.layers or (len(value) > self.layers and not key.endswith("pattern")):
            raise HyperparameterError(
                f"key '{full}' has {len(value)} entries for {self.layers} layers",
                hint="the metadata contradicts itself: the file was converted wrongly",
            )
        each = value.head(self.layers) if isinstance(value, Array) else value[: self.layers]
        return PerLayer(tuple(int(n) if isinstance(n, bool) else _whole(full, n) for n in each))


def _whole(key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _wrong(key, value, "a whole number")
    return value


def _wrong(key: str, value: Any, wanted: str) -> HyperparameterError:
    return HyperparameterError(
        f"key '{key}' is {value!r:.60}, not {wanted}", hint="the metadata is damaged"
    )
