"""What is held against the reference: types in memory, recipes, another file, a quantized cache.

Nothing here opens a tensor. What a plan would do to a file is what a candidate does in memory.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Final, Literal, NoReturn

from ggufscope.arrays import Floats
from ggufscope.blocks.codec import require_makeable
from ggufscope.blocks.layouts import LAYOUTS, Layout, layout_named
from ggufscope.container.file import GGUFFile
from ggufscope.errors import (
    BadUsage,
    DifferentModels,
    NotInModel,
    UnknownType,
    naming,
)
from ggufscope.model.hparams import HParams, read_hparams
from ggufscope.model.keys import PerLayer
from ggufscope.model.roles import role_of
from ggufscope.recipes import jobs
from ggufscope.recipes.importance import ImportanceMatrix, importance_of
from ggufscope.recipes.mixes import MIXES
from ggufscope.recipes.options import PlanOptions, TypeRule
from ggufscope.recipes.plan import Plan, plan

Part = Literal["all", "attention", "ffn"]
"""Which weights are quantized."""

DEFAULT_TYPES: Final = ("Q8_0", "Q4_K", "Q2_K")
_GROUPS: Final[dict[str, frozenset[str]]] = {
    "attention": frozenset({"attention"}),
    "ffn": frozenset({"feed-forward", "experts"}),
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """One thing to compare: what it is called, and what of it is not the reference's."""

    name: str
    types: Mapping[str, str]
    """Tensor -> the type it gets in memory; none where a file is compared."""
    file: GGUFFile | None = None
    cache_types: tuple[str, str] | None = None
    """Types of the K and V cache; float32 where None."""
    importance: Mapping[str, Floats] = field(default_factory=dict, compare=False, repr=False)
    """Tensor -> what errors in it are weighed by, (slices, row)."""


@dataclass(frozen=True, slots=True)
class Weighs:
    """What a model is stored in."""

    types: Mapping[str, int]
    """Type -> matrices, the commonest first."""
    nbytes: int
    """Bytes of all tensors."""
    bits_per_weight: float


def of_types(
    file: GGUFFile,
    types: Iterable[str],
    part: Part = "all",
    imatrix: ImportanceMatrix | None = None,
) -> list[Candidate]:
    """Return a candidate for each type: every eligible matrix of that type, as ``--pure`` makes it.

    Rows that do not divide fall back as in llama-quantize. What is quantized already is quantized
    again, from the numbers it stands for.
    Raises ``UnknownType``, ``ImportanceNeeded``, ``NotConvertible``, ``NoFallback``.
    """
    return [
        _candidate(file, _type_named(type_).name, *_pure(type_), part, imatrix) for type_ in types
    ]


def of_recipes(
    file: GGUFFile,
    recipes: Iterable[str],
    part: Part = "all",
    imatrix: ImportanceMatrix | None = None,
) -> list[Candidate]:
    """Return a candidate for each of llama-quantize's presets, with its mixture of types.

    Raises ``UnknownPreset``, ``ImportanceNeeded``, ``NotConvertible``, ``NoFallback``.
    """
    options = PlanOptions(allow_requantize=True)
    return [_candidate(file, recipe.upper(), recipe, options, part, imatrix) for recipe in recipes]


def of_name(file: GGUFFile, name: str) -> Candidate:
    """Return the candidate of a type or, where there is no type of that name, of a preset."""
    try:
        layout_named(name)
    except UnknownType:
        return of_recipes(file, [name])[0]
    return of_types(file, [name])[0]


def of_names(file: GGUFFile, candidates: Iterable[Candidate | str] | str) -> list[Candidate]:
    """Return candidates, each given itself or by its name; one name alone will do."""
    every = [candidates] if isinstance(candidates, str) else candidates
    return [of_name(file, each) if isinstance(each, str) else each for each in every]


def of_file(file: GGUFFile, other: GGUFFile) -> Candidate:
    """Return another file as a candidate. Raises ``DifferentModels`` where it is another model."""
    require_same_model(file, other)
    return Candidate(other.path.name, {}, other)


