"""The best mix of a size, by measurement: sensitivities, a choice, and a trial on other text.

::

    tailor(file, Wish(nbytes=4 << 30), halves(text, tokenizer.encode, length=512, tokens=2048))

What is chosen is held to the largest preset that fits as well, on text that was not used to
choose, and the better of the two is kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Final, Literal

from ggufscope.arrays import Floats
from ggufscope.container.file import GGUFFile
from ggufscope.container.values import Value
from ggufscope.errors import BadUsage
from ggufscope.forward.transformer import Transformer
from ggufscope.forward.weights import PlannedWeights
from ggufscope.measure.gathering import Collector
from ggufscope.measure.sensitivity import measure, require_fits
from ggufscope.measure.trial import Divergence, divergences
from ggufscope.measure.windows import Halves
from ggufscope.recipes.importance import ImportanceMatrix
from ggufscope.recipes.knapsack import Selection
from ggufscope.recipes.options import DEFAULTS, PlanOptions, TypeRule
from ggufscope.recipes.plan import Plan
from ggufscope.recipes.sensitivities import Sensitivities
from ggufscope.recipes.tailoring import USUAL_TYPES, choices, is_free
from ggufscope.sizing.file_size import PresetSize, file_sizes
from ggufscope.sizing.mixing import Frame, Mix, Mixing, Way, worth_making

DRAWS: Final = 4
"""Gradients drawn for each token."""
_TRIES: Final = 8
"""Choices that are tried until one diverges no more than asked for."""

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
    types: Sequence[str] = USUAL_TYPES
    floor: str | None = None
    """No tensor gets a type of fewer bits."""
    options: PlanOptions = DEFAULTS
    """What is set by hand stays so."""
    overrides: Mapping[str, Value] = field(default_factory=dict)
    split_max_size: int | None = None
    """As in ``Request``: a header is a part of a size."""


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
class Rival:
    """A preset beside the mixes of its size."""

    name: str
    nbytes: int
    """As ``Tailored.counted`` has them."""
    bits: float
    """A weight."""
    predicted: float
    """Nats, by the sensitivities."""
    least: float
    """Nats that the best mix of so many bytes is predicted to cost."""


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
    """Bytes, as ``counted`` has them, and the least predicted nats, from the smallest on."""
    rivals: tuple[Rival, ...]
    """Presets of these types alone, the largest first."""
    sensitivities: Sensitivities
    imatrix: ImportanceMatrix | None
    """By which errors were weighed: what was given, or made on the way."""
    tokens: int
    """That the trial was on."""

    def counted(self, tried: Tried) -> int:
        """Return the bytes that the frontier counts: of the file, or of the tensors for bits."""
        return tried.nbytes if self.wish.bits is None else tried.plan.nbytes

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
    make_imatrix: str | os.PathLike[str] | None = None,
    sensitivities: Sensitivities | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    progress: Progress = lambda words, done, total: None,
) -> Tailored:
    """Choose the types of a model's tensors by what they cost, and try the choice.

    ``imatrix``: errors are weighed by it. ``make_imatrix``: by one that is made of the text to
    choose by, on the way; it is in what is returned, nothing is written, and a file that is
    quantized with it will say that it is from there. ``sensitivities``: of this model, measured
    before, for any size. Raises ``BadUsage`` for a size that no choice has and for options that
    contradict each other, ``TooFewTokens``, and what ``plan`` and ``Transformer.of`` raise.
    """
    if make_imatrix is not None and (imatrix is not None or sensitivities is not None):
        raise BadUsage(
            "an importance matrix cannot be made where one, or what it was to weigh, is there",
            hint="give the matrix that the sensitivities were measured with",
        )
    made = None if make_imatrix is None else Path(make_imatrix)
    return _Tailor(file, wish, text, imatrix, made, progress).run(sensitivities, draws, seed)


class _Tailor:
    def __init__(
        self,
        file: GGUFFile,
        wish: Wish,
        text: Halves,
        imatrix: ImportanceMatrix | None,
        to_make: Path | None,
        progress: Progress,
    ) -> None:
        if sum(each is not None for each in (wish.nbytes, wish.bits, wish.kl)) != 1:
            raise BadUsage("one target is needed: a size, bits a weight, or a divergence")
        if wish.options.prune_layers:
            raise BadUsage(
                "a mix is measured on the whole model, and layers would be left out of it",
                hint="prune first, then choose types for the file that remains",
            )
        self._wish, self._text, self._to_make, self._progress = wish, text, to_make, progress
        weighed = imatrix is not None or to_make is not None
        options = replace(wish.options, importance=weighed)
        self._model = Transformer.of(file)
        sizes = file_sizes(file, options=options).sizes
        presets = worth_making(sizes, twice=options.allow_requantize)
        self._frame = Frame(file, presets, options, wish.overrides, wish.split_max_size, imatrix)
        base = self._frame.base
        names = self._weights_of(base).keys() if to_make is None else _gathered(base)
        types = (wish.types,) if isinstance(wish.types, str) else wish.types
        self._types = choices(base, types, wish.floor, frozenset(names))
        smallest = {name: types[0] for name, types in self._types.items()}
        self._frame.plan(smallest, base.preset).require_runnable()  # said before any work

    def run(self, known: Sensitivities | None, draws: int, seed: int) -> Tailored:
        known = self._known(known, draws, seed)
        wish = self._wish
        mixing = Mixing(self._frame, known.costs, self._types, of_tensors=wish.bits is not None)
        mix, choice, preset = (
            self._within(mixing) if wish.kl is None else self._no_further(mixing, wish.kl)
        )
        beaten = preset is not None and preset.divergence.nats < choice.divergence.nats
        return Tailored(
            wish=wish,
            choice=choice,
            preset=preset,
            kept="preset" if beaten else "choice",
            selection=mix.selection,
            ways=mixing.ways,
            frontier=mixing.frontier,
            rivals=tuple(self._rival(mixing, size) for size in mixing.rivals),
            sensitivities=known,
            imatrix=self._frame.imatrix,
            tokens=sum(map(len, self._text.verified_with)),
        )

    def _known(self, known: Sensitivities | None, draws: int, seed: int) -> Sensitivities:
        """Return what was measured before, or measure; make an importance matrix if asked to."""
        windows, importance = self._text.chosen_by, self._weights_of(self._frame.base)
        if known is not None:
            require_fits(known, self._model.weights, windows, self._types, importance)
            return known
        collector = Collector(self._model, None, output=False)

        def turned() -> Mapping[str, Floats]:
            if self._to_make is None:
                return importance
            names = (self._text.name,) if self._text.name else ()
            made = collector.matrix(self._to_make, names, max(map(len, windows)))
            self._frame = replace(self._frame, imatrix=made)
            return self._weights_of(self._frame.base)

        return measure(
            self._model,
            windows,
            self._types,
            draws=draws,
            seed=seed,
            importance=turned,
            entering=None if self._to_make is None else collector.entering,
            progress=lambda done, total: self._progress("measuring", done, total),
        )

    def _within(self, mixing: Mixing) -> tuple[Mix, Tried, Tried | None]:
        """Choose the least cost within the size, and try it and the largest preset within it."""
        wish, elements = self._wish, self._frame.base.n_elements
        budget = wish.nbytes if wish.nbytes is not None else int((wish.bits or 0) * elements / 8)
        mix = mixing.within(budget)
        if mix is None:
            bits = 8 * mixing.least / elements
            said = f"{mixing.least:,} bytes" if wish.bits is None else f"{bits:.2f} bits"
            raise BadUsage(
                f"the smallest choice of these types has {said}",
                hint="ask for a larger size, or allow smaller --types",
            )
        preset = next((size for size in mixing.rivals if self._fits(size)), None)
        return mix, *self._try(mixing, mix, preset)

    def _no_further(self, mixing: Mixing, kl: float) -> tuple[Mix, Tried, Tried | None]:
        """Choose the smallest file that diverges no more, by trial as well as by prediction."""
        limit, nearest = kl, inf
        for tries in range(_TRIES + 1):
            mix = None if tries == _TRIES else mixing.no_further(limit)
            last = mix is None
            if mix is None:  # what costs least may do all the same
                mix = mixing.within(mixing.frontier[-1][0])
                assert mix is not None
            preset = next((size for size in mixing.rivals if size.weighs <= mix.nbytes), None)
            choice, against = self._try(mixing, mix, preset)
            if choice.divergence.nats <= kl:
                return mix, choice, against
            nearest = min(nearest, choice.divergence.nats)
            if last:
                break
            limit *= min(0.9, 0.95 * kl / choice.divergence.nats)
        raise BadUsage(
            f"no choice of these types was found that diverges by {kl:g} nats or less: the nearest "
            f"one diverges by {nearest:.2g}",
            hint="allow a larger divergence, or larger --types",
        )

    def _try(self, mixing: Mixing, mix: Mix, size: PresetSize | None) -> tuple[Tried, Tried | None]:
        plans = [mix.plan] if size is None else [mix.plan, size.plan]
        views = [PlannedWeights.of(self._model.weights, p, self._weights_of(p)) for p in plans]
        found = divergences(
            self._model,
            views,
            self._text.verified_with,
            lambda done, total: self._progress("trying", done, total),
        )
        choice = Tried("choice", mix.plan, mix.nbytes, mix.predicted, found[0])
        if size is None:
            return choice, None
        nbytes, predicted = self._frame.nbytes(size.plan), mixing.predicted(size.plan)
        return choice, Tried(size.preset, size.plan, nbytes, predicted, found[1])

    def _rival(self, mixing: Mixing, size: PresetSize) -> Rival:
        nbytes = size.nbytes if self._wish.bits is not None else self._frame.nbytes(size.plan)
        predicted, best = mixing.predicted(size.plan), mixing.within(nbytes)
        least = predicted if best is None else min(predicted, best.predicted)
        return Rival(size.preset, nbytes, size.bits_per_weight, predicted, least)

    def _fits(self, size: PresetSize) -> bool:
        if self._wish.nbytes is not None:
            return self._frame.nbytes(size.plan) <= self._wish.nbytes
        return size.bits_per_weight <= (self._wish.bits or 0)

    def _weights_of(self, plan: Plan) -> dict[str, Floats]:
        imatrix = self._frame.imatrix
        if imatrix is None:
            return {}
        found = {t.source_name: imatrix.of(t) for t in plan.tensors if t.converted}
        return {name: weights for name, weights in found.items() if weights is not None}


def _gathered(base: Plan) -> set[str]:
    """Return the tensors that a matrix made on the way will know: what is free, in the layers."""
    return {t.source_name for t in base.tensors if is_free(t) and t.source_name.startswith("blk.")}
