"""All heads of a model in one table: what W_O makes of them, and what they look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ggufscope.arrays import Array
from ggufscope.forward.transformer import Transformer
from ggufscope.measure.outputs import OutputShares, output_shares
from ggufscope.measure.patterns import Patterns
from ggufscope.measure.watching import watch

REPEATED: Final = 24
"""Random tokens that come twice, to see which heads look for what came before."""
_SEED: Final = 1


@dataclass(frozen=True, slots=True)
class Surveyed:
    """The heads of one layer."""

    layer: int
    outputs: OutputShares
    """What W_O makes of them, over the prompt."""
    patterns: Patterns
    """What they look at, over the prompt."""
    repeated: Patterns | None
    """The same over random tokens that come twice; None where there is no room for these."""


def survey(
    model: Transformer, ids: Sequence[int], progress: Callable[[int], object] | None = None
) -> list[Surveyed]:
    """Run a prompt, and random tokens that come twice; return all heads, layer by layer.

    ``equal`` and ``induction`` need tokens that come again, which few prompts have. Raises what
    ``watch`` raises.
    """
    outputs: list[OutputShares] = []
    joined: Array = np.empty(0)

    def sink(name: str, layer: int | None, array: Array) -> None:
        nonlocal joined
        if name == "kqv_out":
            joined = array
        elif layer is not None:
            block = model.block(layer)
            w_o = model.weights.matrix(block.name("attn_output"))
            outputs.append(output_shares(joined, array, w_o, block.heads.count))

    seen = watch(model, ids, keep={"kqv_out", "attn_out"}, sink=sink, progress=progress)
    twice = repeated_tokens(model, ids[0])
    again = watch(model, twice).patterns if twice else {}
    return [
        Surveyed(layer, outputs[layer], patterns, again.get(layer))
        for layer, patterns in seen.patterns.items()
    ]


def repeated_tokens(model: Transformer, first: int) -> list[int]:
    """Return a first token and random ones, twice; nothing where two do not fit the context."""
    room = (model.n_context or 2 * REPEATED + 1) - 1
    count = min(REPEATED, room // 2)
    if count < 2:
        return []
    drawn = np.random.default_rng(_SEED).choice(model.n_vocab, count, replace=model.n_vocab < count)
    return [first, *drawn.tolist(), *drawn.tolist()]