def of_cache(keys: str, values: str) -> list[Candidate]:
    """Return the K cache alone in its type, the V cache alone, and both; weights stay in float32.

    Where one of the two types is F32, the other cache alone.

    Raises ``UnknownType`` and ``NotConvertible``.
    """
    keys, values = (_cache_type(type_) for type_ in (keys, values))
    both = keys if keys == values else f"{keys}/{values}"
    alone = [
        Candidate(f"K {keys}", {}, cache_types=(keys, "F32")),
        Candidate(f"V {values}", {}, cache_types=("F32", values)),
    ]
    if "F32" in (keys, values):
        return alone[:1] if values == "F32" else alone[1:]
    return [*alone, Candidate(f"KV {both}", {}, cache_types=(keys, values))]


def with_cache(candidate: Candidate, keys: str, values: str) -> Candidate:
    """Return a candidate that runs with a quantized cache as well."""
    cache = (_cache_type(keys), _cache_type(values))
    said = cache[0] if cache[0] == cache[1] else "/".join(cache)
    return replace(candidate, name=f"{candidate.name}, KV {said}", cache_types=cache)


def choose(
    file: GGUFFile,
    types: list[str],
    recipes: list[str],
    others: list[GGUFFile],
    cache_types: tuple[str | None, str | None],
    part: Part,
) -> list[Candidate]:
    """Return the candidates in the order: types, recipes, files; the cache alone where none is.

    ``cache_types``: of keys and values. Raises ``BadUsage``, and what ``of_types`` and the like do.
    """
    if part != "all" and others:
        raise BadUsage(
            f"--only {part} is about weights quantized in memory, --against about a file's",
            hint="leave one of the two out",
        )
    keys, values = cache_types
    cache = (keys or "F32", values or "F32") if keys or values else None
    if not types and not recipes and not others:
        if cache is not None and part == "all":
            return of_cache(*cache)
        types = list(DEFAULT_TYPES)
    found = of_types(file, types, part) + of_recipes(file, recipes, part)
    found += [of_file(file, other) for other in others]
    if cache is not None:
        found = [with_cache(each, *cache) for each in found]
    return with_own_names(found)


