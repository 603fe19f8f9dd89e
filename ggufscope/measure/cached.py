"""A prompt token by token with a KV cache, beside the same prompt all at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ggufscope.arrays import Doubles, Floats, Places
from ggufscope.forward.cache import KVCache
from ggufscope.forward.checks import require_memory_for
from ggufscope.forward.held import LayerWeights
from ggufscope.forward.transformer import Transformer
from ggufscope.measure.verify import PASS
from ggufscope.pool import one_pass


@dataclass(frozen=True, slots=True)
class TokenByToken:
    """What each token of a prompt cost with a cache, and that it came out the same."""

    tokens: int
    numbers: int
    """What a token leaves in the cache: numbers of all layers' keys and values."""
    gaps: Doubles
    """(T,): largest difference of its logits, relative to the largest logit of all."""
    next_cached: Places
    """(T,): the token held likeliest to follow, with the cache."""
    next_whole: Places
    """(T,): the same all at once."""

    @property
    def computed(self) -> int:
        """Keys that are computed in each layer with the cache: one for each token."""
        return self.tokens

    @property
    def read(self) -> int:
        """Keys that are read from the cache in each layer: for each token those before it."""
        return self.tokens * (self.tokens - 1) // 2

    @property
    def without(self) -> int:
        """Keys that are computed in each layer where the text so far runs anew for each token."""
        return self.tokens * (self.tokens + 1) // 2

    @property
    def gap(self) -> float:
        """The largest difference of all tokens."""
        return float(self.gaps.max())

    @property
    def same(self) -> bool:
        """Whether the result is the same, but for the order of sums in float32."""
        return self.gap <= PASS


def token_by_token(
    model: Transformer, ids: Sequence[int], progress: Callable[[int], object] | None = None
) -> TokenByToken:
    """Run a prompt both ways, side by side through the layers: each layer is read once.

    Raises what ``Transformer.run`` raises, and ``TooMuchMemory`` before it starts.
    """
    model.require_runnable(ids)
    require_memory_for(model.hparams, len(ids), matrices=0, logits=True, runs=2)
    held = LayerWeights(model.weights)
    model = model.with_weights(held)
    cache, numbers = KVCache(), 0
    with one_pass(), np.errstate(all="ignore"):
        whole = single = model.embed(ids)
        for layer in range(model.n_layers):
            whole = model.layer(layer, whole)
            steps = [model.layer(layer, single[t : t + 1], cache=cache) for t in range(len(ids))]
            single = np.concatenate(steps)
            heads = model.block(layer).heads
            numbers += heads.groups * (heads.size + heads.width)
            held.release()
            if progress is not None:
                progress(layer + 1)
        found, wanted = model.logits(single), model.logits(whole)
        gaps = _gaps(found, wanted)
    if progress is not None:
        progress(model.n_layers + 1)
    return TokenByToken(len(ids), numbers, gaps, found.argmax(axis=1), wanted.argmax(axis=1))


def _gaps(found: Floats, wanted: Floats) -> Doubles:
    size = float(np.abs(wanted).max())
    gaps: Doubles = np.abs(found - wanted).max(axis=1).astype(np.float64)
    return gaps / size if size else gaps
