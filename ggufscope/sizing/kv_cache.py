"""What is kept of each token while a model runs: the KV cache, layer by layer, to the byte.

Follows ``llama_model::create_memory`` and the constructors of ``llama_kv_cache``,
``llama_kv_cache_iswa`` and ``llama_memory_recurrent`` in llama.cpp; flash attention is on, as it is
by default (without it, values of layers that differ in width are padded to the widest).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from ggufscope.blocks.layouts import LAYOUTS, Layout
from ggufscope.errors import CacheTypeDoesNotFit, NotDerivable
from ggufscope.model.families import FAMILIES, OTHER_GRAPHS, WINDOWS, window_at
from ggufscope.model.hparams import HParams, read_hparams
from ggufscope.sizing.settings import RunSettings
from ggufscope.sizing.states import HYBRID, RECURRENT, attends, keeps_state, state_elements


class CacheKind(StrEnum):
    """What a layer keeps."""

    FULL = "full attention"
    WINDOW = "sliding window"
    LATENT = "MLA latent"
    """One compressed vector a token serves as key and value of all heads."""
    SHARED = "shared"
    """Nothing of its own: it uses the keys and values of an earlier layer."""
    STATE = "recurrent state"


@dataclass(frozen=True, slots=True)
class CachePart:
    """What one layer keeps, of all sequences."""

    layer: int
    kind: CacheKind
    cells: int
    """Tokens there is room for, all sequences together; of states: sequences."""
    key_nbytes: int
    """Bytes of keys; of a state: the inputs that its convolution looks back at."""
    value_nbytes: int
    """Bytes of values; of a state: the state itself."""

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        return self.key_nbytes + self.value_nbytes


@dataclass(frozen=True, slots=True)
class CacheTotal:
    """Layers that keep the same kind of thing."""

    kind: CacheKind
    layers: tuple[int, ...]
    cells: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class CacheSizes:
    """The cache of a whole model; a layer with attention and a state beside it has two parts."""

    settings: RunSettings
    parts: tuple[CachePart, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all of it."""
        return sum(part.nbytes for part in self.parts)

    def by_kind(self) -> list[CacheTotal]:
        """Add up the layers by what they keep, and by how much of it."""
        groups: dict[tuple[CacheKind, int], list[CachePart]] = {}
        for part in self.parts:
            groups.setdefault((part.kind, part.cells), []).append(part)
        return [
            CacheTotal(
                kind, tuple(part.layer for part in parts), cells, sum(p.nbytes for p in parts)
            )
            for (kind, cells), parts in groups.items()
        ]


_STATE_TYPE: Final = LAYOUTS["F32"]

_NOTHING_KEPT: Final = frozenset(
    {
        *("bert", "eurobert", "jina-bert-v2", "jina-bert-v3", "modern-bert", "neo-bert"),
        *("nomic-bert", "nomic-bert-moe", "gemma-embedding"),
        *("dream", "llada", "llada-moe", "rnd1", "wavtokenizer-dec"),
    }
)
"""They see each text as a whole."""

_INDEXED: Final = "keeps an index of its tokens beside keys and values"
_OWN_RULES: Final = {
    **dict.fromkeys(
        ["deepseek32", "glm-dsa", "glm5-next", "hy_v4", "dots3note", "minimax-m3"], _INDEXED
    ),
    **dict.fromkeys(("qwen4exp",), _INDEXED),
    **dict.fromkeys(("deepseek4", "dflash"), "keeps its tokens compressed in several ways"),
    **dict.fromkeys(("gemma4-assistant", "eagle3"), "drafts for another model, and uses its cache"),
    "nanbeige": "runs its layers several times, and keeps each time",
    "graniteswitch": "has a layer more than its metadata counts",
}
"""Architectures whose cache goes by rules of its own, that this program does not follow."""

_ORDINARY: Final = (
    FAMILIES.keys() | WINDOWS.keys() | HYBRID | RECURRENT | {"cogvlm", "deepseek2-ocr"}
)
_SHARED_FROM: Final = {"gemma3n": 20}
"""The first layer that has no keys and values of its own, where the file does not say."""


