"""Every preset as a candidate, those that make a model smaller, and why not the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ggufscope.container.file import GGUFFile
from ggufscope.errors import RecipeError
from ggufscope.measure.candidates import Candidate, of_recipes
from ggufscope.recipes.importance import ImportanceMatrix
from ggufscope.recipes.options import PlanOptions
from ggufscope.sizing.file_size import PresetSize, preset_sizes

_WORDS: Final[Mapping[str, str]] = {
    "trained so": "for models that were trained in its type",
    "gpt-oss": "for gpt-oss alone",
    "no smaller": "no smaller than the model is",
}


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A preset that is not tried."""

    preset: str
    why: str


def of_all_presets(
    file: GGUFFile, imatrix: ImportanceMatrix | None = None
) -> tuple[list[Candidate], list[LeftOut]]:
    """Return a candidate for each preset, the largest first, and those that are left out.

    Of presets that give every tensor the same type one is tried.
    """
    options = PlanOptions(allow_requantize=True, importance=imatrix is not None)
    sizes = preset_sizes(file.tensors.values(), file.metadata, (), options)
    left = [LeftOut(each.preset, each.why) for each in sizes.refused]
    found: list[Candidate] = []
    # Of equal ones that which is meant so comes first, not one that fell back to it.
    for size in sorted(sizes.sizes, key=lambda each: (-each.nbytes, each.fallbacks)):
        made, why = _tried(file, size, found, imatrix)
        if made is None:
            left.append(LeftOut(size.preset, why))
        else:
            found.append(made)
    return found, left


def _tried(
    file: GGUFFile, size: PresetSize, before: list[Candidate], imatrix: ImportanceMatrix | None
) -> tuple[Candidate | None, str]:
    """Return the candidate of a preset, or None and why there is none."""
    why = _why_left_out(size)
    if why:
        return None, why
    try:
        made = of_recipes(file, [size.preset], imatrix=imatrix)[0]
    except RecipeError as error:
        return None, error.message
    if not made.types:
        return None, "changes nothing"
    same = next((each.name for each in before if each.types == made.types), None)
    return (None, f"the same as {same}") if same else (made, "")


def _why_left_out(size: PresetSize) -> str:
    if size.needs_importance:
        return "needs an importance matrix: --imatrix"
    return _WORDS.get(size.set_aside, "")
