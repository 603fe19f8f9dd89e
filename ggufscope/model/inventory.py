"""What is stored: the tensors of a file with their roles, folded over layers, and totals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ggufscope.container.file import Tensor
from ggufscope.model.anatomy.build import LayerAnatomy
from ggufscope.model.roles import Role, role_of, without_layer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored tensor and what it is for."""

    tensor: Tensor
    role: Role


@dataclass(frozen=True, slots=True)
class Fold:
    """Tensors of several layers that differ in the layer alone: one line of a listing."""

    name: str
    """Its full name; within the layers, the name without ``blk.N.``."""
    role: Role
    first: Tensor
    layers: tuple[int, ...]
    """The layers that have it; empty for a tensor outside the layers."""
    nbytes: int


@dataclass(frozen=True, slots=True)
class Total:
    """The weight of all tensors of one type, or of one role."""

    name: str
    tensors: int
    n_elements: int
    nbytes: int

    @property
    def bits_per_weight(self) -> float:
        """Bits of storage for each weight."""
        return 8 * self.nbytes / self.n_elements if self.n_elements else 0.0


def entries_of(tensors: Iterable[Tensor]) -> list[Entry]:
    """Return each tensor its role, in file order."""
    return [Entry(tensor, role_of(tensor.name)) for tensor in tensors]


def fold(entries: Sequence[Entry]) -> list[Fold]:
    """Put tensors together that are the same in every layer: same stem, shape and type."""
    groups = fold_alike(
        entries, lambda entry: entry.tensor.name, lambda e: (e.tensor.shape, e.tensor.type)
    )
    return [
        Fold(
            name=name,
            role=group[0].role,
            first=group[0].tensor,
            layers=layers,
            nbytes=sum(entry.tensor.nbytes for entry in group),
        )
        for name, layers, group in groups
    ]


def fold_alike(
    items: Iterable[T], name_of: Callable[[T], str], alike: Callable[[T], object]
) -> list[tuple[str, tuple[int, ...], list[T]]]:
    """Put items together that are alike but for their layer: (name without it, layers, items).

    In order of the first of each name, so that a name of which not all are alike stands on lines
    that follow each other.
    """
    groups: dict[tuple[bool, str, object], list[tuple[int, T]]] = {}
    names: dict[str, int] = {}
    for item in items:
        name = name_of(item)
        layer = role_of(name).layer
        short = name if layer is None else without_layer(name, layer)
        names.setdefault(short, len(names))
        of_layer = (-1 if layer is None else layer, item)
        groups.setdefault((layer is None, short, alike(item)), []).append(of_layer)
    folds = [
        (short, () if whole else tuple(sorted(n for n, _ in group)), [item for _, item in group])
        for (whole, short, _), group in groups.items()
    ]
    return sorted(folds, key=lambda each: names[each[0]])


def totals_by_type(entries: Iterable[Entry]) -> list[Total]:
    """Add the tensors up by type, the heaviest first."""
    return _totals((entry.tensor.type.name, entry) for entry in entries)


def totals_by_group(entries: Iterable[Entry]) -> list[Total]:
    """Add the tensors up by what they are for, the heaviest first."""
    return _totals((entry.role.group, entry) for entry in entries)


def _totals(named: Iterable[tuple[str, Entry]]) -> list[Total]:
    sums: dict[str, tuple[int, int, int]] = {}
    for name, entry in named:
        tensors, elements, nbytes = sums.get(name, (0, 0, 0))
        info = entry.tensor.info
        sums[name] = (tensors + 1, elements + info.n_elements, nbytes + info.nbytes)
    totals = [Total(name, *numbers) for name, numbers in sums.items()]
    return sorted(totals, key=lambda total: -total.nbytes)


def fold_layers(layers: Iterable[LayerAnatomy]) -> list[tuple[tuple[int, ...], LayerAnatomy]]:
    """Put layers together that have the same quantities in the same shapes: (layers, one of them).

    In order of the first of each.
    """
    groups: dict[tuple[object, ...], list[LayerAnatomy]] = {}
    for layer in layers:
        alike = tuple((q.kind, q.name, q.axes, q.shape) for q in layer.quantities)
        groups.setdefault((alike, layer.window, layer.not_derivable), []).append(layer)
    return [(tuple(layer.layer for layer in group), group[0]) for group in groups.values()]
