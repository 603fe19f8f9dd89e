"""What the best file of a size, or for a memory, would be, by sensitivities that were kept."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ggufscope.blocks.layouts import layout_named
from ggufscope.container.file import GGUFFile
from ggufscope.errors import BadUsage
from ggufscope.recipes.metadata import importance_keys
from ggufscope.recipes.options import PlanOptions
from ggufscope.recipes.plan import Plan
from ggufscope.recipes.sensitivities import Sensitivities, model_digest
from ggufscope.recipes.tailoring import is_free
from ggufscope.sizing.budget import RunMemory
from ggufscope.sizing.file_size import USUAL_NAMES, PresetSize, file_sizes
from ggufscope.sizing.mixing import Frame, Mix, Mixing, worth_making


@dataclass(frozen=True, slots=True)
class Aim:
    """What a mix is to keep within: one of the first three."""

    nbytes: int | None = None
    """Of the file."""
    bits: float | None = None
    """A weight."""
    memory: int | None = None
    """Bytes, with a run of ``context`` tokens in them."""
    context: int | None = None
    preset: str = ""
    """Whose size it is; empty for one that was asked for."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The best mix for an aim, and what presets have to set against it."""

    aim: Aim
    mix: Mix | None
    """None where no choice is as small."""
    least: int
    """Bytes that the smallest choice has, counted as the aim counts them."""
    preset: PresetSize | None
    """The largest one within the aim whose cost is known; None where there is none."""
    predicted: float | None
    """Nats of that preset."""


def best_mixes(
    file: GGUFFile,
    known: Sensitivities,
    *,
    nbytes: int | None = None,
    bits: float | None = None,
    memories: Sequence[int] = (),
    runs: Sequence[RunMemory] = (),
    sizes_of: Collection[str] = (),
) -> tuple[Chosen, ...]:
    """Return the mix of the least predicted divergence for each size and memory.

    ``runs``: what each context takes beside the weights; each memory is looked at with each. Where
    nothing is asked for, the sizes of presets are: of all, or of those in ``sizes_of``. Raises
    ``BadUsage`` for sensitivities of another model, or of tensors whose types were set by hand.
    """
    tensors = file.tensors.values()
    known.require_model(model_digest((t.name, t.type.name, t.shape) for t in tensors))
    weighed = bool(known.importance)
    options = PlanOptions(importance=weighed, allow_requantize=True)
    sizes = file_sizes(file, options=options).sizes
    presets = worth_making(sizes, twice=False) or worth_making(sizes, twice=True)
    named = importance_keys(*USUAL_NAMES) if weighed else {}
    frame = Frame(file, presets, options, named)
    types = _types(frame.base, known)
    by_file = Mixing(frame, known.costs, types)
    by_tensors = Mixing(frame, known.costs, types, of_tensors=True)
    found = []
    asked = [each for each in by_file.rivals if not sizes_of or each.preset in sizes_of]
    for aim in _aims(asked, nbytes, bits, memories, runs):
        mixing = by_file if aim.nbytes is not None else by_tensors
        most = _most(aim, frame.base.n_elements, runs)
        within = (r for r in mixing.rivals if (r.weighs if aim.nbytes else r.nbytes) <= most)
        preset = next(within, None)
        predicted = None if preset is None else mixing.predicted(preset.plan)
        found.append(Chosen(aim, mixing.within(most), mixing.least, preset, predicted))
    return tuple(found)


def _types(base: Plan, known: Sensitivities) -> dict[str, list[str]]:
    """Return the types of each free tensor that were measured, the smallest first."""
    found: dict[str, list[str]] = {}
    for tensor in filter(is_free, base.tensors):
        measured: Mapping[str, Any] = known.costs.get(tensor.source_name, {})
        if not measured:
            raise BadUsage(
                f"the sensitivities do not say what {tensor.source_name!r} costs",
                hint="measure anew, with no type set by hand",
            )
        by_bits = {name: layout_named(name).bits_per_weight for name in measured}
        found[tensor.source_name] = sorted(by_bits, key=lambda name: by_bits[name])
    return found


def _aims(
    rivals: Sequence[PresetSize],
    nbytes: int | None,
    bits: float | None,
    memories: Sequence[int],
    runs: Sequence[RunMemory],
) -> Iterator[Aim]:
    if nbytes is not None:
        yield Aim(nbytes=nbytes)
    if bits is not None:
        yield Aim(bits=bits)
    for memory in memories:
        for run in runs:
            yield Aim(memory=memory, context=run.settings.context)
    if nbytes is None and bits is None and not memories:
        for size in rivals:
            yield Aim(nbytes=size.weighs, preset=size.preset)


def _most(aim: Aim, n_elements: int, runs: Sequence[RunMemory]) -> int:
    """Return the bytes that the file, or its tensors alone, may have."""
    if aim.nbytes is not None:
        return aim.nbytes
    if aim.bits is not None:
        return int(aim.bits * n_elements / 8)
    run = next(run for run in runs if run.settings.context == aim.context)
    return (aim.memory or 0) - run.with_weights(0).high
