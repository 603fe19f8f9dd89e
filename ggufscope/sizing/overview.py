"""All that ``ggufscope size`` can say of one model, in the order of the questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from ggufscope.errors import HyperparameterError, NotDerivable
from ggufscope.model.hparams import HParams, read_hparams, text_of
from ggufscope.recipes.options import DEFAULTS, PlanOptions
from ggufscope.recipes.plan import TensorLike
from ggufscope.sizing.budget import RunMemory, run_memory
from ggufscope.sizing.file_size import (
    AS_IT_IS,
    PresetSize,
    PresetSizes,
    Target,
    file_sizes,
    preset_sizes,
)
from ggufscope.sizing.fitting import Fit, FitTable, fit_table
from ggufscope.sizing.model_shape import ModelShape
from ggufscope.sizing.offload import SplitRow, split_rows
from ggufscope.sizing.settings import RunSettings
from ggufscope.sizing.sharing import Sharing, sharings

if TYPE_CHECKING:
    from ggufscope.container.file import GGUFFile

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


@dataclass(frozen=True, slots=True)
class Overview:
    """The answers; what was not asked for is empty."""

    name: str
    hparams: HParams | None
    n_elements: int
    assumes: str
    as_it_is: PresetSize | None
    """The file itself; None for a shape."""
    sizes: PresetSizes
    runs: tuple[RunMemory, ...]
    """One for each context."""
    no_runs: str
    """Why nothing is said of running it; empty where something is."""
    sharings: tuple[Sharing, ...]
    fits: tuple[FitTable, ...]
    splits: tuple[tuple[int, tuple[SplitRow, ...]], ...]
    """(context, a row for the file itself and for each preset) for each context."""
    targets: tuple[tuple[int | float, Target], ...]
    """(bytes, or bits a weight as a float) and what comes nearest."""

    @property
    def nothing_fits(self) -> bool:
        """Whether the answer to some question is no for every preset."""
        fits = bool(self.fits) and not any(table.any_fits for table in self.fits)
        splits = bool(self.splits) and not any(
            row.fits is Fit.YES and row.size.proposed for _, rows in self.splits for row in rows
        )
        return fits or splits or any(target.nearest is None for _, target in self.targets)


def overview_of_shape(shape: ModelShape, question: Question) -> Overview:
    """Answer for a named shape.

    Raises what ``preset_sizes`` raises; and where it is asked what fits, what ``memory_of`` raises.
    """

    def sizes(presets: Sequence[str] | None) -> PresetSizes:
        return preset_sizes(shape.tensors, shape.metadata, presets, question.options)

    return _overview(
        shape.name, shape.tensors, shape.metadata, question, sizes, None, shape.assumes
    )


def overview_of_file(file: GGUFFile, question: Question) -> Overview:
    """Answer for a file, from its header; raises the same."""

    def sizes(presets: Sequence[str] | None) -> PresetSizes:
        return file_sizes(file, presets, question.options)

    (itself,) = preset_sizes(file.tensors.values(), file.metadata, [AS_IT_IS]).sizes
    return _overview(
        text_of(file.metadata, "general.name") or file.path.name,
        list(file.tensors.values()),
        file.metadata,
        question,
        sizes,
        replace(itself, file_nbytes=file.nbytes),
        "",
    )


def _overview(
    name: str,
    tensors: Sequence[TensorLike],
    metadata: Mapping[str, Any],
    question: Question,
    size: Callable[[Sequence[str] | None], PresetSizes],
    itself: PresetSize | None,
    assumes: str,
) -> Overview:
    sizes = size(question.presets or None)
    hparams, why = _hparams(metadata)
    contexts = question.contexts or _contexts(hparams)
    runs: tuple[RunMemory, ...] = ()
    shared: tuple[Sharing, ...] = ()
    fits: tuple[FitTable, ...] = ()
    splits: tuple[tuple[int, tuple[SplitRow, ...]], ...] = ()
    settings = question.settings
    if hparams is not None:
        try:
            runs = tuple(run_memory(hparams, replace(settings, context=c)) for c in contexts)
        except NotDerivable as error:
            if question.limits or question.vram is not None:
                raise
            why = error.message
        else:
            shared = _sharings(tensors, hparams, replace(settings, context=contexts[-1]))
            fits = tuple(
                fit_table(sizes.sizes, hparams, settings, contexts, limit, itself)
                for limit in question.limits
            )
        if question.vram is not None:
            splits = tuple(
                (c, tuple(_split(sizes, itself, hparams, replace(settings, context=c), question)))
                for c in contexts
            )
    elif question.limits or question.vram is not None:
        raise HyperparameterError(why)
    return Overview(
        name,
        hparams,
        (itself or sizes.sizes[0]).plan.n_elements,
        assumes,
        itself,
        sizes,
        runs,
        why,
        shared,
        fits,
        splits,
        _targets(sizes, question),
    )


def _hparams(metadata: Mapping[str, Any]) -> tuple[HParams | None, str]:
    try:
        return read_hparams(metadata), ""
    except HyperparameterError as error:
        return None, error.message


def _contexts(hparams: HParams | None) -> tuple[int, ...]:
    most = (hparams.context_length if hparams else None) or CONTEXTS[-1]
    return tuple(context for context in CONTEXTS if context <= most) or (most,)


def _sharings(
    tensors: Sequence[TensorLike], hparams: HParams, settings: RunSettings
) -> tuple[Sharing, ...]:
    try:
        return tuple(sharings(tensors, hparams, settings))
    except NotDerivable:
        return ()


def _split(
    sizes: PresetSizes,
    itself: PresetSize | None,
    hparams: HParams,
    settings: RunSettings,
    question: Question,
) -> list[SplitRow]:
    assert question.vram is not None
    listed = [*([itself] if itself else []), *sizes.sizes]
    return split_rows(listed, hparams, settings, question.vram, question.ram)


def _targets(sizes: PresetSizes, question: Question) -> tuple[tuple[int | float, Target], ...]:
    found: list[tuple[int | float, Target]] = []
    if (nbytes := question.target_nbytes) is not None:
        found.append((nbytes, sizes.around(lambda size: size.weighs <= nbytes)))
    if (bits := question.target_bits) is not None:
        found.append((bits, sizes.around(lambda size: size.bits_per_weight <= bits)))
    return tuple(found)
