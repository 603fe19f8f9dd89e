"""Two models, whatever their types and shards: what differs, worst first, and what B is to A.

Bytes are compared first, and nothing of what is the same is decoded. The rest is read side by side
a tile at a time, in threads: some megabytes are in memory, however large the models.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import inf
from queue import Empty, SimpleQueue
from typing import Final

import numpy as np

from ggufscope.blocks.error import NO_ERROR, WeightError
from ggufscope.blocks.layouts import LAYOUTS, Layout
from ggufscope.container.file import GGUFFile, Tensor
from ggufscope.machine import processors
from ggufscope.measure.diff.agreement import NO_AGREEMENT, STRETCH, Agreement, agreement
from ggufscope.measure.diff.making import Made, how_made
from ggufscope.measure.diff.metadata import KeyChange, metadata_changes
from ggufscope.measure.diff.pairs import Kind, Pair, TensorChange, pairs_of
from ggufscope.measure.diff.verdict import Relation, Verdict, verdict_of
from ggufscope.measure.reading import RAW, Room, read_bytes, read_weights, tiles
from ggufscope.recipes.fit import preset_words
from ggufscope.threads import side_by_side

_IMPORTANCE_KEY: Final = "quantize.imatrix.file"
_INEXACT: Final = frozenset({"I32", "I64", "F64"})
"""Types that float32, which weights are read as, does not hold exactly."""
_ORDER: Final = {
    kind: number
    for number, kind in enumerate(
        (
            *(Kind.RESHAPED, Kind.DIFFERENT, Kind.UNREAD, Kind.REMOVED, Kind.ADDED),
            *(Kind.REQUANTIZED, Kind.RECODED, Kind.RENAMED, Kind.SAME),
        )
    )
}
_WORST_FIRST: Final = frozenset({Kind.DIFFERENT, Kind.REQUANTIZED})

Progress = Callable[[int, int, str], None]
"""Told the bytes that are done, those there are, and the tensor."""


class _TwoRooms:
    """Room for a tile of each side, and for sums over it."""

    def __init__(self) -> None:
        self.a, self.b = Room(), Room()
        self.sums = np.empty((2, STRETCH))


class _Rooms:
    """As many as there are threads at work; each is used again and again."""

    def __init__(self) -> None:
        self._free: SimpleQueue[_TwoRooms] = SimpleQueue()

    @contextmanager
    def one(self) -> Iterator[_TwoRooms]:
        """Lend one."""
        try:
            room = self._free.get_nowait()
        except Empty:
            room = _TwoRooms()
        yield room
        self._free.put(room)


@dataclass(frozen=True, slots=True)
class Diff:
    """What differs between model A and model B."""

    metadata: tuple[KeyChange, ...]
    tensors: tuple[TensorChange, ...]
    """Every tensor of both, the worst first."""
    recipes: tuple[str, str]
    """What A and B were quantized to, by the types of their tensors."""
    verdict: Verdict
    quick: bool
    """Whether the headers alone were read."""

    @property
    def same(self) -> bool:
        """Whether nothing differs that was looked at."""
        return self.verdict.relation in {Relation.IDENTICAL, Relation.SAME_HEADERS}

    def count(self, kind: Kind) -> int:
        """Return how many tensors are of a kind."""
        return sum(change.kind is kind for change in self.tensors)

    @property
    def error(self) -> WeightError:
        """The error of all weights that were compared, together."""
        found = (change.agreement.error for change in self.tensors if change.agreement)
        return sum(found, NO_ERROR)

    @property
    def relative(self) -> float:
        """The error of all together, relative to A's weights."""
        return relative_of(self.tensors)


def relative_of(changes: Iterable[TensorChange]) -> float:
    """Return the error of some tensors together, relative to A's weights.

    Infinite where a weight is a number in one of the two alone.
    """
    found = [change.agreement for change in changes if change.agreement]
    if any(each.unmatched for each in found):
        return inf
    return sum((each.error for each in found), NO_ERROR).relative


def diff(
    a: GGUFFile,
    b: GGUFFile,
    *,
    quick: bool = False,
    threads: int | None = None,
    progress: Progress = lambda *_: None,
) -> Diff:
    """Compare two open models; errors are B's, relative to A's weights.

    ``quick``: the headers alone. Raises ``SourceChanged`` or ``SourceUnreadable``.
    """
    metadata = metadata_changes(a.metadata, b.metadata)
    pairs, changes = pairs_of(a, b, renamed=not quick)
    if quick:
        changes += [TensorChange(p.a.name, _by_header(p), p.a, p.b) for p in pairs]
    else:
        changes += _compared(pairs, threads or processors(), progress)
    recipes = (
        preset_words(list(a.tensors.values()), a.metadata),
        preset_words(list(b.tensors.values()), b.metadata),
    )
    weighed = _IMPORTANCE_KEY in a.metadata, _IMPORTANCE_KEY in b.metadata
    verdict = verdict_of(changes, len(metadata), recipes, weighed, quick=quick)
    changes.sort(key=_rank)
    return Diff(tuple(metadata), tuple(changes), recipes, verdict, quick)


