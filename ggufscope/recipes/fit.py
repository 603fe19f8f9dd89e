"""The other way round: from the types that a model has to the preset that gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ggufscope.errors import GGUFScopeError
from ggufscope.model.file_types import FILE_TYPES, GUESSED, file_type_name
from ggufscope.model.keys import architecture_of
from ggufscope.recipes.categories import why_kept
from ggufscope.recipes.mixes import MIXES
from ggufscope.recipes.options import PlanOptions
from ggufscope.recipes.plan import Planner, TensorLike

_MANY: Final = 4096
"""Tensors beyond which a recipe is not looked for among all: with a tensor an expert there may be
47,000, and each preset takes its time."""
_CLOSE: Final = 0.5
"""The share of a model's matrices that may differ from a recipe which it is still called after."""
_ANOTHER_SIZE: Final = 0.25
"""How far from a recipe's size a mixture is of another one. Of a model of 8 billion weights Q4_K_M
is 22 % larger than Q3_K_M, and 55 % larger than Q2_K."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How the types of a model fit a recipe."""

    preset: str
    others: tuple[str, ...]
    """The tensors that have another type than it gives them."""
    matrices: int
    """How many tensors a recipe decides."""
    size: float
    """The bytes of these tensors, over those that it would make of them."""

    @property
    def exact(self) -> bool:
        """Whether every tensor has its type."""
        return not self.others

    @property
    def close(self) -> bool:
        """Whether so few have another type that the model is still called after the recipe."""
        return len(self.others) <= self.matrices * _CLOSE

    @property
    def misleading(self) -> bool:
        """Whether a model of this name is expected to be of quite another size."""
        return abs(self.size - 1) > _ANOTHER_SIZE


def fits_of(tensors: Sequence[TensorLike], metadata: Mapping[str, Any]) -> list[Fit]:
    """Return how presets fit, the best first: the declared one, and all where it does not fit.

    Nothing where types cannot be planned.
    """
    decided = _decided(tensors, metadata)
    if not decided:
        return []
    try:
        planner = Planner(tensors, metadata)
    except GGUFScopeError:
        return []
    declared = declared_of(metadata)
    found = [fit for fit in [_fit(planner, declared, decided)] if fit]
    if (found and found[0].exact) or len(tensors) > _MANY:
        return found
    others = (_fit(planner, each, decided) for each in FILE_TYPES.values() if each != declared)
    found += [fit for fit in others if fit]
    return sorted(found, key=lambda fit: len(fit.others))


def _decided(tensors: Sequence[TensorLike], metadata: Mapping[str, Any]) -> list[TensorLike]:
    architecture = architecture_of(metadata) or ""
    return [t for t in tensors if not why_kept(t.name, t.shape, architecture)]


def _fit(planner: Planner, preset: str | None, decided: list[TensorLike]) -> Fit | None:
    """Return how a preset fits, with an importance matrix or without; None where it cannot be."""
    found = []
    if preset is None or preset not in MIXES:
        return None
    for importance in (False, True):
        try:
            plan = planner.plan(preset, PlanOptions(importance=importance, keep_split=True))
        except GGUFScopeError:
            continue
        given = {tensor.source_name: tensor for tensor in plan.tensors}
        others = tuple(t.name for t in decided if given[t.name].target != t.type)
        nbytes = sum(given[t.name].nbytes for t in decided)
        size = sum(t.nbytes for t in decided) / nbytes if nbytes else 1.0
        found.append(Fit(preset, others, len(decided), size))
    return min(found, key=lambda fit: len(fit.others), default=None)


def declared_of(metadata: Mapping[str, Any]) -> str | None:
    """Return the recipe that a file is called after; None where it says none, or it is a guess."""
    number = metadata.get("general.file_type")
    guessed = isinstance(number, int) and number & GUESSED
    return None if guessed else file_type_name(number)


def recognized(tensors: Sequence[TensorLike], metadata: Mapping[str, Any]) -> str | None:
    """Return the preset that gives every tensor the type it has; None where none does."""
    fits = fits_of(tensors, metadata)
    return fits[0].preset if fits and fits[0].exact else None


def recipe_in_words(metadata: Mapping[str, Any], fits: list[Fit]) -> str | None:
    """Return what a file is by its types: ``Q4_K_M but for 14 tensors``; None where unknown."""
    declared = declared_of(metadata)
    fit = next((fit for fit in fits if fit.preset == declared), None)
    if fit is None or (not fit.exact and fits[0].exact) or not fit.close:
        fit = fits[0] if fits else None
    if fit is None or not fit.close:
        return "a mixture of its own" if fits else None
    if fit.exact:
        return fit.preset
    n = len(fit.others)
    return f"{fit.preset} but for {n} tensor{'s' if n > 1 else ''}"


def preset_words(tensors: Sequence[TensorLike], metadata: Mapping[str, Any]) -> str:
    """Return what a model was quantized to, in words; of one type alone, that type."""
    decided = _decided(tensors, metadata)
    names = {t.type.name for t in decided} or {t.type.name for t in tensors}
    if len(names) == 1:
        return names.pop()  # as the preset of that name gives it, or --pure
    return recipe_in_words(metadata, fits_of(tensors, metadata)) or "a mixture of its own"
