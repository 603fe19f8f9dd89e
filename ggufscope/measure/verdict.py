"""What is said of a candidate: its effect, whether it is well made, and whether that will do.

It will do where it is well made, and where its effect and its metrics keep to what was asked for.
A tolerance is a limit on one metric, for every head, every layer and the model as a whole. Errors
flow from layer to layer, so what names the place of a fault is the first layer that is out of
tolerance, and there the head that is furthest out; what is furthest out of all is told as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isnan
from typing import TYPE_CHECKING, Final

from ggufscope.errors import BadUsage
from ggufscope.measure.differences import (
    HeadDifference,
    LayerDifference,
    Prediction,
    average,
)
from ggufscope.measure.effect import Effect, Level, effect_of

if TYPE_CHECKING:
    from ggufscope.measure.making import Making


@dataclass(frozen=True, slots=True)
class Metric:
    """Something that a tolerance can be set for."""

    words: str
    of_head: Callable[[HeadDifference], float] | None = None
    of_layer: Callable[[LayerDifference], float] | None = None
    of_model: Callable[[Prediction], float] | None = None
    at_least: bool = False
    """Whether the tolerance is the least it may be, and not the most."""
    bounded: bool = True
    """Whether it cannot exceed 1."""


METRICS: Final[dict[str, Metric]] = {
    "total_variation": Metric(
        "attention gone elsewhere", of_head=lambda head: head.total_variation
    ),
    "head_output_error": Metric(
        "error of a head's output", of_head=lambda head: head.output_error, bounded=False
    ),
    "layer_output_error": Metric(
        "error of a layer's output", of_layer=lambda layer: layer.output_error, bounded=False
    ),
    "kl_divergence": Metric(
        "KL divergence of the next token",
        of_model=lambda model: model.mean_kl_divergence,
        bounded=False,
    ),
    "largest_difference": Metric(
        "largest difference of a probability", of_head=lambda head: head.largest_difference
    ),
    "jensen_shannon": Metric(
        "Jensen-Shannon divergence of rows", of_head=lambda head: head.jensen_shannon
    ),
    "top_changed": Metric("most attended token another one", of_head=lambda head: head.top_changed),
    "top1_agreement": Metric(
        "same next token", of_model=lambda model: model.top1_agreement, at_least=True
    ),
}
"""By the names that ``--tolerance`` and ``--json`` use."""

Tolerances = Mapping[str, float]
"""Metric -> limit."""


def parse_tolerances(texts: Iterable[str]) -> dict[str, float]:
    """Read ``METRIC=LIMIT``, or a bare limit, which is that of ``total_variation``.

    Raises ``BadUsage`` for an unknown metric, or a limit outside the metric's range.
    """
    found = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        name = name if equals else "total_variation"
        metric = METRICS.get(name)
        if metric is None:
            raise BadUsage(
                f"--tolerance {text!r} is for no known metric", hint=f"one of {', '.join(METRICS)}"
            )
        try:
            limit = float(number)
        except ValueError:
            limit = -1.0
        if not 0 <= limit <= (1.0 if metric.bounded else inf):
            most = " to 1" if metric.bounded else " up"
            raise BadUsage(
                f"--tolerance {text!r} sets no limit", hint=f"{name} takes a number from 0{most}"
            )
        found[name] = limit
    return found


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric at one place, and the limit it is held to."""

    metric: str
    value: float
    tolerance: float
    layer: int | None = None
    head: int | None = None

    @property
    def within(self) -> bool:
        """Whether it is within tolerance. NaN is not."""
        if METRICS[self.metric].at_least:
            return self.value >= self.tolerance
        return self.value <= self.tolerance

    @property
    def used(self) -> float:
        """How much of the tolerance is used up: above 1 it is exceeded. Range 0 to infinity.

        All of any tolerance where the value is NaN.
        """
        if isnan(self.value):
            return inf
        if METRICS[self.metric].at_least:
            gap, room = 1 - self.value, 1 - self.tolerance
        else:
            gap, room = self.value, self.tolerance
        if room:
            return gap / room
        return inf if gap else 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answers about a candidate, and what was asked of it."""

    effect: Effect
    making: Making | None
    """None for what was made in memory, and where the reference is quantized itself."""
    required: Level | None
    """The largest effect that will do."""
    tolerances: Tolerances
    worst: Reading | None
    """What uses up most of its tolerance, or exceeds it most; None without any tolerance."""
    first: Reading | None
    """In the first layer out of tolerance the head, or the layer's output, furthest out."""
    heads_out: int
    """Heads out of tolerance in some metric, over all layers."""

    @property
    def well_made(self) -> bool | None:
        """Whether quantizing the reference gives such weights; None where nothing tells."""
        return self.making.well_made if self.making else None

    @property
    def within_requirement(self) -> bool:
        """Whether the effect is no larger than what was asked for."""
        return self.required is None or self.effect.level.rank <= self.required.rank

    @property
    def accepted(self) -> bool:
        """Whether it will do."""
        asked = self.within_requirement and self.first is None
        return asked and self.effect.is_number and self.well_made is not False


def judge(
    layers: Sequence[LayerDifference],
    model: Prediction,
    tolerances: Tolerances,
    required: Level | None = None,
    making: Making | None = None,
) -> Verdict:
    """Return what is to be said of a candidate."""
    moved = average([head for layer in layers for head in layer.heads]).total_variation
    readings = list(_readings(layers, model, tolerances))
    out = [reading for reading in readings if not reading.within]
    return Verdict(
        effect=effect_of(model.mean_kl_divergence, moved, len(model.kl_divergence)),
        making=making,
        required=required,
        tolerances=dict(tolerances),
        worst=max(readings, key=lambda reading: reading.used, default=None),
        first=_first(out),
        heads_out=len({(f.layer, f.head) for f in out if f.head is not None}),
    )


def _readings(
    layers: Iterable[LayerDifference], model: Prediction, tolerances: Tolerances
) -> Iterable[Reading]:
    for name, limit in tolerances.items():
        metric = METRICS[name]
        if metric.of_model:
            yield Reading(name, metric.of_model(model), limit)
        for layer in layers:
            if metric.of_layer:
                yield Reading(name, metric.of_layer(layer), limit, layer.layer)
            if metric.of_head:
                for head in layer.heads:
                    yield Reading(name, metric.of_head(head), limit, layer.layer, head.head)


def _first(out: list[Reading]) -> Reading | None:
    if not out:
        return None
    in_layers = [reading.layer for reading in out if reading.layer is not None]
    if not in_layers:
        return max(out, key=lambda reading: reading.used)
    first = [reading for reading in out if reading.layer == min(in_layers)]
    # A head that is out explains the output of its layer, not the other way round.
    heads = [reading for reading in first if reading.head is not None]
    return max(heads or first, key=lambda reading: reading.used)
