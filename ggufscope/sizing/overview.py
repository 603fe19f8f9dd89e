"""All that ``ggufscope size`` can say of one model, in the order of the questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ggufscope.container.file import GGUFFile, open_gguf
from ggufscope.container.places import address_elsewhere, path_in_store
from ggufscope.errors import BadUsage, HyperparameterError, NotDerivable, naming
from ggufscope.model.hparams import HParams, read_hparams
from ggufscope.model.keys import text_of
from ggufscope.model.required import warnings_of
from ggufscope.recipes.options import DEFAULTS, PlanOptions
from ggufscope.sizing.bare import parse_count
from ggufscope.sizing.budget import RunMemory, run_memory
from ggufscope.sizing.file_size import (
    AS_IT_IS,
    PresetSize,
    PresetSizes,
    Target,
    file_sizes,
    preset_sizes,
)
from ggufscope.sizing.fitting import FitTable, fit_table
from ggufscope.sizing.here import Here
from ggufscope.sizing.model_shape import ModelShape
from ggufscope.sizing.names import shape_named, shapes_like
from ggufscope.sizing.offload import SplitTable, split_table
from ggufscope.sizing.settings import RunSettings
from ggufscope.sizing.sharing import Sharing, sharings

if TYPE_CHECKING:
    from ggufscope.recipes.plan import TensorLike
    from ggufscope.recipes.sensitivities import Sensitivities
    from ggufscope.sizing.chosen import Chosen

CONTEXTS: Final = (4096, 16384)
"""Lengths of context that are shown where none is asked for, if the model was made for them."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a model."""

    contexts: tuple[int, ...] = ()
    settings: RunSettings = field(default_factory=lambda: RunSettings(CONTEXTS[0]))
    """Its context is replaced by each of ``contexts``."""
    limits: tuple[int, ...] = ()
    """Memories in which it is to fit, in bytes."""
    vram: int | None = None
    ram: int | None = None
    """Of the host, where a GPU has ``vram``; None for enough."""
    target_nbytes: int | None = None
    target_bits: float | None = None
    presets: tuple[str, ...] = ()
    """None named: all of them."""
    options: PlanOptions = DEFAULTS
    known: Sensitivities | None = None
    """What types cost, where that was measured: then mixes are chosen, too."""
    here: Here | None = None
    """This machine, where ``limits``, ``vram`` and ``ram`` are what it has free."""


@dataclass(frozen=True, slots=True)
class Overview:
    """The answers; what was not asked for is empty."""

    name: str
    hparams: HParams | None
    assumes: str
    as_it_is: PresetSize | None
    """The file itself; None for a shape."""
    sizes: PresetSizes
    targets: tuple[tuple[int | float, Target], ...]
    """(bytes, or bits a weight as a float) and what comes nearest."""
    runs: tuple[RunMemory, ...] = ()
    """One for each context."""
    no_runs: str = ""
    """Why nothing is said of running it; empty where something is."""
    sharings: tuple[Sharing, ...] = ()
    fits: tuple[FitTable, ...] = ()
    splits: tuple[SplitTable, ...] = ()
    """One for each context."""
    mixes: tuple[Chosen, ...] = ()
    here: Here | None = None
    warnings: tuple[str, ...] = ()

    @property
    def n_elements(self) -> int:
        """Weights of the whole model."""
        return (self.as_it_is or self.sizes.sizes[0]).plan.n_elements

    @property
    def weights(self) -> list[PresetSize]:
        """What the memory of a run is added to: the file as it is, or two usual presets."""
        if self.as_it_is:
            return [self.as_it_is]
        listed = self.sizes.sizes
        return [each for each in listed if each.preset in ("Q8_0", "Q4_K_M")] or [*listed[:2]]

    @property
    def nothing_fits(self) -> bool:
        """Whether the answer to some question is no: for a file, as it is; else for any preset."""
        fits = bool(self.fits) and not any(table.any_fits for table in self.fits)
        splits = bool(self.splits) and not any(table.any_fits for table in self.splits)
        return fits or splits or any(target.nearest is None for _, target in self.targets)


def named(text: str) -> Path | ModelShape | int:
    """Return what is named: a file, a shape, or a count of weights.

    A path that leads nowhere is a file all the same, unless it is a name such as
    ``meta-llama/Llama-3.1-8B``. Raises ``UnknownShape``, ``BadUsage`` for a count of nothing.
    """
    path = Path(text)
    try:
        if path.exists():
            return path
    except (OSError, ValueError):  # too long for a name, or a NUL in it
        pass
    count = parse_count(text)
    if count is not None:
        return count
    stored = path_in_store(path)
    if stored is not None:
        return stored
    if address_elsewhere(path) is not None and (":" in text or "gguf" in text.lower()):
        return path  # what is a repository of GGUF files, or says where it is
    if path.suffix.lower() == ".gguf" or text.startswith((".", "/", "~")):
        return path
    owned = len(path.parts) == 2 and len(shapes_like(text)) == 1
    return path if len(path.parts) > 1 and not owned else shape_named(text)


