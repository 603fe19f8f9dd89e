"""One pass over a prompt, its attention watched layer by layer, stretch by stretch.

The attention of a whole model is layers x heads x tokens^2 numbers, gigabytes for a long text. So
it is measured and handed to whoever wants it as the pass computes it, and then forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ggufscope.arrays import Array, Floats
from ggufscope.errors import NotInModel
from ggufscope.forward.checks import require_memory_for
from ggufscope.forward.trace import Trace
from ggufscope.forward.transformer import Transformer
from ggufscope.measure.maps import window
from ggufscope.measure.metrics.distributions import likeliest
from ggufscope.measure.patterns import Patterns, PatternSums
from ggufscope.pool import one_pass


class Watcher(Protocol):
    """Whoever wants to see the attention of a pass."""

    def rows(self, layer: int, first: int, shares: Floats) -> object:
        """Take ``kq_soft_max`` (H, rows, T) from row ``first`` on; good until this returns."""

    def done(self, layer: int, patterns: Patterns) -> object:
        """Take what the heads of a layer do, now that all its rows were shown."""


@dataclass(slots=True)
class Watched:
    """What a pass showed."""

    patterns: dict[int, Patterns] = field(default_factory=dict)
    """By layer."""
    logits: Floats = field(default_factory=lambda: np.empty((0, 0), np.float32))
    """``result_output``: (T, V), or (1, V) for the last token alone."""

    def next_tokens(self, count: int = 5) -> list[tuple[int, float]]:
        """Return the ``count`` tokens that the model holds likeliest to follow, and how likely."""
        return likeliest(self.logits[-1], count)


def watch(
    model: Transformer,
    ids: Sequence[int],
    *,
    watchers: Sequence[Watcher] = (),
    keep: Collection[str] = (),
    sink: Callable[[str, int | None, Array], None] | None = None,
    progress: Callable[[int], Any] | None = None,
) -> Watched:
    """Run a prompt and measure every head.

    ``sink`` is handed each quantity that ``keep`` names (without the layer), as a trace's is; for
    ``result_output`` and ``result_norm`` the logits of all tokens are computed. Raises what
    ``Transformer.run`` raises, and ``TooMuchMemory`` before it starts.
    """
    model.require_runnable(ids)
    whole = not {"result_norm", "result_output"}.isdisjoint(keep)
    matrices = len({"kq", "kq_soft_max"}.intersection(keep))
    require_memory_for(model.hparams, len(ids), matrices=matrices, logits=whole)
    seen = Watched()
    sums = PatternSums(0, ids)

    def rows(layer: int, first: int, shares: Floats) -> None:
        nonlocal sums
        if first == 0:
            sums = PatternSums(len(shares), ids)
        sums.add(first, shares)
        for watcher in watchers:
            watcher.rows(layer, first, shares)

    with one_pass(), np.errstate(all="ignore"):
        trace = Trace(keep, sink=sink, rows=rows)
        x = model.embed(ids, trace=trace)
        for layer in range(model.n_layers):
            x = model.layer(layer, x, trace=trace)
            seen.patterns[layer] = sums.means()
            for watcher in watchers:
                watcher.done(layer, seen.patterns[layer])
            if progress is not None:
                progress(layer + 1)
        seen.logits = model.logits(x if whole else x[-1:], trace=trace)
    if progress is not None:
        progress(model.n_layers + 1)
    return seen


class Spotlight:
    """Keeps the one matrix that is looked at, of a head or of a whole layer.

    With ``layer`` and ``head`` that head's; with ``layer`` alone the mean of its heads; with
    ``head`` alone that of layer 0; with neither that of the head which attends to the previous
    token most, whose picture is the easiest to read. Of a prompt of more than ``most`` tokens only
    the rows of the last ones are kept.
    """

    def __init__(
        self,
        model: Transformer,
        layer: int | None = None,
        head: int | None = None,
        *,
        most: int | None = None,
    ) -> None:
        """Raise ``NotInModel`` for a layer or a head that the model does not have."""
        first = layer or 0
        require_head(model, layer, head)
        self._chosen = layer is not None or head is not None
        self.layer = first
        self.head: int | None = head if self._chosen else 0
        self.matrix: Floats = np.empty((0, 0), np.float32)
        """(R, T): the last R rows."""
        self._most = most
        self._rows: Floats = np.empty((0, 0, 0), np.float32)
        self._best = -np.inf

    @property
    def overflows(self) -> bool:
        """Whether what the model computes overflows float32, so that shares are no numbers."""
        return bool(np.isnan(self.matrix).any())

    def rows(self, layer: int, first: int, shares: Floats) -> None:
        """Take what is wanted of some rows."""
        if self._chosen and layer != self.layer:
            return
        if self._chosen and self.head is None:
            shares = shares.mean(axis=0, dtype=np.float64, keepdims=True).astype(np.float32)
        elif self._chosen:
            shares = shares[self.head : (self.head or 0) + 1]
        self._rows = take_last_rows(self._rows, first, shares, self._most)

    def done(self, layer: int, patterns: Patterns) -> None:
        """Settle which head it is."""
        if self._chosen:
            if layer == self.layer:
                self.matrix = self._rows[0]
            return
        shares = np.nan_to_num(patterns.previous)  # of a single token nothing can be said
        head = int(np.argmax(shares))
        if shares[head] > self._best:
            self._best = float(shares[head])
            self.layer, self.head, self.matrix = layer, head, self._rows[head].copy()


class LastMaps:
    """Keeps the matrices of all layers: the last tokens, those before them as one."""

    def __init__(self, shown: int) -> None:
        self._shown = shown
        self._rows: Floats = np.empty((0, 0, 0), np.float32)
        self.maps: dict[int, Floats] = {}
        """Layer -> (H, shown, shown + 1)."""

    def rows(self, layer: int, first: int, shares: Floats) -> None:
        """Keep the last rows."""
        self._rows = take_last_rows(self._rows, first, shares, self._shown)

    def done(self, layer: int, patterns: Patterns) -> None:
        """Keep a layer, its earlier columns as one."""
        self.maps[layer] = np.array(window(self._rows, self._shown), np.float32)


def take_last_rows(kept: Floats, first: int, shares: Floats, most: int | None) -> Floats:
    """Put rows (H, rows, T) from ``first`` on into (H, R, T), the last R = ``most`` of T tokens."""
    heads, count, tokens = shares.shape
    shown = tokens if most is None else min(most, tokens)
    if first == 0 and kept.shape != (heads, shown, tokens):
        kept = np.empty((heads, shown, tokens), np.float32)
    start = first - (tokens - shown)
    skipped = max(0, -start)
    if skipped < count:
        kept[:, start + skipped : start + count] = shares[:, skipped:]
    return kept


def require_head(model: Transformer, layer: int | None, head: int | None) -> None:
    """Raise ``NotInModel`` for a layer or a head that the model does not have.

    None is nothing in particular; a head without a layer is one of layer 0.
    """
    _require_there("layer", layer, model.n_layers, "the model")
    _require_there("head", head, model.block(layer or 0).heads.count, f"layer {layer or 0}")


def _require_there(what: str, number: int | None, count: int, whose: str) -> None:
    if number is not None and not 0 <= number < count:
        raise NotInModel(
            f"there is no {what} {number}: {whose} has {what}s 0 to {count - 1}",
            hint="count from 0",
        )
