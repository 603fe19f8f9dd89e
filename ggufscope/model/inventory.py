"""What is stored: the tensors of a file with their roles, folded over layers, and totals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ggufscope.container.file import Tensor
from ggufscope.model.anatomy.build import LayerAnatomy
from ggufscope.model.roles import Role, role_of, without_layer


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
    n_elements: int
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
    """Put tensors together that are the same in every layer: same stem, shape and type.

    In file order of the first of each name, so that a name in two types stands on two lines that
    follow each other.
    """
    groups: dict[tuple[object, ...], list[Entry]] = {}
    names: dict[str, int] = {}
    for entry in entries:
        names.setdefault(_short_name(entry), len(names))
        role, tensor = entry.role, entry.tensor
        alike = (role.layer is None, _short_name(entry), tensor.shape, tensor.type)
        groups.setdefault(alike, []).append(entry)
    folds = [_fold(group) for group in groups.values()]
    return sorted(folds, key=lambda fold: names[fold.name])


def totals_by_type(entries: Iterable[Entry]) -> list[Total]:
    """Add the tensors up by type, the heaviest first."""
    return _totals((entry.tensor.type.name, entry) for entry in entries)


def totals_by_group(entries: Iterable[Entry]) -> list[Total]:
    """Add the tensors up by what they are for, the heaviest first."""
    return _totals((entry.role.group, entry) for entry in entries)


def _fold(group: Sequence[Entry]) -> Fold:
    first = group[0]
    layers = tuple(sorted(e.role.layer for e in group if e.role.layer is not None))
    return Fold(
        name=_short_name(first),
        role=first.role,
        first=first.tensor,
        layers=layers,
        n_elements=sum(entry.tensor.info.n_elements for entry in group),
        nbytes=sum(entry.tensor.nbytes for entry in group),
    )


def _short_name(entry: Entry) -> str:
    name, layer = entry.tensor.name, entry.role.layer
    return name if layer is None else without_layer(name, layer)


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
