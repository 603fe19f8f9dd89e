"""What the file says it was quantized to, against the types that its tensors have.

The types that a recipe gives are ``recipes/``'s, which are llama-quantize's of today.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ggufscope.blocks.layouts import Layout
from ggufscope.checking.findings import Finding, note, warning
from ggufscope.container.file import GGUFFile, Tensor
from ggufscope.errors import GGUFScopeError
from ggufscope.model.file_types import FILE_TYPES, GUESSED, file_type_name
from ggufscope.model.keys import architecture_of
from ggufscope.recipes.categories import why_kept
from ggufscope.recipes.mixes import MIXES
from ggufscope.recipes.options import PlanOptions
from ggufscope.recipes.plan import Planner

_MANY: Final = 4096
"""Tensors beyond which a recipe is not looked for among all: with a tensor an expert there may be
47,000, and each preset takes its time."""
_CLOSE: Final = 0.5
"""The share of a model's matrices that may differ from a recipe which it is still called after."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How the types of a file fit a recipe."""

    preset: str
    others: tuple[str, ...]
    """The tensors that have another type than it gives them."""
    matrices: int
    """How many tensors a recipe decides."""

    @property
    def exact(self) -> bool:
        """Whether every tensor has its type."""
        return not self.others


def fits_of(file: GGUFFile) -> list[Fit]:
    """Return how presets fit, the best first: the declared one, and all where it does not fit.

    Nothing where types cannot be planned.
    """
    tensors = list(file.tensors.values())
    architecture = architecture_of(file.metadata) or ""
    decided = [t for t in tensors if not why_kept(t.name, t.shape, architecture)]
    if not decided:
        return []
    try:
        planner = Planner(tensors, file.metadata)
    except GGUFScopeError:
        return []
    declared = declared_of(file.metadata)
    found = [fit for fit in [_fit(planner, declared, decided)] if fit]
    if (found and found[0].exact) or len(tensors) > _MANY:
        return found
    others = (_fit(planner, each, decided) for each in FILE_TYPES.values() if each != declared)
    found += [fit for fit in others if fit]
    return sorted(found, key=lambda fit: len(fit.others))


def _fit(planner: Planner, preset: str | None, decided: list[Tensor]) -> Fit | None:
    """Return how a preset fits, with an importance matrix or without; None where it cannot be."""
    found = []
    if preset is None or preset not in MIXES:
        return None
    for importance in (False, True):
        try:
            plan = planner.plan(preset, PlanOptions(importance=importance, keep_split=True))
        except GGUFScopeError:
            continue
        given = {tensor.source_name: tensor.target for tensor in plan.tensors}
        others = tuple(t.name for t in decided if given.get(t.name) != t.type)
        found.append(Fit(preset, others, len(decided)))
    return min(found, key=lambda fit: len(fit.others), default=None)


def recipe_in_words(file: GGUFFile, fits: list[Fit]) -> str | None:
    """Return what a file is by its types: ``Q4_K_M but for 14 tensors``; None where unknown."""
    declared = declared_of(file.metadata)
    fit = next((fit for fit in fits if fit.preset == declared), None)
    if fit is None or (not fit.exact and fits[0].exact) or len(fit.others) > fit.matrices * _CLOSE:
        fit = fits[0] if fits else None
    if fit is None or len(fit.others) > fit.matrices * _CLOSE:
        return "a mixture of its own" if fits else None
    if fit.exact:
        return fit.preset
    n = len(fit.others)
    return f"{fit.preset} but for {n} tensor{'s' if n > 1 else ''}"


def recipe_findings(file: GGUFFile, fits: list[Fit]) -> Iterator[Finding]:
    """Yield a ``general.file_type`` that the types of the tensors are not."""
    declared = declared_of(file.metadata)
    if declared is None or not fits:
        return
    key = "general.file_type"
    fit = next((fit for fit in fits if fit.preset == declared), None)
    if fit is None:
        yield note(
            "recipe",
            f"'{key}' is {file.metadata.get(key)}, a recipe that this program does not know",
            "it was retired, or is newer than this program; llama.cpp goes by each tensor's type",
            "nothing has to be done",
            key=key,
        )
        return
    if fit.exact:
        return
    best = fits[0]
    n, first = len(fit.others), fit.others[0]
    by = f"the first {first!r} ({file.tensors[first].type.name})"
    if best.exact or len(fit.others) > fit.matrices * _CLOSE:
        really = f"it is {best.preset}" if best.exact else "it is a mixture of its own"
        yield warning(
            "recipe",
            f"called {declared}; {n} of {fit.matrices} matrices have other types, {by}: {really}",
            "the name tells the wrong size and quality; llama.cpp goes by each tensor's type",
            "--recipe-out FILE writes down the types that it has",
            key=key,
        )
    else:
        yield note(
            "recipe",
            f"called {declared}, is {declared} but for {n} of {fit.matrices} matrices, {by}",
            "it was made with types by hand, by another program, or by another llama-quantize",
            "nothing has to be done; --recipe-out FILE writes down the types that it has",
            key=key,
        )


def declared_of(metadata: Mapping[str, Any]) -> str | None:
    """Return the recipe that a file is called after; None where it says none, or it is a guess."""
    number = metadata.get("general.file_type")
    guessed = isinstance(number, int) and number & GUESSED
    return None if guessed else file_type_name(number)


def type_rules(file: GGUFFile) -> str:
    """Return the types of a model's matrices as a ``--tensor-type-file``: a rule for each.

    Quantizing the unquantized model by these rules, with any preset, gives these types again.
    """
    architecture = architecture_of(file.metadata) or ""
    lines = []
    for tensor in file.tensors.values():
        kept = why_kept(tensor.name, tensor.shape, architecture)
        if isinstance(tensor.type, Layout) and not kept:
            # Patterns are read in lower case, and end at a blank: what else is there is any letter.
            name = re.sub(r"[^a-z0-9_.]", "?", tensor.name)
            pattern = re.escape(name).replace(r"\?", ".")
            lines.append(f"^{pattern}$={tensor.type.name.lower()}\n")
    return "".join(lines)
