"""The keys under ``tokenizer.ggml.``: each is checked, for its type and its size, as it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

import numpy as np

from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Array
from ggufscope.errors import BadVocabulary
from ggufscope.model.keys import value_of

KEY: Final = "tokenizer.ggml."
WRONG: Final = "the metadata contradicts itself: the file was converted wrongly"
DAMAGED: Final = "the metadata is damaged, or the file was converted wrongly"
USE_IDS: Final = "pass the numbers of the tokens with --ids"
"""Hints of the errors about a vocabulary."""

_NO_NUMBERS: Final = {ValueType.STRING, ValueType.ARRAY}


class Keys:
    """The metadata of a tokenizer. Every method raises ``BadVocabulary``, naming the key."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.metadata: Final = metadata

    def __contains__(self, key: str) -> bool:
        return KEY + key in self.metadata

    def _get(self, key: str, default: Any) -> Any:
        value = value_of(self.metadata, KEY + key)
        return default if value is None else value

    def string(self, key: str) -> str:
        """Return a text; empty where the key is missing."""
        value = self._get(key, "")
        return value if isinstance(value, str) else _refuse(key, value, "a string")

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false."""
        value = self._get(key, default)
        return value if isinstance(value, bool) else _refuse(key, value, "true or false")

    def token(self, key: str, default: int | None, size: int) -> int | None:
        """Return the id of a special token; the default, as llama.cpp, for one out of range."""
        usable = default if default is not None and default < size else None
        value = self._get(key, usable)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            _refuse(key, value, "a whole number")
        return value if 0 <= value < size else usable

    def strings(self, key: str, most: int) -> Sequence[str]:
        """Return no more than ``most`` strings; each is decoded when it is looked at."""
        value = self._get(key, None)
        if isinstance(value, Array) and value.element_type is ValueType.STRING:
            if len(value) > most:
                raise BadVocabulary(
                    f"key '{KEY}{key}' has {len(value)} entries; {most} are read at the most",
                    hint="no known model has so many: if yours is sound, please report it",
                )
            return value
        return _refuse(key, value, "a list of strings")

    def numbers(self, key: str) -> np.ndarray[tuple[int], np.dtype[Any]]:
        """Return an array of numbers, (0,) where the key is missing."""
        value = self._get(key, None)
        if value is None:
            return np.empty(0)
        if isinstance(value, Array) and value.element_type not in _NO_NUMBERS:
            return value.numpy()
        return _refuse(key, value, "a list of numbers")

    def whole_numbers(self, key: str) -> np.ndarray[tuple[int], np.dtype[Any]]:
        """Return an array of whole numbers, (0,) where the key is missing."""
        numbers = self.numbers(key)
        if numbers.size and numbers.dtype.kind not in "iu":
            raise BadVocabulary(
                f"key '{KEY}{key}' has numbers of type {numbers.dtype.name}, not whole ones",
                hint=WRONG,
            )
        return numbers


def _refuse(key: str, value: Any, wanted: str) -> NoReturn:
    said = "missing" if value is None else repr(value)[:60]
    raise BadVocabulary(f"key '{KEY}{key}' is {said}, not {wanted}", hint=DAMAGED)
