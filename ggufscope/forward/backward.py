"""The gradient at the output of every matrix of a model, a layer at a time.

::

    Backward(model, windows).run(tell)

The gradient begins at the logits as one drawn at random whose products have the mean of those of
``-log p(y)`` over labels y of the model's own softmax. So what comes back averages to the Fisher
information: how far predictions move, in nats, when the output of a matrix does.

The way there is an ordinary pass, and what enters each layer goes into a temporary file. On the way
back a layer is made again from it. So one layer is in memory at a time, and each is read twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from ggufscope.arrays import Floats, Places
from ggufscope.errors import NonFiniteActivation, NotRunnable
from ggufscope.forward import gradients, ops
from ggufscope.forward.activations import Activations
from ggufscope.forward.checks import require_memory_for
from ggufscope.forward.held import LayerWeights
from ggufscope.forward.layer_back import LayerBack
from ggufscope.forward.trace import Trace
from ggufscope.forward.transformer import Transformer
from ggufscope.pool import one_pass

_LOGITS: Final = 1 << 24
"""Logits that are computed together: 64 MiB, and three times as much beside them."""
_KEPT: Final = 1 << 27
"""Bytes of what enters the layers that stay in memory at most; else it goes into a file."""
_AGREES: Final = 1e-3
"""How far a layer that is made again may be from the first time, by its size."""


@dataclass(frozen=True, slots=True)
class Reached:
    """A matrix that the gradient came through, in one window."""

    tensor: str
    """GGUF name."""
    tokens: Places
    """(N,): which of the tokens of all windows, side by side."""
    x: Floats | None
    """(N, in): what entered it; None for the table of token embeddings."""
    rows: Places | None
    """(N,): the rows that were looked up in that table."""
    dy: Floats
    """(N, out): the gradient at its output, before any bias."""
    expert: int | None
    """Of a stack, which."""
    draw: int
    """Which of the gradients drawn at the logits, from 0."""


class Backward:
    """A pass there and back over windows of token ids."""

    def __init__(
        self,
        model: Transformer,
        windows: Sequence[Sequence[int]],
        *,
        draws: int = 1,
        seed: int = 0,
    ) -> None:
        """``draws``: gradients at the logits, each with a way back of its own.

        Raises what ``Transformer.require_runnable`` does, and ``TooMuchMemory``.
        """
        for window in windows:
            model.require_runnable(window)
        longest = max(map(len, windows), default=0)
        require_memory_for(model.hparams, longest, matrices=1, logits=False, runs=3)
        self._held = LayerWeights(model.weights)
        self._model = model.with_weights(self._held)
        self._windows = [list(window) for window in windows]
        self._draws = draws
        edges = np.cumsum([0, *map(len, windows)])
        self._spans = [slice(int(a), int(b)) for a, b in pairwise(edges)]
        self._tokens = int(edges[-1])
        self._seed = seed

    @property
    def steps(self) -> int:
        """How many steps ``run`` takes: each layer there, the output, each layer back."""
        return 2 * self._model.n_layers + 1

    def run(
        self,
        tell: Callable[[Reached], object],
        *,
        after: Callable[[LayerWeights], object] = lambda weights: None,
        entering: Callable[[str, Floats, int | None], Floats] | None = None,
        turned: Callable[[], object] = lambda: None,
        progress: Callable[[int], object] = lambda step: None,
    ) -> None:
        """Go there and back; ``tell`` is told of every matrix, from the output to the first layer.

        ``after`` is called when all windows are through a layer, the output or the embedding, with
        the weights, of which those of that layer are still held. On the way there ``entering`` is
        handed what enters each matrix of the layers, and returns what is multiplied, as by
        ``Trace``; then ``turned`` is called. Raises ``NonFiniteActivation``,
        ``NotRunnable`` where a layer has no way back, ``NoRoom`` where the temporary file has none,
        and what ``Transformer.run`` raises.
        """
        model, width = self._model, self._model.hparams.embedding_length or 0
        longest = max(map(len, self._windows), default=0)
        shape = (model.n_layers + 1, len(self._windows), longest, width)
        with Activations(*shape, most=_KEPT) as kept, one_pass(), np.errstate(all="ignore"):
            self._there(kept, Trace((), entering=entering), progress)
            turned()
            dy = self._output(kept, tell)
            after(self._held)
            self._held.release()
            progress(model.n_layers + 1)
            for layer in reversed(range(model.n_layers)):
                for window in range(len(self._windows)):
                    self._layer(layer, window, kept, dy, tell)
                after(self._held)
                self._held.release()
                progress(2 * model.n_layers + 1 - layer)
            self._embedding(dy, tell)
            after(self._held)
            self._held.release()

    def _there(self, kept: Activations, trace: Trace, progress: Callable[[int], object]) -> None:
        """Keep what enters each layer, and leaves the last, by layer and window."""
        model = self._model
        for number, window in enumerate(self._windows):
            kept.write(0, number, model.embed(window))
        self._held.release()
        for layer in range(model.n_layers):
            for number, window in enumerate(self._windows):
                x = np.array(kept.read(layer, number, 0, len(window)))
                kept.write(layer + 1, number, model.layer(layer, x, trace=trace))
            self._held.release()
            progress(layer + 1)

    def _output(self, kept: Activations, tell: Callable[[Reached], object]) -> Floats:
        """Return the gradient of what leaves the last layer, (draws, tokens, E)."""
        model, hparams = self._model, self._model.hparams
        matrix, scale = model.output_matrix(), model.weights.vector("output_norm.weight")
        norm_back = gradients.rms_norm if model.graph.norm == "rms" else gradients.layer_norm
        cap = model.graph.logit_cap(hparams)
        found = np.empty((self._draws, self._tokens, hparams.embedding_length or 0), np.float32)
        step = max(1, _LOGITS // matrix.shape[0])
        parts = (
            (number, start, min(start + step, len(window)))
            for number, window in enumerate(self._windows)
            for start in range(0, len(window), step)
        )
        for number, start, stop in parts:
            places = self._spans[number].start + np.arange(start, stop)
            x = np.array(kept.read(model.n_layers, number, start, stop))
            normed = model.normed(x)
            logits = model.projected(normed)
            if not np.isfinite(logits).all():
                raise NonFiniteActivation(
                    "the logits overflow",
                    hint="the numbers of this model grow too large to be scored",
                )
            shares = ops.softmax(logits.copy())
            for draw in range(self._draws):
                dy = gradients.soft_cap(self.at_logits(shares, places, draw), logits, cap)
                tell(Reached(matrix.name, places, normed, None, dy, None, draw))
                inner = gradients.linear(dy, matrix)
                found[draw, places] = norm_back(inner, x, scale, model.norm_epsilon)
        return found

    def at_logits(self, shares: Floats, places: Places, draw: int) -> Floats:
        """shares (T, V) of the tokens at ``places`` -> a random gradient of each one's logits.

        Its mean is 0, and the mean of its products diag(p) - p p^T, the Fisher information, as of
        the gradients of ``-log p(y)`` over labels y drawn from p. But no rare label with a large
        gradient has to be met: with z of random signs it is sqrt(p) z - p (sqrt(p) . z).
        """
        rng = np.random.default_rng((self._seed, draw, int(places[0])))
        signs = rng.integers(0, 2, shares.shape, np.int8) * 2 - 1
        dy: Floats = np.sqrt(shares) * signs
        dy -= shares * dy.sum(axis=1, keepdims=True)
        return dy

    def _layer(
        self,
        layer: int,
        window: int,
        kept: Activations,
        dy: Floats,
        tell: Callable[[Reached], object],
    ) -> None:
        """Take the gradient dy (draws, tokens, E) through a layer, in place, in one window."""
        span, count = self._spans[window], len(self._windows[window])
        x = np.array(kept.read(layer, window, 0, count))
        made = LayerBack(self._model.graph, self._model.block(layer), x)
        first = kept.read(layer + 1, window, 0, count)
        if not np.abs(made.y - first).max() <= _AGREES * np.abs(first).max():
            raise NotRunnable(
                f"layer {layer} has no way back here: made again it comes out otherwise",
                hint="its family does more than this program takes gradients of",
            )
        tokens = np.arange(span.start, span.stop)
        for draw in range(self._draws):

            def pass_on(
                tensor: str,
                x: Floats,
                dy: Floats,
                chosen: Places | None,
                expert: int | None,
                draw: int = draw,
            ) -> None:
                places = tokens if chosen is None else tokens[chosen]
                tell(Reached(tensor, places, x, None, dy, expert, draw))

            dy[draw, span] = made.back(dy[draw, span].copy(), pass_on)

    def _embedding(self, dy: Floats, tell: Callable[[Reached], object]) -> None:
        rows = np.concatenate([np.array(window, np.intp) for window in self._windows])
        if self._model.graph.scaled_embedding:
            dy = dy * np.float32(np.sqrt(np.float32(dy.shape[-1])))
        places = np.arange(self._tokens)
        for draw in range(self._draws):
            tell(Reached("token_embd.weight", places, None, rows, dy[draw], None, draw))
