"""The other way round: from the types that a model has to the preset that gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ggufscope.errors import GGUFScopeError
from ggufscope.model.file_types import FILE_TYPES, file_type_name
from ggufscope.model.keys import architecture_of
from ggufscope.recipes.categories import why_kept
from ggufscope.recipes.mixes import MIXES
from ggufscope.recipes.options import PlanOptions
from ggufscope.recipes.plan import Planner, TensorLike

_MANY: Final = 4096
"""Tensors beyond which only the declared preset is tried: each takes its time."""
_CLOSE: Final = 0.5
"""The share of the matrices that may have other types, and the model is still called so."""


def preset_words(tensors: Sequence[TensorLike], metadata: Mapping[str, Any]) -> str:
    """Return what a model was quantized to: ``Q4_K_M``, ``Q4_K_M but for 2 tensors``.

    The declared preset counts where it fits; else the one that fits best. ``a mixture of types``
    where none fits half of the matrices, or the types cannot be planned.
    """
    architecture = architecture_of(metadata) or ""
    types = {t.name: t.type for t in tensors if not why_kept(t.name, t.shape, architecture)}
    names = {type_.name for type_ in types.values()} or {t.type.name for t in tensors}
    if len(names) == 1:
        return names.pop()  # as the preset of that name gives it, or --pure
    declared = file_type_name(metadata.get("general.file_type"))
    presets = [declared or "", *(FILE_TYPES.values() if len(tensors) <= _MANY else ())]
    best, fewest = "", len(types) * _CLOSE
    try:
        planner = Planner(tensors, metadata)
    except GGUFScopeError:
        presets = []
    known: list[str] = [preset for preset in dict.fromkeys(presets) if preset in MIXES]
    for preset in known:
        for importance in (False, True):
            try:
                plan = planner.plan(preset, PlanOptions(importance=importance, keep_split=True))
            except GGUFScopeError:
                continue
            others = sum(types.get(t.source_name, t.target) != t.target for t in plan.tensors)
            if not others:
                return preset
            if others < fewest:
                best, fewest = preset, others
    if not best:
        return "a mixture of types"
    return f"{best} but for {int(fewest)} tensor{'s' if fewest > 1 else ''}"