def kv_cache_of(metadata: Mapping[str, Any], settings: RunSettings) -> CacheSizes:
    """Return what llama.cpp keeps of each token of a model, by its metadata alone.

    Raises ``HyperparameterError`` for metadata that contradicts itself, ``NotDerivable`` where it
    does not say enough, ``CacheTypeDoesNotFit`` where llama.cpp refuses the types.
    """
    return cache_of(read_hparams(metadata), settings)


def cache_of(hparams: HParams, settings: RunSettings) -> CacheSizes:
    """Return the same, from hyperparameters."""
    if hparams.architecture in _NOTHING_KEPT:
        return CacheSizes(settings, ())
    _check_architecture(hparams)
    parts: list[CachePart] = []
    for layer in range(hparams.block_count - hparams.nextn_predict_layers):
        if attends(hparams, layer):
            parts.append(_keys_and_values(hparams, layer, settings))
        if keeps_state(hparams, layer):
            parts.append(_state(hparams, layer, settings))
    return CacheSizes(settings, tuple(parts))


def _check_architecture(hparams: HParams) -> None:
    name = hparams.architecture
    if name in _ORDINARY:
        return
    why = _OWN_RULES.get(name) or OTHER_GRAPHS.get(name)
    raise NotDerivable(
        f"architecture '{name}' " + (why or "is not one whose cache this program knows"),
        hint="its files can be sized all the same: leave out --context and --fits",
    )


def _keys_and_values(hparams: HParams, layer: int, settings: RunSettings) -> CachePart:
    if layer >= _first_shared(hparams):
        return CachePart(layer, CacheKind.SHARED, 0, 0, 0)
    window = window_at(WINDOWS.get(hparams.architecture), hparams, layer)
    cells = settings.cells if window is None else settings.window_cells(window)
    kind = CacheKind.FULL if window is None else CacheKind.WINDOW
    key, value = hparams.key_length, hparams.value_length
    if window is not None:
        key, value = hparams.key_length_swa, hparams.value_length_swa
    shared = hparams.head_count_kv
    heads = _number(hparams, None if shared is None else shared[layer], "head_count_kv")
    if heads and (hparams.head_count is None or not hparams.head_count[layer]):
        raise NotDerivable(
            f"key '{hparams.architecture}.attention.head_count' is 0 in layer {layer}, which has "
            f"{heads} key/value heads",
            hint="the metadata contradicts itself: the file was converted wrongly",
        )
    key = _number(hparams, key if heads else 0, "key_length")
    value = _number(hparams, value if heads else 0, "value_length")
    type_k, type_v = settings.layouts
    if hparams.is_mla:
        kind, value = CacheKind.LATENT, 0
        if type_k != type_v:
            raise CacheTypeDoesNotFit(
                f"with MLA there is one cache for keys and values: it cannot be "
                f"{type_k.name} and {type_v.name}",
                hint="give --type-k and --type-v the same type",
            )
    tokens = cells * settings.streams
    return CachePart(
        layer,
        kind,
        tokens,
        tokens * _row(type_k, key, heads, "key"),
        tokens * _row(type_v, value, heads, "value"),
    )


def _first_shared(hparams: HParams) -> int:
    if hparams.architecture == "gemma4":
        return hparams.block_count - hparams.shared_kv_layers
    return _SHARED_FROM.get(hparams.architecture, hparams.block_count)


def _row(layout: Layout, size: int, heads: int, what: str) -> int:
    if size % layout.block_length:
        raise CacheTypeDoesNotFit(
            f"a {what} of one head has {size} numbers, and {layout.name} takes "
            f"{layout.block_length} at a time: llama.cpp refuses it",
            hint="choose F16, or a type whose blocks divide the head",
        )
    return layout.row_bytes(size * heads)


def _state(hparams: HParams, layer: int, settings: RunSettings) -> CachePart:
    inputs, state = state_elements(hparams)
    sequences = settings.parallel
    return CachePart(
        layer,
        CacheKind.STATE,
        sequences,
        sequences * _STATE_TYPE.row_bytes(inputs),
        sequences * _STATE_TYPE.row_bytes(state),
    )


def _number(hparams: HParams, number: int | None, key: str) -> int:
    if number is None:
        raise NotDerivable(
            f"key '{hparams.architecture}.attention.{key}' is missing, and nothing stands in for "
            "it",
            hint="the metadata is incomplete: llama.cpp could not run this model either",
        )
    return number
