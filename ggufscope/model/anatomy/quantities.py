"""One quantity of one model, and the stored tensors by the layer they belong to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ggufscope.model.anatomy.rows import Kind, Row
from ggufscope.model.roles import Role, role_of, without_layer

FLOAT_BYTES: Final = 4
"""Bytes of a computed number: the graph works in float32."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Quantity:
    """One row of the table, with the numbers of one layer of one model."""

    kind: Kind
    name: str
    """``attn_q.weight`` or ``Qcur``: without the layer."""
    axes: tuple[str, ...]
    """The shape in symbols; empty where the table has none for it."""
    shape: Shape
    made_from: tuple[str, ...]
    caption: str

    @property
    def n_elements(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in float32, as it is computed."""
        return FLOAT_BYTES * self.n_elements


class Places:
    """The tensors of a file by the layer they belong to; layer None is outside the layers."""

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self._by_layer: dict[int | None, dict[str, tuple[Role, Shape]]] = {}
        for name, shape in shapes.items():
            role = role_of(name)
            layer = None if role.tower else role.layer
            short = name if layer is None else without_layer(name, layer)
            self._by_layer.setdefault(layer, {})[short] = (role, shape)

    def layers(self) -> list[int]:
        """Return the layers that have tensors, ascending."""
        return sorted(layer for layer in self._by_layer if layer is not None)

    def stems(self, layer: int | None) -> frozenset[str]:
        """Return the stems of a layer's tensors."""
        return frozenset(role.stem for role, _ in self._by_layer.get(layer, {}).values())

    def shape(self, layer: int | None, stem: str) -> Shape | None:
        """Return the shape of a layer's weight, or None where it has none of this stem."""
        return self._by_layer.get(layer, {}).get(f"{stem}.weight", (None, None))[1]

    def of_stem(self, layer: int | None, stem: str) -> list[tuple[str, Role, Shape]]:
        """Return the tensors of a stem: its weight, then its bias and scale where it has them."""
        found = [
            (name, role, shape)
            for name, (role, shape) in self._by_layer.get(layer, {}).items()
            if role.stem == stem
        ]
        return sorted(found, key=lambda tensor: tensor[1].suffix != "weight")

    def stored(self, layer: int | None, rows: tuple[Row, ...]) -> tuple[Quantity, ...]:
        """Return every tensor of a layer with its actual shape, captioned where the table can."""
        captions = {row.name: row.caption for row in rows if row.kind is Kind.STORED}
        return tuple(
            Quantity(Kind.STORED, name, (), shape, (), captions.get(name, _sentence(role)))
            for name, (role, shape) in self._by_layer.get(layer, {}).items()
        )


def _sentence(role: Role) -> str:
    return f"{role.label[:1].upper()}{role.label[1:]}." if role.label else ""