def with_own_names(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return files of one name by their paths. Raises ``BadUsage`` where names are equal still."""
    names = Counter(each.name for each in candidates)
    found = [
        replace(each, name=str(each.file.path)) if each.file and names[each.name] > 1 else each
        for each in candidates
    ]
    if len({each.name for each in found}) < len(found):
        raise BadUsage("a candidate is named twice", hint="name each type, recipe and file once")
    return found


def weighs(file: GGUFFile, candidate: Candidate) -> Weighs:
    """Return what a candidate is stored in; that of the file itself where it changes nothing."""
    nbytes = elements = 0
    stored: Counter[str] = Counter()
    for tensor in (candidate.file or file).tensors.values():
        type_ = candidate.types.get(tensor.name)
        elements += tensor.info.n_elements
        nbytes += LAYOUTS[type_].row_bytes(tensor.info.n_elements) if type_ else tensor.nbytes
        stored[type_ or tensor.type.name] += len(tensor.shape) > 1
    types = {name: count for name, count in stored.most_common() if count}
    return Weighs(types, nbytes, 8 * nbytes / elements if elements else 0.0)


def require_same_model(file: GGUFFile, other: GGUFFile) -> None:
    """Raise ``DifferentModels`` at the first thing that may not differ, and does.

    Architecture, hyperparameters, vocabulary, then names and shapes of the tensors. What one of two
    converters left out of the metadata, and what has no part in a pass, may differ.
    """
    ours, theirs = _hparams_of(file), _hparams_of(other)
    for each in fields(ours):
        mine, its = getattr(ours, each.name), getattr(theirs, each.name)
        if mine != its and None not in (mine, its):
            _refuse(file, other, each.name.replace("_", " "), _said(mine), _said(its))
    tokens = [model.metadata.get("tokenizer.ggml.tokens") for model in (file, other)]
    if tokens[0] != tokens[1]:
        said = ["none" if each is None else f"{len(each)} tokens" for each in tokens]
        if said[0] == said[1]:
            said = [said[0], "as many others"]
        _refuse(file, other, "vocabulary", *said)
    for name in {**file.tensors, **other.tensors}:
        shapes = [
            "x".join(map(str, model.tensors[name].shape)) if name in model.tensors else "absent"
            for model in (file, other)
        ]
        if shapes[0] != shapes[1]:
            _refuse(file, other, f"tensor {name!r}", *shapes)


def _hparams_of(file: GGUFFile) -> HParams:
    with naming(file.path):
        return read_hparams(file.metadata)


def _refuse(file: GGUFFile, other: GGUFFile, what: str, mine: str, its: str) -> NoReturn:
    raise DifferentModels(
        f"{other.path} is not the same model as {file.path}: {what} is {its}, not {mine}",
        hint="--against takes another quantization of the same model",
    )


def _said(value: object) -> str:
    if isinstance(value, PerLayer):
        return ", ".join(map(str, value.distinct()))
    return str(value)


def require_layer(layers: int, heads: Sequence[int], layer: int | None, head: int | None) -> None:
    """Raise ``NotInModel`` for a layer or a head that there is not; ``heads`` of each layer."""
    if layer is not None and not 0 <= layer < layers:
        raise NotInModel(f"there is no layer {layer}", hint=f"the layers are 0 to {layers - 1}")
    most = max(heads) if layer is None else heads[layer]
    if head is not None and not 0 <= head < most:
        raise NotInModel(f"there is no head {head}", hint=f"the heads are 0 to {most - 1}")


def _candidate(
    file: GGUFFile,
    name: str,
    preset: str,
    options: PlanOptions,
    part: Part,
    imatrix: ImportanceMatrix | None,
) -> Candidate:
    options = replace(options, importance=imatrix is not None)
    planned = plan(file.tensors.values(), file.metadata, preset, options)
    planned.require_runnable()
    types = _types(planned, part)
    importance = {}
    for tensor in planned.tensors:
        if tensor.source_name in types:
            weighed = importance_of(planned, tensor, imatrix)
            if weighed is not None:
                importance[tensor.source_name] = weighed
            jobs.require_makeable(
                tensor.target.name,
                tensor.name,
                importance=weighed is not None,
                given=imatrix.path if imatrix else None,
            )
    return Candidate(name if part == "all" else f"{name} ({part})", types, importance=importance)


def _types(planned: Plan, part: Part) -> dict[str, str]:
    """Return what the plan converts, of the part asked for."""
    groups = _GROUPS.get(part)
    return {
        tensor.source_name: tensor.target.name
        for tensor in planned.tensors
        if tensor.converted and (groups is None or role_of(tensor.source_name).group in groups)
    }


def _pure(type_: str) -> tuple[str, PlanOptions]:
    """Return the preset of which a type is the main one, to be applied with ``--pure``.

    For a type of no preset (NVFP4) a rule for every name stands in.
    """
    layout = _type_named(type_)
    for preset, mix in MIXES.items():
        if mix.type == layout:
            return preset, PlanOptions(pure=True, allow_requantize=True)
    rule = TypeRule(re.compile(""), layout)
    return "Q8_0", PlanOptions(pure=True, allow_requantize=True, tensor_types=(rule,))


def _type_named(type_: str) -> Layout:
    try:
        return layout_named(type_)
    except UnknownType as error:
        if type_.upper() in MIXES:
            raise UnknownType(
                f"{type_} is a mixture of types", hint=f"ask for it with --recipe {type_}"
            ) from None
        raise UnknownType(error.message, hint=error.hint) from None


def _cache_type(type_: str) -> str:
    layout = layout_named(type_)
    require_makeable(layout.name, "the KV cache")
    return layout.name