def overview_of(model: Path | ModelShape, question: Question) -> Overview:
    """Answer for a file or a shape.

    Raises what opening a file and ``preset_sizes`` raise; where it is asked what fits, what
    ``memory_of`` raises.
    """
    if isinstance(model, ModelShape):
        if question.known is not None:
            raise BadUsage("sensitivities are of a file's tensors", hint="name the GGUF file")
        return overview_of_shape(model, question)
    with open_gguf(model) as file, naming(model):
        return overview_of_file(file, question)


def overview_of_shape(shape: ModelShape, question: Question) -> Overview:
    """Answer for a named shape; raises the same."""
    sizes = preset_sizes(shape.tensors, shape.metadata, question.presets, question.options)
    found = _overview(shape.name, shape.metadata, sizes, None, question, shape.tensors)
    return replace(found, assumes=shape.assumes)


def overview_of_file(file: GGUFFile, question: Question) -> Overview:
    """Answer for a file, from its header; raises the same."""
    tensors = tuple(file.tensors.values())
    (itself,) = preset_sizes(tensors, file.metadata, [AS_IT_IS]).sizes
    itself = replace(itself, file_nbytes=file.nbytes)
    sizes = file_sizes(file, question.presets, question.options)
    name = text_of(file.metadata, "general.name") or file.path.name
    found = _overview(name, file.metadata, sizes, itself, question, tensors)
    if question.known is not None:
        from ggufscope.sizing.chosen import best_mixes

        chosen = best_mixes(
            file,
            question.known,
            nbytes=question.target_nbytes,
            bits=question.target_bits,
            memories=question.limits,
            runs=found.runs,
            sizes_of=[size.preset for size in sizes.sizes] if question.presets else (),
        )
        found = replace(found, mixes=chosen)
    return replace(found, warnings=(*warnings_of(file), *found.warnings))


def _overview(
    name: str,
    metadata: Mapping[str, Any],
    sizes: PresetSizes,
    itself: PresetSize | None,
    question: Question,
    tensors: Sequence[TensorLike],
) -> Overview:
    asks_memory = bool(question.limits) or question.vram is not None
    targets = _targets(sizes, question)
    try:
        hparams = read_hparams(metadata)
    except HyperparameterError as error:
        if asks_memory:
            raise
        return Overview(name, None, "", itself, sizes, targets, no_runs=error.message)
    contexts = question.contexts or _contexts(hparams)
    settings = [replace(question.settings, context=context) for context in contexts]
    made_for = hparams.context_length
    warnings = question.here.warnings() if question.here else ()
    if made_for and max(question.contexts, default=0) > made_for:
        warnings += (f"the model was made for {made_for:,} tokens of context",)
    found = Overview(
        name, hparams, "", itself, sizes, targets, here=question.here, warnings=warnings
    )
    try:
        found = replace(found, runs=tuple(run_memory(hparams, each) for each in settings))
    except NotDerivable as error:
        if asks_memory:
            raise
        return replace(found, no_runs=error.message)
    listed = [*([itself] if itself else []), *sizes.sizes]
    vram = question.vram
    return replace(
        found,
        sharings=_sharings(tensors, hparams, settings[-1]),
        fits=tuple(
            fit_table(sizes.sizes, hparams, question.settings, contexts, limit, itself)
            for limit in question.limits
        ),
        splits=()
        if vram is None
        else tuple(split_table(listed, hparams, each, vram, question.ram) for each in settings),
    )


def _contexts(hparams: HParams) -> tuple[int, ...]:
    most = hparams.context_length or CONTEXTS[-1]
    return tuple(context for context in CONTEXTS if context <= most) or (most,)


def _sharings(
    tensors: Sequence[TensorLike], hparams: HParams, settings: RunSettings
) -> tuple[Sharing, ...]:
    try:
        return tuple(sharings(tensors, hparams, settings))
    except NotDerivable:
        return ()


def _targets(sizes: PresetSizes, question: Question) -> tuple[tuple[int | float, Target], ...]:
    found: list[tuple[int | float, Target]] = []
    if (nbytes := question.target_nbytes) is not None:
        found.append((nbytes, sizes.around(lambda size: size.weighs <= nbytes)))
    if (bits := question.target_bits) is not None:
        found.append((bits, sizes.around(lambda size: size.bits_per_weight <= bits)))
    return tuple(found)
