"""What a model weighs in every preset, on disk: the plan of ``llama-quantize --dry-run``, summed.

Each size is that of a ``Plan``, so that what is printed here is what ``quantize`` writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ggufscope.blocks.layouts import is_quantized
from ggufscope.container.file import GGUFFile
from ggufscope.errors import RecipeError
from ggufscope.model.keys import architecture_of
from ggufscope.recipes.metadata import importance_keys
from ggufscope.recipes.mixes import MIXES
from ggufscope.recipes.options import DEFAULTS, PlanOptions
from ggufscope.recipes.plan import Plan, Planner, TensorLike

AS_IT_IS: Final = "COPY"
"""The preset that changes nothing."""
NO_SMALLER: Final = "no smaller"
"""Why a preset is set aside that makes no file smaller: F32 and BF16, say, of F16 weights."""

USUAL_NAMES: Final = ("imatrix.gguf", "calibration_datav3.txt")
"""An importance matrix, and the text that it was made of, where their names are not known."""

_SET_ASIDE: Final = {
    **dict.fromkeys(("Q4_0", "Q4_1", "Q5_0", "Q5_1"), "older"),
    **dict.fromkeys(("TQ1_0", "TQ2_0", "Q1_0", "Q2_0"), "trained so"),
    "MXFP4_MOE": "gpt-oss",
}


def why_set_aside(preset: str, architecture: str | None) -> str:
    """Return why a preset is sized but not proposed; empty where it is.

    K-quants are better than what came before them at the same size, and some types are for models
    that were trained in them: quantizing another model so makes garbage of it.
    """
    return "" if architecture == "gpt-oss" and preset == "MXFP4_MOE" else _SET_ASIDE.get(preset, "")


def _gains_nothing(made: Plan) -> bool:
    return made.nbytes >= made.source_nbytes and any(t.converted for t in made.tensors)


@dataclass(frozen=True, slots=True)
class PresetSize:
    """A model in one preset."""

    plan: Plan
    file_nbytes: int | None = None
    """Bytes of the file, header and padding included; None for a shape, which has no header."""
    set_aside: str = ""
    """Why it is not proposed; empty where it may be."""

    @property
    def preset(self) -> str:
        """Its name."""
        return self.plan.preset

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors: what they take in memory."""
        return self.plan.nbytes

    @property
    def weighs(self) -> int:
        """Bytes of the file where they are known, else of the tensors."""
        return self.plan.nbytes if self.file_nbytes is None else self.file_nbytes

    @property
    def bits_per_weight(self) -> float:
        """Over all tensors."""
        return self.plan.bits_per_weight

    @property
    def fallbacks(self) -> int:
        """How many tensors get another type because their rows do not divide."""
        return len(self.plan.fallbacks)

    @property
    def needs_importance(self) -> bool:
        """Whether it is refused without an importance matrix."""
        return self.plan.needs_importance and not self.plan.options.importance

    @property
    def worth_making(self) -> bool:
        """Whether it is worth making, be there an importance matrix that it needs or not."""
        return not (self.set_aside or self.quantizes_twice)

    @property
    def proposed(self) -> bool:
        """Whether it can be made with what is at hand, and is worth making."""
        return self.worth_making and not self.needs_importance

    @property
    def is_quantized(self) -> bool:
        """Whether the source is quantized, in part at least."""
        return any(is_quantized(tensor.source) for tensor in self.plan.tensors)

    @property
    def quantizes_twice(self) -> bool:
        """Whether the source is quantized already, and would be again."""
        return self.plan.requantizes


@dataclass(frozen=True, slots=True)
class Refusal:
    """A preset that llama-quantize has, and this model cannot have."""

    preset: str
    why: str


@dataclass(frozen=True, slots=True)
class Target:
    """What a size to aim at comes to."""

    nearest: PresetSize | None
    """The largest preset that is no larger; None where all are."""
    next_larger: PresetSize | None
    with_importance: PresetSize | None = None
    """Where none is: the largest that would be with an importance matrix, or if none, the smallest
    that needs one."""


@dataclass(frozen=True, slots=True)
class PresetSizes:
    """Every preset of one model, the largest first."""

    sizes: tuple[PresetSize, ...]
    refused: tuple[Refusal, ...]

    def __getitem__(self, preset: str) -> PresetSize:
        return next(size for size in self.sizes if size.preset == preset)

    @property
    def are_all(self) -> bool:
        """Whether no preset was left out."""
        return len(self.sizes) + len(self.refused) == len(MIXES) - 1  # but for the copy

    def around(self, fits: Callable[[PresetSize], bool]) -> Target:
        """Return the largest proposed one that fits, and its larger neighbour."""
        proposed = [size for size in self.sizes if size.proposed]
        for index, size in enumerate(proposed):
            if fits(size):
                return Target(size, proposed[index - 1] if index else None)
        least = proposed[-1] if proposed else None
        weighed = [size for size in self.sizes if size.worth_making and size.needs_importance]
        below = weighed if least is None else [s for s in weighed if s.nbytes < least.nbytes]
        return Target(None, least, next(filter(fits, below), below[-1] if below else None))


def preset_sizes(
    tensors: Iterable[TensorLike],
    metadata: Mapping[str, Any],
    presets: Sequence[str] = (),
    options: PlanOptions = DEFAULTS,
) -> PresetSizes:
    """Size a model in every preset, or in those named, from its header alone.

    A preset that llama-quantize would refuse is told apart. Raises ``HyperparameterError`` for
    metadata by which nothing can be planned, ``UnknownPreset``.
    """
    planner = Planner(tensors, metadata)
    sizes: list[PresetSize] = []
    refused: list[Refusal] = []
    if isinstance(presets, str):  # a name is a sequence too, of its letters
        presets = [presets]
    for preset in presets or [name for name in MIXES if name != AS_IT_IS]:
        try:
            made = planner.plan(preset, options)
            aside = why_set_aside(made.preset, architecture_of(metadata))
            aside = aside or (NO_SMALLER if _gains_nothing(made) else "")
            sizes.append(PresetSize(made, set_aside=aside))
        except RecipeError as error:
            if presets:
                raise
            refused.append(Refusal(preset, error.message))
    return _sorted(sizes, refused)


def file_sizes(
    file: GGUFFile, presets: Sequence[str] = (), options: PlanOptions = DEFAULTS
) -> PresetSizes:
    """Size the files that ``quantize`` would write of a file, header and all.

    With an importance matrix the header names it, as llama-quantize does: here by usual names.
    Longer ones, or whole paths, take a byte for each character more, padded to 32.
    """
    from ggufscope.recipes.request import Request, outlook

    bare = preset_sizes(file.tensors.values(), file.metadata, presets, options)
    named = importance_keys(*USUAL_NAMES) if options.importance else {}
    prepared = outlook(Request(file, [size.plan for size in bare.sizes], overrides=named))
    weighed = zip(bare.sizes, prepared.targets, strict=True)
    return _sorted(
        [replace(size, file_nbytes=target.nbytes) for size, target in weighed], bare.refused
    )


def _sorted(sizes: Iterable[PresetSize], refused: Sequence[Refusal]) -> PresetSizes:
    return PresetSizes(
        tuple(sorted(sizes, key=lambda size: (-size.nbytes, size.preset))), tuple(refused)
    )
