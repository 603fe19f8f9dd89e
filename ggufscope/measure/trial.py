"""Candidates held to the model that they are made of: the KL divergence of each token of a text.

The candidates go through the layers one beside the other, each layer of each quantized once for all
windows, and no more than one layer is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ggufscope.arrays import Doubles
from ggufscope.forward.held import LayerWeights
from ggufscope.forward.remembered import RememberedWeights
from ggufscope.forward.transformer import Transformer
from ggufscope.forward.weights import Weights
from ggufscope.measure.metrics.distributions import kl_divergence
from ggufscope.pool import one_pass

_LOGITS: Final = 1 << 23
"""Logits that are compared together: 64 MiB as float64, some times over."""


@dataclass(frozen=True, slots=True, eq=False)
class Divergence:
    """How far a candidate's predictions are from the model's, in nats."""

    each: Doubles
    """(tokens,)."""

    @property
    def nats(self) -> float:
        """The mean over all tokens."""
        return float(self.each.mean())

    @property
    def error(self) -> float:
        """One standard error of the mean."""
        return _error(self.each)

    def less_than(self, other: Divergence) -> tuple[float, float]:
        """Return how much smaller the mean is than another's on the same tokens, and its error."""
        gain = other.each - self.each
        return float(gain.mean()), _error(gain)


def _error(each: Doubles) -> float:
    return float(each.std(ddof=1) / np.sqrt(len(each))) if len(each) > 1 else float("nan")


def divergences(
    model: Transformer,
    candidates: Sequence[Weights],
    windows: Sequence[Sequence[int]],
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> list[Divergence]:
    """Run windows of token ids through a model and other views of its weights; compare.

    ``progress`` is told of layers done and of all. Raises what ``Transformer.run`` does.
    """
    views: list[LayerWeights | RememberedWeights] = [LayerWeights(model.weights)]
    views += [RememberedWeights(weights) for weights in candidates]
    runners = [model.with_weights(view) for view in views]
    found: list[list[Doubles]] = [[] for _ in candidates]
    with one_pass(), np.errstate(all="ignore"):
        xs = [[runner.embed(window) for window in windows] for runner in runners]
        _release(views)
        for layer in range(model.n_layers):
            for index, runner in enumerate(runners):
                xs[index] = [runner.layer(layer, x) for x in xs[index]]
                views[index].release()
            progress(layer + 1, model.n_layers + 1)
        step = max(1, _LOGITS // model.n_vocab)
        for window in range(len(windows)):
            for start in range(0, len(windows[window]), step):
                logits = [
                    runner.logits(x[window][start : start + step])
                    for runner, x in zip(runners, xs, strict=True)
                ]
                for each, other in zip(found, logits[1:], strict=True):
                    each.append(kl_divergence(logits[0], other))
        _release(views)
        progress(model.n_layers + 1, model.n_layers + 1)
    return [Divergence(np.concatenate(each)) for each in found]


def _release(views: Sequence[LayerWeights | RememberedWeights]) -> None:
    for view in views:
        view.release()
