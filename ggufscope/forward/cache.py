"""The KV cache: keys and values of the tokens so far, so that a text can come piece by piece.

Its numbers may be stored in fewer bits, as llama.cpp's ``--cache-type-k`` and ``--cache-type-v``
do. Follows ``llama-kv-cache.cpp``, with what it does before: heads whose size is a multiple of 64
are multiplied by a Hadamard matrix, which spreads outliers over all numbers of a head; so are the
queries, which leaves their products as they are, and the result, since the matrix is its inverse.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from ggufscope.arrays import Floats
from ggufscope.blocks.codec import dequantize, quantize, require_makeable
from ggufscope.blocks.layouts import layout_named
from ggufscope.errors import TypeDoesNotFit

_SPREAD: Final = 64
"""Outliers are spread over heads whose size is a multiple of this."""
_PLAIN: Final = frozenset({"F32", "F16", "BF16"})


@dataclass(slots=True)
class _Rows:
    """Rows that grow: the first ``length`` of ``array`` are in use."""

    array: Floats
    length: int = 0

    def append(self, rows: Floats) -> None:
        needed = self.length + len(rows)
        if needed > len(self.array):
            grown = np.empty((max(needed, 2 * len(self.array)), *rows.shape[1:]), np.float32)
            grown[: self.length] = self.array[: self.length]
            self.array = grown
        self.array[self.length : needed] = rows
        self.length = needed

    @property
    def used(self) -> Floats:
        return self.array[: self.length]


@dataclass(slots=True)
class KVCache:
    """Keys and values of every layer, and the types that they are stored in.

    The numbers are kept as float32, as they are after storing: the cache shows what storing costs,
    and does not save memory by it. Raises ``UnknownType``, ``NotConvertible`` for a type that is
    not made here, and ``TypeDoesNotFit`` when heads come that do not divide into its blocks.
    """

    type_k: str = "F32"
    type_v: str = "F32"
    _layers: dict[int, tuple[_Rows, _Rows]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.type_k, self.type_v = (_makeable(t) for t in (self.type_k, self.type_v))

    def length(self, layer: int = 0) -> int:
        """Return how many tokens a layer has seen."""
        return self._layers[layer][0].length if layer in self._layers else 0

    def truncate(self, length: int) -> None:
        """Forget all tokens from position ``length`` on."""
        for rows in self._layers.values():
            for half in rows:
                half.length = min(half.length, length)

    def query(self, q: Floats) -> Floats:
        """q (T, H, D) -> q as it fits the keys in the cache."""
        return _spread(q, _k_matrix(self.type_k, q.shape[-1]))

    def result(self, out: Floats, width: int) -> Floats:
        """out (T, H * M) mixed from the values in the cache -> the same, not spread any more."""
        size = _v_matrix(self.type_v, width)
        return _spread(out.reshape(len(out), -1, width), size).reshape(out.shape)

    def extend(self, layer: int, k: Floats, v: Floats) -> tuple[Floats, Floats]:
        """k (T, K, D), v (T, K, M) -> those of all tokens so far, these last, as stored."""
        k = _stored(_spread(k, _k_matrix(self.type_k, k.shape[-1])), self.type_k)
        v = _stored(_spread(v, _v_matrix(self.type_v, v.shape[-1])), self.type_v)
        if layer not in self._layers:
            self._layers[layer] = (
                _Rows(np.empty((0, *k.shape[1:]), np.float32)),
                _Rows(np.empty((0, *v.shape[1:]), np.float32)),
            )
        keys, values = self._layers[layer]
        keys.append(k)
        values.append(v)
        return keys.used, values.used


def _makeable(type_: str) -> str:
    name = layout_named(type_).name
    require_makeable(name, "the KV cache")
    return name


def _k_matrix(type_: str, size: int) -> int:
    """Return the size of the matrix for keys, 0 for none: the largest that divides a head."""
    if type_ in _PLAIN or size % _SPREAD:
        return 0
    return size & -size  # the largest power of two that divides it


def _v_matrix(type_: str, size: int) -> int:
    """Return the size of the matrix for values, 0 for none: always the smallest."""
    return 0 if type_ in _PLAIN or size % _SPREAD else _SPREAD


def _spread(x: Floats, n: int) -> Floats:
    """x (..., D) -> each n numbers times the orthonormal Hadamard matrix, its own inverse."""
    if not n:
        return x
    h = np.ones((1, 1), np.float32)
    while len(h) < n:
        h = np.block([[h, h], [h, -h]])
    spread: Floats = x.reshape(*x.shape[:-1], -1, n) @ (h / np.float32(np.sqrt(n)))
    return spread.reshape(x.shape)


def _stored(x: Floats, type_: str) -> Floats:
    """x (T, heads, D) -> the same after it was stored in a type; a row is a token's heads."""
    if type_ == "F32":
        return x
    block = layout_named(type_).block_length
    if x.shape[-1] % block:
        raise TypeDoesNotFit(
            f"heads of {x.shape[-1]} numbers do not divide into {type_} blocks of {block}",
            hint="a KV cache in q8_0, q4_0 or q5_0 has blocks of 32",
        )
    flat = np.ascontiguousarray(x).reshape(len(x), -1)
    return dequantize(quantize(flat, type_, threads=1), type_, flat.shape, threads=1).reshape(
        x.shape
    )
