"""The best mix of a size, by what its types were measured to cost: a header's work.

::

    mixing = Mixing(file, costs, presets, options=options)
    mixing.within(4 << 30)          # what a file of 4 GiB at the most can have

Nothing is run here. ``measure/tailor.py`` measures the costs, and tries what is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ggufscope.blocks.layouts import LAYOUTS
from ggufscope.container.file import GGUFFile
from ggufscope.container.header import alignment_of
from ggufscope.container.tensor_info import padded
from ggufscope.container.values import Value
from ggufscope.errors import BadUsage
from ggufscope.recipes.importance import ImportanceMatrix
from ggufscope.recipes.knapsack import Item, Knapsack, Selection
from ggufscope.recipes.metadata import overridden
from ggufscope.recipes.mixes import mix_named
from ggufscope.recipes.options import DEFAULTS, PlanOptions
from ggufscope.recipes.plan import Plan
from ggufscope.recipes.request import Request, outlook
from ggufscope.recipes.tailoring import is_free, tailored
from ggufscope.sizing.file_size import PresetSize

_FIRST: Final = "Q4_K_M"
"""The preset that says what is free to choose, before a size is known."""


@dataclass(frozen=True, slots=True)
class Way:
    """One type that a tensor could have."""

    type: str
    nbytes: int
    cost: float
    """Predicted, in nats."""


@dataclass(frozen=True, slots=True)
class Mix:
    """A type for each tensor, chosen."""

    plan: Plan
    nbytes: int
    """Of the file."""
    predicted: float
    """Nats, by what was measured."""
    selection: Selection


@dataclass(frozen=True, slots=True)
class Frame:
    """What a mix is of, and what else is in its file."""

    file: GGUFFile
    presets: Sequence[PresetSize]
    """Those that can be made, the largest first."""
    options: PlanOptions = DEFAULTS
    overrides: Mapping[str, Value] = field(default_factory=dict)
    split_max_size: int | None = None
    imatrix: ImportanceMatrix | None = None

    @property
    def base(self) -> Plan:
        """The plan that says what is free to choose. Raises ``BadUsage`` where there is none."""
        first = next((each for each in self.presets if each.preset == _FIRST), None)
        if first is None and not self.presets:
            raise BadUsage(
                "no preset can be made of this model, and so no mix either",
                hint="`ggufscope size` says why; a quantized source needs --allow-requantize",
            )
        return (first or self.presets[0]).plan

    def plan(self, types: Mapping[str, str], preset: str) -> Plan:
        """Return a preset's plan with these types for these tensors."""
        metadata = overridden(self.file.metadata, self.overrides)
        return tailored(self.file.tensors.values(), metadata, preset, self.options, types)

    def nbytes(self, plan: Plan) -> int:
        """Return the bytes of the file or files that a plan becomes."""
        request = Request(
            self.file,
            [plan],
            overrides=self.overrides,
            split_max_size=self.split_max_size,
            imatrix=self.imatrix,
        )
        return outlook(request).targets[0].nbytes

    @property
    def alignment(self) -> int:
        """To so many bytes each tensor is padded."""
        return alignment_of(self.file.shards[0].header.metadata)


def worth_making(sizes: Sequence[PresetSize], *, twice: bool) -> list[PresetSize]:
    """Return the presets that a mix may be held to; ``twice``: what is quantized already may be."""
    return [
        size
        for size in sizes
        if not (size.needs_importance or size.set_aside) and (twice or not size.quantizes_twice)
    ]


class Mixing:
    """Chooses one type for each free tensor of a model."""

    def __init__(
        self,
        frame: Frame,
        costs: Mapping[str, Mapping[str, float]],
        types: Mapping[str, Sequence[str]],
        *,
        of_tensors: bool = False,
    ) -> None:
        """``types``: free tensor -> those it may have, the smallest first, all with a cost.

        ``of_tensors``: bytes are counted of the tensors alone, not of the file.
        """
        self._frame, self._base, self._of_tensors = frame, frame.base, of_tensors
        self._elements = {t.source_name: t.n_elements for t in self._base.tensors}
        self.ways = {
            name: tuple(
                Way(each, LAYOUTS[each].row_bytes(self._elements[name]), costs[name][each])
                for each in several
            )
            for name, several in types.items()
        }
        """By tensor, the smallest first."""
        self._knapsack = Knapsack(
            [
                [Item(self._stored(way.nbytes), way.cost) for way in ways]
                for ways in self.ways.values()
            ]
        )
        self._rest = self._overhead()
        self.rivals = [size for size in frame.presets if self._allows(size.plan)]
        """The presets of these types alone, the largest first."""

    @property
    def least(self) -> int:
        """Bytes of the smallest choice."""
        return self._rest + self._knapsack.least

    @property
    def frontier(self) -> tuple[tuple[int, float], ...]:
        """Bytes and the least predicted nats, from the smallest choice to the largest."""
        return tuple((step.nbytes + self._rest, step.cost) for step in self._knapsack.steps)

    def within(self, nbytes: int) -> Mix | None:
        """Return the mix of the least cost in so many bytes; None where none is as small."""
        room = nbytes - self._rest
        while (selection := self._knapsack.cheapest(room)) is not None:
            mix = self._mix(selection)
            over = 0 if self._of_tensors else mix.nbytes - nbytes
            if over <= 0:
                return mix
            room -= over  # of more shards than were reckoned with, headers take more
        return None

    def no_further(self, cost: float) -> Mix | None:
        """Return the smallest mix that is predicted to cost no more; None where all do."""
        selection = self._knapsack.smallest(cost)
        return None if selection is None else self._mix(selection)

    def predicted(self, plan: Plan) -> float:
        """Return what a plan of these types costs, in nats."""
        costs = {(name, way.type): way.cost for name, ways in self.ways.items() for way in ways}
        types = ((t.source_name, t.target.name) for t in plan.tensors)
        return sum(costs[each] for each in types if each[0] in self.ways)

    def _mix(self, selection: Selection) -> Mix:
        """Return a selection as a plan, in the preset of one of its types nearest in size."""
        pairs = zip(self.ways.items(), selection.items, strict=True)
        types = {name: ways[at].type for (name, ways), at in pairs}
        made, used = self._base, {LAYOUTS[type_] for type_ in types.values()}
        presets = self._frame.presets
        named = [size for size in presets if mix_named(size.preset).type in used]
        for _ in range(2):
            nearest = min(named or presets, key=lambda size: abs(size.nbytes - made.nbytes))
            made = self._frame.plan(types, nearest.preset)
        return Mix(made, self._frame.nbytes(made), selection.cost, selection)

    def _allows(self, plan: Plan) -> bool:
        """Whether a plan has only types that may be chosen."""
        types = {name: {way.type for way in ways} for name, ways in self.ways.items()}
        return all(
            t.target.name in types[t.source_name] for t in plan.tensors if t.source_name in types
        )

    def _stored(self, nbytes: int) -> int:
        return nbytes if self._of_tensors else padded(nbytes, self._frame.alignment)

    def _overhead(self) -> int:
        """Return the bytes of all but the free tensors: header, padding, what is kept or set."""
        free = [t for t in self._base.tensors if is_free(t)]
        if self._of_tensors:
            return self._base.nbytes - sum(t.nbytes for t in free)
        own = sum(padded(t.nbytes, self._frame.alignment) for t in free)
        return self._frame.nbytes(self._base) - own
