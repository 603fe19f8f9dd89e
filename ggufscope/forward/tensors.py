"""What a pass needs of a model's tensors, checked before any is read: names and shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Final

from ggufscope.errors import NotInModel, NotRunnable
from ggufscope.forward.graph import Graph
from ggufscope.forward.weights import Weights
from ggufscope.model.anatomy.quantities import Places
from ggufscope.model.anatomy.rows import Kind, Row
from ggufscope.model.anatomy.symbols import layer_dims, measure
from ggufscope.model.anatomy.table import HEAD, LAYER, TAIL
from ggufscope.model.families import FAMILIES, window_of
from ggufscope.model.hparams import HParams

_HINT: Final = "llama.cpp would not load it either: the file was converted wrongly"
_FACTORS: Final = ("rope_freqs", "rope_factors_long", "rope_factors_short")
_UNUSED_BY_LLAMA_CPP: Final = frozenset({"attn_rot_embd"})


def require_tensors(weights: Weights, hparams: HParams, graph: Graph) -> None:
    """Raise ``NotInModel`` for a tensor that is missing, ``NotRunnable`` for one that does not fit.

    One that the family has no use for does not: a pass without it would give wrong numbers.
    """
    places = Places({name: weights.shape(name) for name in weights.names()})
    family = FAMILIES[hparams.architecture]
    positions = " position_embd" if graph.learned_positions else ""
    ends = f"token_embd output_norm{positions}"
    _require(weights, None, ends)
    _require_known(places, None, {*ends.split(), "output", *_FACTORS}, hparams.architecture)
    axes = _axes((*HEAD, *TAIL)) | {"position_embd": "? E"}
    dims = layer_dims(hparams, 0, 1, None)
    _check_shapes(places, None, axes, dims, hparams.architecture, graph)
    _check_factors(weights, hparams)
    axes = _axes(LAYER) | {"attn_q_norm": "D", "attn_k_norm": "D"} | dict(graph.axes)
    known = {stem for word in graph.required.split() for stem in word.split("|")}
    for layer in range(hparams.block_count):
        _require(weights, layer, graph.required)
        _require_known(places, layer, known | _UNUSED_BY_LLAMA_CPP, hparams.architecture)
        dims = layer_dims(hparams, layer, 1, window_of(family, hparams, layer))
        _check_shapes(places, layer, axes, dims, hparams.architecture, graph)


def _require_known(places: Places, layer: int | None, known: Set[str], architecture: str) -> None:
    foreign = sorted(places.stems(layer) - known)
    if foreign:
        raise NotRunnable(
            f"tensor '{_full(layer, foreign[0])}' has no place in a model of '{architecture}'",
            hint="the file is of a kind that this program does not know yet",
        )


def _check_factors(weights: Weights, hparams: HParams) -> None:
    wanted = ((hparams.rope_dimension_count or 0) // 2,)
    for stem in _FACTORS:
        name = f"{stem}.weight"
        if name in weights and weights.shape(name) != wanted:
            raise NotRunnable(
                f"tensor {name!r} has shape {list(weights.shape(name))}, not {list(wanted)}",
                hint=_HINT,
            )


def _axes(rows: Iterable[Row]) -> dict[str, str]:
    """Return the symbols of each stem's shape; the table's first row of a stem is the usual one."""
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
    graph: Graph,
) -> None:
    free: dict[str, int] = {}
    """What no key says: ``?`` is any extent, ``?W`` the same one everywhere in the layer."""
    for stem in sorted(places.stems(layer) & axes.keys()):
        for name, role, shape in places.of_stem(layer, stem):
            wanted = axes[stem].split()
            if role.suffix == "bias" and _may_be_biased(stem, graph):
                wanted = wanted[:1]
            elif role.suffix != "weight":
                raise NotRunnable(
                    f"tensor '{_full(layer, name)}' is a {role.suffix}, which a pass does not use",
                    hint="the file is of a kind that this program does not know yet",
                )
            for axis, extent in zip(wanted, shape, strict=False):
                if axis.startswith("?") and len(axis) > 1:
                    free.setdefault(axis, extent)
            numbers = [
                free.get(axis) if axis.startswith("?") else measure(axis, dims, architecture)
                for axis in wanted
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


def _may_be_biased(stem: str, graph: Graph) -> bool:
    """Whether a pass adds the bias of a tensor."""
    if "norm" in stem:
        return graph.norm == "layer"
    return not stem.endswith(("_embd", "_exps"))


def _full(layer: int | None, name: str) -> str:
    return name if layer is None else f"blk.{layer}.{name}"
