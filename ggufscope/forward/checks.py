"""What is checked before any long work: the family, the tensors it needs, the text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from ggufscope.errors import (
    HyperparameterError,
    NotInModel,
    NotRunnable,
    TokenUnknown,
    TooManyTokens,
)
from ggufscope.forward.families import GRAPHS
from ggufscope.forward.graph import Graph
from ggufscope.forward.weights import Weights
from ggufscope.model.anatomy import LAYER
from ggufscope.model.dimensions import layer_dims, measure
from ggufscope.model.families import FAMILIES, window_of
from ggufscope.model.hparams import HParams
from ggufscope.model.quantities import Places
from ggufscope.model.rows import HEAD, TAIL, Kind, Row

_HINT: Final = "llama.cpp would not load it either: the file was converted wrongly"
_UNUSED_BY_LLAMA_CPP: Final = frozenset({"attn_rot_embd"})


def graph_of(architecture: str) -> Graph:
    """Give the graph of an architecture, or raise ``NotRunnable`` that says which there are."""
    graph = GRAPHS.get(architecture)
    if graph is None:
        raise NotRunnable(
            f"architecture '{architecture}' cannot be run: its forward pass is not built",
            hint=f"these can: {', '.join(GRAPHS)}; `ggufscope list` shows any model's anatomy",
        )
    return graph


def require_numbers(hparams: HParams, graph: Graph) -> None:
    """Raise ``HyperparameterError``, naming the key, where a pass could not be computed."""
    wanted = {"embedding_length": hparams.embedding_length, "head_count": hparams.head_count}
    if graph.norm == "rms":
        wanted["attention.layer_norm_rms_epsilon"] = hparams.layer_norm_rms_epsilon  # type: ignore[assignment]
    else:
        wanted["attention.layer_norm_epsilon"] = hparams.layer_norm_epsilon  # type: ignore[assignment]
    for key, value in wanted.items():
        if value is None:
            raise HyperparameterError(
                f"key '{hparams.architecture}.{key}' is missing: the model cannot be run",
                hint=_HINT,
            )
    for layer in range(hparams.block_count):
        heads, groups = (
            numbers[layer] if numbers else 0
            for numbers in (hparams.head_count, hparams.head_count_kv)
        )
        if not heads or not groups or heads % groups:
            raise HyperparameterError(
                f"layer {layer} has {heads} heads and {groups} key heads, which cannot be shared",
                hint=_HINT,
            )
    rotated = hparams.rope_dimension_count or 0
    if rotated % 2 or rotated > (hparams.key_length or 0):
        raise HyperparameterError(
            f"key '{hparams.architecture}.rope.dimension_count' is {rotated}: not an even part of "
            f"a head of {hparams.key_length}",
            hint=_HINT,
        )
    if hparams.expert_count and not 0 < (hparams.expert_used_count or 0) <= hparams.expert_count:
        raise HyperparameterError(
            f"key '{hparams.architecture}.expert_used_count' is {hparams.expert_used_count}, "
            f"of {hparams.expert_count} experts",
            hint=_HINT,
        )


def require_tensors(weights: Weights, hparams: HParams, graph: Graph) -> None:
    """Raise ``NotInModel`` for a tensor that is missing, ``NotRunnable`` for one that does not fit.

    One that the family has no use for does not: a pass without it would give wrong numbers.
    """
    places = Places({name: weights.shape(name) for name in weights.names()})
    family = FAMILIES[hparams.architecture]
    ends = layer_dims(hparams, 0, 1, None)
    ends_required = "token_embd output_norm" + (" position_embd" if graph.learned_positions else "")
    _require(weights, None, ends_required)
    outer = _axes((*HEAD, *TAIL)) | {"position_embd": "? E"}
    _check_shapes(places, None, outer, ends, hparams.architecture)
    axes = _axes(LAYER) | {"attn_q_norm": "D", "attn_k_norm": "D"} | dict(graph.axes)
    known = {stem for word in graph.required.split() for stem in word.split("|")}
    for layer in range(hparams.block_count):
        _require(weights, layer, graph.required)
        foreign = sorted(places.stems(layer) - known - _UNUSED_BY_LLAMA_CPP)
        if foreign:
            raise NotRunnable(
                f"tensor 'blk.{layer}.{foreign[0]}' has no place in a layer of "
                f"'{hparams.architecture}'",
                hint="the file is of a kind that this program does not know yet",
            )
        dims = layer_dims(hparams, layer, 1, window_of(family, hparams, layer))
        _check_shapes(places, layer, axes, dims, hparams.architecture)


def _axes(rows: Iterable[Row]) -> dict[str, str]:
    """Give the symbols of each stem's shape; the table's first row of a stem is the usual one."""
    axes: dict[str, str] = {}
    for row in rows:
        if row.kind is Kind.STORED:
            axes.setdefault(row.name.removesuffix(".weight"), row.axes)
    return axes


def _require(weights: Weights, layer: int | None, required: str) -> None:
    for word in required.split():
        names = [_full(layer, f"{stem}.weight") for stem in word.split("|")]
        if not any(name in weights for name in names):
            raise NotInModel(
                f"tensor {names[-1]!r} is missing: the model cannot be run without it",
                hint="`ggufscope list` shows what there is; the file may be part of a model",
            )


def _check_shapes(
    places: Places,
    layer: int | None,
    axes: Mapping[str, str],
    dims: Mapping[str, int | None],
    architecture: str,
) -> None:
    for stem in sorted(places.stems(layer) & axes.keys()):
        for name, role, shape in places.of_stem(layer, stem):
            wanted = axes[stem].split()
            if role.suffix == "bias":
                wanted = wanted[:1]
            elif role.suffix != "weight":
                raise NotRunnable(
                    f"tensor '{_full(layer, name)}' is a {role.suffix}, which a pass does not use",
                    hint="the file is of a kind that this program does not know yet",
                )
            numbers = [
                None if axis == "?" else measure(axis, dims, architecture) for axis in wanted
            ]
            fits = len(numbers) == len(shape) and all(
                number in (None, extent) for number, extent in zip(numbers, shape, strict=True)
            )
            if not fits:
                said = ", ".join("any" if number is None else str(number) for number in numbers)
                raise NotRunnable(
                    f"tensor '{_full(layer, name)}' has shape {list(shape)}, not [{said}]",
                    hint=_HINT,
                )


def _full(layer: int | None, name: str) -> str:
    return name if layer is None else f"blk.{layer}.{name}"


def require_ids(ids: Sequence[int], past: int, vocabulary: int, context: int | None) -> None:
    """Raise ``TokenUnknown`` or ``TooManyTokens`` where a text cannot be run.

    ``past``: how many tokens a cache holds already.
    """
    if len(ids) == 0:
        raise TooManyTokens("the prompt is empty: there is nothing to run", hint="give some text")
    for position, token in _outside(ids, vocabulary):
        raise TokenUnknown(
            f"token {token} at position {past + position} is not in the vocabulary",
            hint=f"the model has {vocabulary} entries: 0 to {vocabulary - 1}",
        )
    if context is not None and past + len(ids) > context:
        raise TooManyTokens(
            f"{past + len(ids)} tokens are more than the model's context of {context}",
            hint="give a shorter text",
        )


def _outside(ids: Sequence[int], vocabulary: int) -> Iterator[tuple[int, int]]:
    return ((at, token) for at, token in enumerate(ids) if not 0 <= token < vocabulary)
