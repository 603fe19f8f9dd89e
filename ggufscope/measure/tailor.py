"""The best mix of a size, by measurement: sensitivities, a choice, and a trial on other text.

::

    tailor(file, Wish(nbytes=4 << 30), halves(text, tokenizer.encode, length=512, tokens=2048))

What is chosen is held to the largest preset that fits as well, on text that was not used to
choose, and the better of the two is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from ggufscope.arrays import Floats
from ggufscope.blocks.layouts import LAYOUTS
from ggufscope.container.file import GGUFFile
from ggufscope.container.header import alignment_of
from ggufscope.container.tensor_info import padded
from ggufscope.container.values import Value
from ggufscope.errors import BadUsage
from ggufscope.forward.transformer import Transformer
from ggufscope.forward.weights import PlannedWeights
from ggufscope.measure.sensitivity import Sensitivities, measure, require_fits
from ggufscope.measure.trial import Divergence, divergences
from ggufscope.measure.windows import Halves
from ggufscope.recipes.importance import ImportanceMatrix
from ggufscope.recipes.knapsack import Item, Knapsack, Selection
from ggufscope.recipes.metadata import overridden
from ggufscope.recipes.mixes import mix_named
from ggufscope.recipes.options import DEFAULTS, PlanOptions, TypeRule
from ggufscope.recipes.plan import Plan
from ggufscope.recipes.request import Request, outlook
from ggufscope.recipes.tailoring import USUAL_TYPES, choices, is_free, tailored
from ggufscope.sizing.file_size import PresetSize, file_sizes

DRAWS: Final = 4
"""Gradients drawn for each token."""
_TRIES: Final = 8
"""Choices that are tried until one diverges no more than asked for."""
_FIRST: Final = "Q4_K_M"
"""The preset that says what is free to choose, before a size is known."""

Progress = Callable[[str, int, int], object]
"""Is told what is under way, how many layers are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for: one of a size, bits a weight, a divergence; and within what."""

    nbytes: int | None = None
    """Of the file, at the most."""
    bits: float | None = None
    """A weight, over all tensors, at the most."""
    kl: float | None = None
    """Mean KL divergence in nats, at the most, in the smallest file."""
    types: tuple[str, ...] = USUAL_TYPES
    floor: str | None = None
    """No tensor gets a type of fewer bits."""
    options: PlanOptions = DEFAULTS
    """What is set by hand stays so."""
    overrides: Mapping[str, Value] = field(default_factory=dict)
    split_max_size: int | None = None
    """As in ``Request``: a header is a part of a size."""


@dataclass(frozen=True, slots=True)
class Way:
    """One type that a tensor could have."""

    type: str
    nbytes: int
    cost: float
    """Predicted, in nats."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A plan, and how it did on text that was not used to choose."""

    name: str
    plan: Plan
    nbytes: int
    """Of the file."""
    predicted: float
    """Nats, by the sensitivities."""
    divergence: Divergence


@dataclass(frozen=True, slots=True)
class Tailored:
    """What came of a wish."""

    wish: Wish
    choice: Tried
    preset: Tried | None
    """The largest preset of these types that fits as well; None where none does."""
    kept: Literal["choice", "preset"]
    selection: Selection
    ways: Mapping[str, tuple[Way, ...]]
    """By tensor, the smallest first."""
    frontier: tuple[tuple[int, float], ...]
    """Bytes of the file and the least predicted nats, from the smallest file to the largest."""
    sensitivities: Sensitivities
    tokens: int
    """That the trial was on."""

    @property
    def best(self) -> Tried:
        """What is kept."""
        return self.preset if self.kept == "preset" and self.preset else self.choice

    @property
    def rules(self) -> tuple[TypeRule, ...]:
        """The types of what is kept as rules, a ``--tensor-type-file``; none of a preset's."""
        return self.best.plan.options.tensor_types


def tailor(
    file: GGUFFile,
    wish: Wish,
    text: Halves,
    *,
    imatrix: ImportanceMatrix | None = None,
    sensitivities: Sensitivities | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    progress: Progress = lambda words, done, total: None,
) -> Tailored:
    """Choose the types of a model's tensors by what they cost, and try the choice.

    ``sensitivities``: of this model, measured before, for any size. Raises ``BadUsage`` for a size
    that no choice has, ``TooFewTokens``, and what ``plan`` and ``Transformer.of`` raise.
    """
    return _Tailor(file, wish, text, imatrix, progress).run(sensitivities, draws, seed)


