"""One pass over a prompt, its attention watched layer by layer.

The attention of a whole model is layers x heads x tokens^2 numbers, gigabytes for a long text. So
each layer's is measured and handed to whoever wants it as the pass leaves it, and then forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ggufscope.errors import NotInModel
from ggufscope.forward.trace import Trace
from ggufscope.forward.transformer import Transformer
from ggufscope.measure.heads import Habits, habits_of

Map = npt.NDArray[np.float32]
OnLayer = Callable[[int, Map, Habits], object]
"""Told each layer, its ``kq_soft_max`` (H, T, T) and what its heads do, as soon as it is there."""


@dataclass(slots=True)
class Watched:
    """What a pass showed."""

    ids: tuple[int, ...]
    habits: dict[int, Habits] = field(default_factory=dict)
    """By layer."""
    logits: Map = field(default_factory=lambda: np.empty((0, 0), np.float32))
    """``result_output`` (T, V)."""

    def next_tokens(self, count: int) -> list[tuple[int, float]]:
        """Give the ``count`` tokens that the model holds likeliest to follow, and how likely."""
        last = self.logits[-1].astype(np.float64)
        with np.errstate(all="ignore"):  # a model whose numbers overflow gives NaN
            shares = np.exp(last - last.max())
            shares /= shares.sum()
        best = np.argsort(-shares, kind="stable")[:count]
        return [(int(token), float(shares[token])) for token in best]


def watch(
    model: Transformer,
    ids: Sequence[int],
    *,
    on_layer: Sequence[OnLayer] = (),
    progress: Callable[[int], Any] | None = None,
) -> Watched:
    """Run a prompt and measure every head; raises what ``Transformer.run`` raises."""
    seen = Watched(tuple(ids))

    def sink(_: str, layer: int | None, weights: Map) -> None:
        if layer is not None:
            seen.habits[layer] = habits_of(weights, ids)
            for told in on_layer:
                told(layer, weights, seen.habits[layer])

    with np.errstate(all="ignore"):
        seen.logits = model.run(ids, trace=Trace("kq_soft_max", sink=sink), progress=progress)
    return seen


class Spotlight:
    """Keeps the one matrix that is looked at, of a head or of a whole layer.

    With ``layer`` and ``head`` that head's; with ``layer`` alone the mean of its heads; with
    ``head`` alone that of layer 0; with neither that of the head which attends to the previous
    token most, whose picture is the easiest to read.
    """

    def __init__(
        self, model: Transformer, layer: int | None = None, head: int | None = None
    ) -> None:
        """Raise ``NotInModel`` for a layer or a head that the model does not have."""
        _require_there("layer", layer, model.n_layers, "the model")
        first = layer or 0
        heads = model.block(first).heads.heads
        _require_there("head", head, heads, f"layer {first}")
        self._chosen = layer is not None or head is not None
        self.layer = first
        self.head: int | None = head if self._chosen else 0
        self.matrix: Map = np.empty((0, 0), np.float32)
        """(T, T)."""
        self._best = -np.inf

    def __call__(self, layer: int, weights: Map, habits: Habits) -> None:
        """Take what is wanted of a layer."""
        if self._chosen:
            if layer == self.layer:
                whole = weights.mean(axis=0, dtype=np.float64).astype(np.float32)
                self.matrix = whole if self.head is None else weights[self.head].copy()
            return
        shares = np.nan_to_num(habits.previous)  # of a single token nothing can be said
        head = int(np.argmax(shares))
        if shares[head] > self._best:
            self._best = float(shares[head])
            self.layer, self.head, self.matrix = layer, head, weights[head].copy()


def _require_there(what: str, number: int | None, count: int, whose: str) -> None:
    if number is not None and not 0 <= number < count:
        raise NotInModel(
            f"there is no {what} {number}: {whose} has {what}s 0 to {count - 1}",
            hint="count from 0",
        )
