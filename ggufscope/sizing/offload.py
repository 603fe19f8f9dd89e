"""Two memories: how many layers go on the GPU, and what stays with the CPU.

Layers move from the last to the first, the output before all of them; each takes its part of the
cache along. The embedding stays, since rows are only looked up in it; where it serves as output
matrix too, the GPU has a copy. Logits end in the host's memory, and each side that holds layers
needs room to compute. Follows ``load_tensors`` in llama.cpp's ``llama-model.cpp``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ggufscope.model.hparams import HParams
from ggufscope.model.roles import role_of
from ggufscope.recipes.plan import PlannedTensor
from ggufscope.sizing.budget import Range, RunMemory, run_memory
from ggufscope.sizing.file_size import AS_IT_IS, PresetSize
from ggufscope.sizing.fitting import Fit, fit
from ggufscope.sizing.settings import RunSettings

_INPUT = ("token_embd", "position_embd", "token_types", "token_embd_norm", "per_layer_token_embd")


@dataclass(frozen=True, slots=True)
class Split:
    """A model on two devices."""

    gpu_layers: int
    """llama.cpp's ``-ngl``: the output counts as a layer."""
    layers: int
    """As many as there could be."""
    vram: Range
    ram: Range


@dataclass(frozen=True, slots=True)
class SplitRow:
    """One preset on two devices."""

    size: PresetSize
    split: Split
    fits: Fit
    """In both memories."""

    @property
    def is_whole(self) -> bool:
        """Whether all of it is on the GPU."""
        return self.split.gpu_layers == self.split.layers


@dataclass(frozen=True, slots=True)
class SplitTable:
    """Every preset on two devices, the file as it is before them."""

    context: int
    rows: tuple[SplitRow, ...]

    @property
    def itself(self) -> SplitRow | None:
        """The file as it is; None for a shape."""
        return next((row for row in self.rows if row.size.preset == AS_IT_IS), None)

    @property
    def runnable(self) -> list[SplitRow]:
        """Presets that fit and are proposed, the largest first; none of a quantized file."""
        if self.itself is not None and self.itself.size.is_quantized:
            return []
        return [
            row
            for row in self.rows
            if row.fits is Fit.YES and row.size.proposed and row.size.preset != AS_IT_IS
        ]

    @property
    def any_fits(self) -> bool:
        """Whether the file as it is fits in both memories; of a shape, some preset."""
        return self.itself.fits is Fit.YES if self.itself else bool(self.runnable)


def split_table(
    sizes: Iterable[PresetSize], hparams: HParams, settings: RunSettings, vram: int, ram: int | None
) -> SplitTable:
    """Put as many layers on the GPU as its memory has room for, for each preset.

    ``ram`` None means that there is enough of it. Raises what ``run_memory`` raises.
    """
    run = run_memory(hparams, settings)
    rows = []
    for size in sizes:
        split = split_at_most(size.plan.tensors, hparams, run, vram)
        rows.append(SplitRow(size, split, Fit.YES if ram is None else fit(split.ram, ram)))
    return SplitTable(settings.context, tuple(rows))


def split_at_most(
    tensors: Iterable[PlannedTensor], hparams: HParams, run: RunMemory, vram: int
) -> Split:
    """Return the split with the most layers on a GPU of ``vram`` bytes."""
    places = _Places(tensors, hparams)
    total = hparams.block_count - hparams.nextn_predict_layers + 1
    for count in range(total, 0, -1):
        split = _split(places, run, count, total)
        if split.vram.high <= vram:
            return split
    return _split(places, run, 0, total)


class _Places:
    """The weights of a model by where they can go."""

    def __init__(self, tensors: Iterable[PlannedTensor], hparams: HParams) -> None:
        self.width = hparams.embedding_length or 0
        self.layers: dict[int, int] = {}
        self.input = self.output = embedding = 0
        tied = True
        for tensor in tensors:
            role = role_of(tensor.name)
            if role.layer is not None:
                self.layers[role.layer] = self.layers.get(role.layer, 0) + tensor.nbytes
            elif role.stem in _INPUT:
                self.input += tensor.nbytes
                embedding += tensor.nbytes if role.stem == "token_embd" else 0
            else:
                self.output += tensor.nbytes
                tied = tied and role.stem != "output"
        self.copy = embedding if tied else 0


def _split(places: _Places, run: RunMemory, count: int, total: int) -> Split:
    first = total - count
    cache: dict[bool, int] = {True: 0, False: 0}
    for part in run.cache.parts:
        cache[part.layer >= first] += part.nbytes
    weights: dict[bool, int] = {True: 0, False: places.input}
    for layer, nbytes in places.layers.items():
        weights[layer >= first] += nbytes
    weights[count > 0] += places.output
    looked_up = 4 * run.settings.tokens_at_once * places.width
    vram = Range(0, 0)
    if count:
        vram = run.compute + (weights[True] + places.copy + cache[True])
    there = run.compute if count < total else Range(looked_up, looked_up)
    return Split(count, total, vram, there + (weights[False] + cache[False] + run.logits))