def _rank(change: TensorChange) -> tuple[int, float]:
    error = -change.relative if change.kind in _WORST_FIRST else 0.0
    return _ORDER[change.kind], error


def _by_header(pair: Pair) -> Kind:
    return Kind.RESHAPED if pair.a.shape != pair.b.shape else Kind.UNREAD


def _compared(pairs: Sequence[Pair], threads: int, progress: Progress) -> Iterator[TensorChange]:
    same = _same_bytes(pairs, threads, progress)
    rest = [pair for pair in pairs if pair.a.name not in same and _readable(pair)]
    found = _agreements(rest, threads, progress)
    for pair, made in zip(
        rest, side_by_side(partial(_how_made, found), rest, threads), strict=True
    ):
        agreed = found[pair.a.name]
        kind = Kind.DIFFERENT
        if pair.a.shape != pair.b.shape:
            kind = Kind.RESHAPED
        elif agreed.equal and not (pair.a.type is pair.b.type and pair.a.type.name in _INEXACT):
            kind = Kind.RECODED
        elif made is not None:
            kind = Kind.REQUANTIZED
        yield TensorChange(pair.a.name, kind, pair.a, pair.b, agreed, made)
    read = {pair.a.name for pair in rest}
    for pair in pairs:
        if pair.a.name in same:
            yield TensorChange(pair.a.name, Kind.SAME, pair.a, pair.b)
        elif pair.a.name not in read:
            foreign = pair.a.shape == pair.b.shape and pair.a.type == pair.b.type
            kind = Kind.DIFFERENT if foreign else _by_header(pair)
            yield TensorChange(pair.a.name, kind, pair.a, pair.b)


def _readable(pair: Pair) -> bool:
    return isinstance(pair.a.type, Layout) and isinstance(pair.b.type, Layout) and pair.n > 0


def _how_made(found: dict[str, Agreement], pair: Pair) -> Made | None:
    agreed = found[pair.a.name]
    if pair.a.shape != pair.b.shape or agreed.equal:
        return None
    return how_made(pair.a, pair.b, agreed)


def _same_bytes(pairs: Sequence[Pair], threads: int, progress: Progress) -> set[str]:
    """Return the names of the tensors whose bytes are the same; reads each to the first other."""
    alike = [pair for pair in pairs if _may_be_same(pair)]
    total, done = sum(pair.a.nbytes for pair in alike), 0
    other: set[str] = set()

    def pieces() -> Iterator[tuple[Pair, int]]:
        for pair in alike:
            for start in range(0, pair.a.nbytes, RAW):
                if pair.a.name not in other:
                    yield pair, start

    for pair, start, same in side_by_side(partial(_piece_is_same, _Rooms()), pieces(), threads):
        if not same:
            other.add(pair.a.name)
        done += min(RAW, pair.a.nbytes - start)
        progress(done, total, pair.a.name)
    return {pair.a.name for pair in alike} - other


def _may_be_same(pair: Pair) -> bool:
    a, b = pair.a, pair.b
    orders = a.shard.header.order == b.shard.header.order
    return a.shape == b.shape and a.type == b.type and a.nbytes == b.nbytes and orders


def _piece_is_same(rooms: _Rooms, piece: tuple[Pair, int]) -> tuple[Pair, int, bool]:
    pair, start = piece
    stop = min(start + RAW, pair.a.nbytes)
    with rooms.one() as room:
        x = read_bytes(pair.a, start, stop, room.a.raw)
        same = np.array_equal(x, read_bytes(pair.b, start, stop, room.b.raw))
    return pair, start, same


def _agreements(pairs: Sequence[Pair], threads: int, progress: Progress) -> dict[str, Agreement]:
    """Return how the weights of each pair agree, by A's name."""
    total, done = sum(_tile_bytes(pair, 0, pair.n) for pair in pairs), 0
    found: dict[str, Agreement] = defaultdict(lambda: NO_AGREEMENT)
    work = ((pair, start, stop) for pair in pairs for start, stop in tiles(pair.n))
    for pair, start, stop, agreed in side_by_side(partial(_tile, _Rooms()), work, threads):
        found[pair.a.name] += agreed
        done += _tile_bytes(pair, start, stop)
        progress(done, total, pair.a.name)
    return found


def _tile(rooms: _Rooms, tile: tuple[Pair, int, int]) -> tuple[Pair, int, int, Agreement]:
    pair, start, stop = tile
    with rooms.one() as room:
        r = read_weights(pair.a, start, stop, room.a)
        c = read_weights(pair.b, start, stop, room.b)
        return pair, start, stop, agreement(r, c, start, room.sums)


def _tile_bytes(pair: Pair, start: int, stop: int) -> int:
    return sum(_bytes(tensor, stop - start) for tensor in (pair.a, pair.b))


def _bytes(tensor: Tensor, weights: int) -> int:
    return LAYOUTS[tensor.type.name].row_bytes(weights)
