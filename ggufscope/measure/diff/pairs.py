"""Which tensor of B is which tensor of A: by name, and by their bytes where a name is new."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from math import prod

from ggufscope.container.file import GGUFFile, Tensor
from ggufscope.measure.diff.agreement import Agreement
from ggufscope.measure.diff.making import Made
from ggufscope.measure.reading import read_bytes
from ggufscope.threads import side_by_side

_PIECE = 1 << 22
"""Bytes that are hashed at a time."""


class Kind(StrEnum):
    """What became of a tensor from A to B."""

    SAME = "same"
    """The same bytes."""
    RECODED = "recoded"
    """The same weights, in another type or in other bytes."""
    REQUANTIZED = "requantized"
    """The same weights but for what quantizing loses."""
    DIFFERENT = "different"
    RESHAPED = "reshaped"
    RENAMED = "renamed"
    """The same bytes under another name."""
    REMOVED = "removed"
    ADDED = "added"
    UNREAD = "unread"
    """Of one shape in both; the weights were not looked at, or cannot be."""


@dataclass(frozen=True, slots=True)
class TensorChange:
    """One tensor of A, of B, or of both, and what became of it."""

    name: str
    """In A; in B where A has none."""
    kind: Kind
    a: Tensor | None
    b: Tensor | None
    agreement: Agreement | None = None
    """Over the weights that were compared; None where none were."""
    made: Made | None = None
    """How one comes from the other, where it does."""

    @property
    def relative(self) -> float:
        """The relative error; 0 where nothing was compared."""
        return self.agreement.relative if self.agreement else 0.0

    @property
    def is_matrix(self) -> bool:
        """Whether it has more than one row: trained apart, those have nothing in common."""
        tensor = self.a or self.b
        return tensor is not None and max(tensor.shape[:-1], default=0) > 1


@dataclass(frozen=True, slots=True)
class Pair:
    """A tensor of A and one of B that belong together."""

    a: Tensor
    b: Tensor

    @property
    def n(self) -> int:
        """Weights that can be compared: all, or those of the rows that both have; 0 for none."""
        if self.a.shape == self.b.shape or self.a.info.n_elements == self.b.info.n_elements:
            # The other shape of the same weights: only where the blocks of both fit either row.
            same_rows = self.a.shape[-1:] == self.b.shape[-1:]
            plain = all(getattr(t.type, "block_length", 0) == 1 for t in (self.a, self.b))
            return self.a.info.n_elements if same_rows or plain else 0
        rows, others = self.a.shape[:-1], self.b.shape[:-1]
        # Only rows at the end may be missing: of a vocabulary that was made larger.
        if self.a.shape[-1:] != self.b.shape[-1:] or rows[1:] != others[1:] or not rows:
            return 0
        return min(rows[0], others[0]) * prod(self.a.shape[1:]) if others else 0


def pairs_of(a: GGUFFile, b: GGUFFile, *, renamed: bool) -> tuple[list[Pair], list[TensorChange]]:
    """Return the tensors that both have, and those that one has alone, or under another name.

    ``renamed``: look at the bytes of the latter to find out.
    """
    pairs = [Pair(t, b.tensors[name]) for name, t in a.tensors.items() if name in b.tensors]
    only_a = [t for name, t in a.tensors.items() if name not in b.tensors]
    only_b = [t for name, t in b.tensors.items() if name not in a.tensors]
    found = _renamed(only_a, only_b) if renamed else {}
    changes = [
        TensorChange(t.name, Kind.RENAMED, t, found[t.name])
        if t.name in found
        else TensorChange(t.name, Kind.REMOVED, t, None)
        for t in only_a
    ]
    taken = {t.name for t in found.values()}
    changes += [TensorChange(t.name, Kind.ADDED, None, t) for t in only_b if t.name not in taken]
    return pairs, changes


def _renamed(only_a: list[Tensor], only_b: list[Tensor]) -> dict[str, Tensor]:
    """Return A's name -> B's tensor of the same shape, type and bytes; of several in file order."""
    keys = {_key(t) for t in only_a} & {_key(t) for t in only_b}
    there: dict[tuple[object, ...], list[Tensor]] = defaultdict(list)
    for digest, tensor in _digests(t for t in only_b if _key(t) in keys):
        there[_key(tensor), digest].append(tensor)
    found = {}
    for digest, tensor in _digests(t for t in only_a if _key(t) in keys):
        if alike := there.get((_key(tensor), digest)):
            found[tensor.name] = alike.pop(0)
    return found


def _key(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.type.number, tensor.nbytes, tensor.shard.header.order


def _digests(tensors: Iterable[Tensor]) -> Iterable[tuple[bytes, Tensor]]:
    return side_by_side(_digest, list(tensors), 4)


def _digest(tensor: Tensor) -> tuple[bytes, Tensor]:
    hashed = hashlib.blake2b(digest_size=16)
    for start in range(0, tensor.nbytes, _PIECE):
        hashed.update(read_bytes(tensor, start, min(start + _PIECE, tensor.nbytes)).data)
    return hashed.digest(), tensor
