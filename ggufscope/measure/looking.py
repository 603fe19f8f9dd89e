"""What one token looks at in all heads, who looks at a word, and the same word in two prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ggufscope.arrays import Array, Doubles, Floats
from ggufscope.forward.transformer import Transformer
from ggufscope.measure.patterns import Patterns
from ggufscope.measure.watching import watch


class TokenRows:
    """Keeps what one token looks at."""

    def __init__(self, position: int) -> None:
        self._position = position
        self.layers: dict[int, Floats] = {}
        """Layer -> (H, T)."""

    def rows(self, layer: int, first: int, shares: Floats) -> None:
        """Take the token's row, if it is among these."""
        if first <= self._position < first + shares.shape[1]:
            self.layers[layer] = shares[:, self._position - first].copy()

    def done(self, layer: int, patterns: Patterns) -> None:
        """Nothing is left to do."""


class TokenColumns:
    """Keeps what every token gives to some tokens together, the pieces of a word."""

    def __init__(self, pieces: Sequence[int]) -> None:
        self._pieces = [*pieces]
        self.layers: dict[int, Doubles] = {}
        """Layer -> (H, T)."""

    def rows(self, layer: int, first: int, shares: Floats) -> None:
        """Take the columns of some rows."""
        heads, count, tokens = shares.shape
        if first == 0:
            self.layers[layer] = np.zeros((heads, tokens))
        given = shares[:, :, self._pieces].sum(axis=2, dtype=np.float64)
        self.layers[layer][:, first : first + count] = given

    def done(self, layer: int, patterns: Patterns) -> None:
        """Nothing is left to do."""


@dataclass(frozen=True, slots=True)
class Look:
    """How much of its attention a token gives to a word, in one head."""

    layer: int
    head: int
    position: int
    share: float


def looks_at(columns: TokenColumns, pieces: range, only: int | None = None) -> list[Look]:
    """Return who looks at a word, the largest share first: of all tokens after it, or of one.

    A word's own pieces are left out, unless one of them is asked for.
    """
    found = [
        Look(layer, head, t, float(share))
        for layer, shares in columns.layers.items()
        for head, row in enumerate(shares)
        for t, share in enumerate(row.tolist())
        if share > 0 and (t == only if only is not None else t > pieces[-1])
    ]
    return sorted(found, key=lambda each: (-each.share, each.layer, each.head, each.position))


@dataclass(frozen=True, slots=True)
class MetAgain:
    """The same word in two prompts: one layer."""

    layer: int
    rows: tuple[Floats, Floats]
    """(H, T) of each prompt: what the word looks at."""
    differences: Doubles
    """(H,): how far what a head found differs, 0 where it is the same, over the larger of both."""
    cosine: float
    """Of the word's vector as it leaves the layer, in both prompts."""


@dataclass(frozen=True, slots=True)
class TwoPrompts:
    """The same word in two prompts."""

    same_row: bool
    """Whether both are the same token, and so the same row of the embedding table."""
    embedding: float
    """Cosine of the two rows."""
    layers: list[MetAgain]


_KEPT: Final = frozenset({"embd", "kqv", "l_out"})


def meet(
    model: Transformer,
    prompts: tuple[Sequence[int], Sequence[int]],
    positions: tuple[int, int],
    progress: Callable[[int], object] | None = None,
) -> TwoPrompts:
    """Run two prompts and return what one token of each looks at, and becomes, layer by layer.

    Raises what ``watch`` raises.
    """
    rows: list[dict[int, Floats]] = []
    kept: list[dict[tuple[str, int | None], Array]] = []
    for ids, position in zip(prompts, positions, strict=True):
        watcher, found = TokenRows(position), dict[tuple[str, int | None], Array]()

        def sink(
            name: str,
            layer: int | None,
            array: Array,
            found: dict[tuple[str, int | None], Array] = found,
            position: int = position,
        ) -> None:
            of_token = array[:, position] if name == "kqv" else array[position]
            found[name, layer] = of_token.astype(np.float64)

        watch(model, ids, watchers=[watcher], keep=_KEPT, sink=sink, progress=progress)
        rows.append(watcher.layers)
        kept.append(found)
    one, other = kept
    layers = [
        MetAgain(
            layer,
            (rows[0][layer], rows[1][layer]),
            _differences(one["kqv", layer], other["kqv", layer]),
            _cosine(one["l_out", layer], other["l_out", layer]),
        )
        for layer in range(model.n_layers)
    ]
    ids = [prompt[position] for prompt, position in zip(prompts, positions, strict=True)]
    return TwoPrompts(ids[0] == ids[1], _cosine(one["embd", None], other["embd", None]), layers)


def _differences(one: Doubles, other: Doubles) -> Doubles:
    """One, other (H, M) -> (H,): length of the difference over the larger length."""
    lengths = [np.sqrt(np.square(each).sum(axis=1)) for each in (one - other, one, other)]
    larger = np.maximum(lengths[1], lengths[2])
    with np.errstate(all="ignore"):
        found: Doubles = np.where(larger == 0, 0.0, lengths[0] / larger)
    return found


def _cosine(one: Doubles, other: Doubles) -> float:
    with np.errstate(all="ignore"):
        return float(one @ other / np.sqrt((one @ one) * (other @ other)))