class _Tailor:
    def __init__(
        self,
        file: GGUFFile,
        wish: Wish,
        text: Halves,
        imatrix: ImportanceMatrix | None,
        progress: Progress,
    ) -> None:
        if sum(each is not None for each in (wish.nbytes, wish.bits, wish.kl)) != 1:
            raise BadUsage("one target is needed: a size, bits a weight, or a divergence")
        if wish.options.prune_layers:
            raise BadUsage(
                "a mix is measured on the whole model, and layers would be left out of it",
                hint="prune first, then choose types for the file that remains",
            )
        self._file, self._wish, self._text = file, wish, text
        self._imatrix, self._progress = imatrix, progress
        self._options = replace(wish.options, importance=imatrix is not None)
        self._model = Transformer.of(file)
        twice = self._options.allow_requantize
        self._presets = [
            size
            for size in file_sizes(file, options=self._options).sizes
            if not (size.needs_importance or size.set_aside) and (twice or not size.quantizes_twice)
        ]
        first = next((p for p in self._presets if p.preset == _FIRST), None)
        if first is None and self._presets:
            first = self._presets[0]
        if first is None:
            raise BadUsage(
                "no preset can be made of this model, and so no mix either",
                hint="`ggufscope size` says why; a quantized source needs --allow-requantize",
            )
        self._base = first.plan
        self._importance = self._weights_of(self._base)
        self._types = choices(self._base, wish.types, wish.floor, frozenset(self._importance))
        self._rivals = [size for size in self._presets if self._allows(size.plan)]
        smallest = {name: types[0] for name, types in self._types.items()}
        self._of(smallest, first.preset).require_runnable()  # said before any work

    def run(self, known: Sensitivities | None, draws: int, seed: int) -> Tailored:
        chosen_by = self._text.chosen_by
        if known is None:
            known = measure(
                self._model,
                chosen_by,
                self._types,
                draws=draws,
                seed=seed,
                importance=self._importance,
                progress=lambda done, total: self._progress("measuring", done, total),
            )
        else:
            require_fits(known, self._model.weights, chosen_by, self._types, self._importance)
        self._known = known
        self._ways = {
            name: tuple(
                Way(type_, self._nbytes_of(name, type_), known.costs[name][type_])
                for type_ in types
            )
            for name, types in self._types.items()
        }
        knapsack = Knapsack(
            [[Item(self._stored(way), way.cost) for way in ways] for ways in self._ways.values()]
        )
        if self._wish.kl is None:
            selection, choice, preset = self._within(knapsack)
        else:
            selection, choice, preset = self._no_further(knapsack, self._wish.kl)
        beaten = preset is not None and preset.divergence.nats < choice.divergence.nats
        rest = self._overhead()
        return Tailored(
            wish=self._wish,
            choice=choice,
            preset=preset,
            kept="preset" if beaten else "choice",
            selection=selection,
            ways=self._ways,
            frontier=tuple((step.nbytes + rest, step.cost) for step in knapsack.steps),
            sensitivities=known,
            tokens=sum(map(len, self._text.verified_with)),
        )

    def _within(self, knapsack: Knapsack) -> tuple[Selection, Tried, Tried | None]:
        """Choose the least cost within the size, and try it and the largest preset within it."""
        wish = self._wish
        budget = self._budget()
        selection = knapsack.cheapest(budget)
        if selection is None:
            least = self._overhead() + knapsack.least
            said = f"{least:,} bytes" if wish.bits is None else f"{self._bits(least):.2f} bits"
            raise BadUsage(
                f"the smallest choice of these types has {said}",
                hint="ask for more, or allow smaller --types",
            )
        plan = self._plan(selection)
        preset = next((size for size in self._rivals if self._fits(size)), None)
        return selection, *self._try(plan, preset)

    def _no_further(self, knapsack: Knapsack, kl: float) -> tuple[Selection, Tried, Tried | None]:
        """Choose the smallest file that diverges no more, by trial as well as by prediction."""
        limit = kl
        for _ in range(_TRIES):
            selection = knapsack.smallest(limit)
            if selection is None:
                break
            plan = self._plan(selection)
            nbytes = self._nbytes(plan)
            preset = next((size for size in self._rivals if size.weighs <= nbytes), None)
            choice, against = self._try(plan, preset)
            if choice.divergence.nats <= kl:
                return selection, choice, against
            limit *= min(0.9, 0.95 * kl / choice.divergence.nats)
        raise BadUsage(
            f"no choice of these types diverges by {kl:g} nats or less",
            hint="ask for less, or allow larger --types",
        )

    def _try(self, plan: Plan, size: PresetSize | None) -> tuple[Tried, Tried | None]:
        plans = [plan] if size is None else [plan, size.plan]
        views = [PlannedWeights.of(self._model.weights, p, self._weights_of(p)) for p in plans]
        found = divergences(
            self._model,
            views,
            self._text.verified_with,
            lambda done, total: self._progress("trying", done, total),
        )
        tried = [
            Tried(name, each, self._nbytes(each), self._predicted(each), divergence)
            for name, each, divergence in zip(
                ("choice", size.preset if size else ""), plans, found, strict=False
            )
        ]
        return tried[0], tried[1] if size else None

    def _plan(self, selection: Selection) -> Plan:
        """Return the plan of a selection, in the preset of one of its types nearest in size."""
        pairs = zip(self._ways.items(), selection.items, strict=True)
        types = {name: ways[at].type for (name, ways), at in pairs}
        made, used = self._base, {LAYOUTS[type_] for type_ in types.values()}
        named = [size for size in self._presets if mix_named(size.preset).type in used]
        for _ in range(2):
            nearest = min(named or self._presets, key=lambda size: abs(size.nbytes - made.nbytes))
            made = self._of(types, nearest.preset)
        return made

    def _of(self, types: Mapping[str, str], preset: str) -> Plan:
        metadata = overridden(self._file.metadata, self._wish.overrides)
        tensors = self._file.tensors.values()
        return tailored(tensors, metadata, preset, self._options, types)

    def _allows(self, plan: Plan) -> bool:
        """Whether a plan has only types that may be chosen."""
        types = self._types
        return all(
            t.target.name in types[t.source_name] for t in plan.tensors if t.source_name in types
        )

    def _budget(self) -> int:
        """Return what is left for the free tensors, padded or not as they are counted."""
        wish = self._wish
        if wish.nbytes is not None:
            return wish.nbytes - self._overhead()
        return int((wish.bits or 0) * self._base.n_elements / 8) - self._overhead()

    def _overhead(self) -> int:
        """Return the bytes of all but the free tensors: header, padding, what is kept or set."""
        free = {t.source_name: t for t in self._base.tensors if is_free(t)}
        if self._wish.bits is not None:
            return self._base.nbytes - sum(t.nbytes for t in free.values())
        own = sum(padded(t.nbytes, self._alignment) for t in free.values())
        return self._nbytes(self._base) - own

    @property
    def _alignment(self) -> int:
        return alignment_of(self._file.shards[0].header.metadata)

    def _stored(self, way: Way) -> int:
        return way.nbytes if self._wish.bits is not None else padded(way.nbytes, self._alignment)

    def _fits(self, size: PresetSize) -> bool:
        if self._wish.nbytes is not None:
            return self._nbytes(size.plan) <= self._wish.nbytes
        return size.bits_per_weight <= (self._wish.bits or 0)

    def _bits(self, nbytes: int) -> float:
        return 8 * nbytes / self._base.n_elements

    def _nbytes(self, plan: Plan) -> int:
        wish = self._wish
        request = Request(
            self._file,
            [plan],
            overrides=wish.overrides,
            split_max_size=wish.split_max_size,
            imatrix=self._imatrix,
        )
        return outlook(request).targets[0].nbytes

    def _nbytes_of(self, name: str, type_: str) -> int:
        n_elements = next(t.n_elements for t in self._base.tensors if t.source_name == name)
        return LAYOUTS[type_].row_bytes(n_elements)

    def _predicted(self, plan: Plan) -> float:
        return sum(
            self._known.costs[t.source_name][t.target.name]
            for t in plan.tensors
            if t.source_name in self._ways
        )

    def _weights_of(self, plan: Plan) -> dict[str, Floats]:
        if self._imatrix is None:
            return {}
        found = {t.source_name: self._imatrix.of(t) for t in plan.tensors if t.converted}
        return {name: weights for name, weights in found.items() if weights is not None}
