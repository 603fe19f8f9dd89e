"""The anatomy of a model: a layer in order, each quantity stored or computed.

This is where the weights in a file and the numbers that exist only while it runs are told apart.
``W_q`` is in the file; the attention scores, a product of two things made from the text, are not
and cannot be. The table itself is in the ``rows`` files; here it is read against one model: which
rows apply to a layer, and which numbers its symbols stand for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ggufscope.errors import HyperparameterError
from ggufscope.model.anatomy.attention import ATTENTION
from ggufscope.model.anatomy.conditions import Facts, words_of
from ggufscope.model.anatomy.feed_forward import FEED_FORWARD
from ggufscope.model.anatomy.quantities import Places, Quantity, Shape
from ggufscope.model.anatomy.rows import HEAD, TAIL, Kind, Row
from ggufscope.model.anatomy.symbols import layer_dims, measure
from ggufscope.model.families import FAMILIES, OTHER_GRAPHS, Family, window_of
from ggufscope.model.hparams import HParams, architecture_of, read_hparams
from ggufscope.model.roles import Role

LAYER: Final[tuple[Row, ...]] = (*ATTENTION, *FEED_FORWARD)
"""The table of a layer, for every family at once."""


@dataclass(frozen=True, slots=True)
class LayerAnatomy:
    """One layer: its quantities in order, or why only the stored ones can be told."""

    layer: int
    quantities: tuple[Quantity, ...]
    window: int | None = None
    """How many tokens it sees; None where it sees all."""
    not_derivable: str = ""


@dataclass(frozen=True, slots=True)
class Anatomy:
    """A whole model: what comes before the layers, the layers, what comes after."""

    tokens: int
    head: tuple[Quantity, ...]
    layers: tuple[LayerAnatomy, ...]
    tail: tuple[Quantity, ...]
    symbols: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """The symbols that its shapes use, each with its different numbers, ascending."""
    not_derivable: str = ""
    """Why nothing can be said of what is computed; empty where it can."""

    def all_quantities(self) -> tuple[Quantity, ...]:
        """Every quantity of every layer, in order."""
        layers = (quantity for layer in self.layers for quantity in layer.quantities)
        return (*self.head, *layers, *self.tail)

    def cache_elements(self) -> int:
        """How many numbers the KV cache holds for these tokens, over all layers."""
        return sum(q.n_elements for q in self.all_quantities() if q.kind is Kind.CACHED)


def anatomy_of(shapes: Mapping[str, Shape], metadata: Mapping[str, Any], tokens: int) -> Anatomy:
    """Tell apart what a model stores and what it computes over ``tokens`` tokens.

    ``shapes``: tensor name -> NumPy shape, for every tensor of the file. Never raises for what the
    file says: where its metadata does not allow it, only the stored quantities are given, and why.
    """
    places = Places(shapes)
    try:
        family = _family(architecture_of(metadata), places)
        return _derive(places, read_hparams(metadata), family, tokens)
    except HyperparameterError as error:
        return Anatomy(
            tokens,
            places.stored(None, ()),
            tuple(LayerAnatomy(layer, places.stored(layer, LAYER)) for layer in places.layers()),
            (),
            not_derivable=error.message,
        )


def _family(architecture: str | None, places: Places) -> Family:
    """Give the family, or raise ``HyperparameterError`` that says why its graph is not known."""
    if architecture is None:
        raise HyperparameterError("the file does not say what kind of model it is")
    family = FAMILIES.get(architecture)
    if family is None:
        reason = OTHER_GRAPHS.get(architecture, "is not one whose graph this program knows")
        raise HyperparameterError(f"architecture '{architecture}' {reason}")
    if not places.layers():
        raise HyperparameterError("the file holds no layer")
    return family


def _derive(places: Places, hparams: HParams, family: Family, tokens: int) -> Anatomy:
    used: dict[str, set[int]] = {}
    layers = []
    for layer in range(hparams.block_count):
        window = window_of(family, hparams, layer)
        dims = layer_dims(hparams, layer, tokens, window)
        facts = Facts(places.stems(layer), hparams, places.shape(layer, "ffn_up"), dims)
        reason = facts.not_derivable(hparams, layer)
        if reason:
            stored = places.stored(layer, LAYER)
            layers.append(LayerAnatomy(layer, stored, window, reason))
            continue
        bound = _Binding(places, layer, facts, family, hparams.architecture, dims)
        layers.append(LayerAnatomy(layer, bound.read(LAYER), window))
        for symbol, number in bound.used.items():
            used.setdefault(symbol, set()).add(number)
    for layer in places.layers():
        if layer >= hparams.block_count:
            reason = f"is beyond the {hparams.block_count} layers that the metadata counts"
            layers.append(LayerAnatomy(layer, places.stored(layer, LAYER), None, reason))
    dims = layer_dims(hparams, 0, tokens, None)
    facts = Facts(places.stems(None), hparams, None, dims)
    ends = _Binding(places, None, facts, family, hparams.architecture, dims)
    head, tail = ends.read(HEAD), ends.read(TAIL)
    named = {q.name for q in (*head, *tail)}
    others = tuple(q for q in places.stored(None, ()) if q.name not in named)
    for symbol, number in ends.used.items():
        used.setdefault(symbol, set()).add(number)
    symbols = {symbol: tuple(sorted(numbers)) for symbol, numbers in used.items()}
    return Anatomy(tokens, (*others, *head), tuple(layers), tail, symbols)


class _Binding:
    """Reads rows of the table against one layer."""

    def __init__(
        self,
        places: Places,
        layer: int | None,
        facts: Facts,
        family: Family,
        architecture: str,
        dims: Mapping[str, int | None],
    ) -> None:
        self.places, self.layer, self.facts = places, layer, facts
        self.architecture, self.dims = architecture, dims
        positions = "position_embd" in places.stems(None)
        self.words = words_of(facts, family, positions=positions)
        self.used: dict[str, int] = {}

    def read(self, rows: tuple[Row, ...]) -> tuple[Quantity, ...]:
        found: list[Quantity] = []
        for row in rows:
            if not self.facts.meets(row.needs):
                continue
            if row.kind is Kind.STORED:
                stem = row.name.removesuffix(".weight")
                found += [
                    self._tensor(row, *tensor) for tensor in self.places.of_stem(self.layer, stem)
                ]
            else:
                found.append(self._computed(row))
        if self.layer is not None:  # tensors that the table has no row for
            listed = {q.name for q in found if q.kind is Kind.STORED}
            rest = self.places.stored(self.layer, ())
            found += [q for q in rest if q.name not in listed]
        return tuple(found)

    def _tensor(self, row: Row, name: str, role: Role, shape: Shape) -> Quantity:
        if name != row.name:
            return Quantity(Kind.STORED, name, (), shape, (), f"Learned {role.suffix} of the same.")
        axes = self._axes(row.axes)
        try:
            fits = tuple(self._extent(axis) for axis in axes) == shape
        except (HyperparameterError, KeyError):  # the table has "?" where families differ
            fits = False
        return Quantity(Kind.STORED, name, axes if fits else (), shape, (), row.caption)

    def _computed(self, row: Row) -> Quantity:
        axes = self._axes(row.axes)
        shape = tuple(self._extent(axis) for axis in axes)
        made_from = row.made_from.format_map(self.words).split()
        present = tuple(name for name in made_from if self._exists(name))
        name, caption = row.name.format_map(self.words), row.caption.format_map(self.words)
        return Quantity(row.kind, name, axes, shape, present, caption)

    def _axes(self, axes: str) -> tuple[str, ...]:
        """Give the symbols of a shape; where both sizes of a head are equal, one symbol serves."""
        same = self.dims["M"] == self.dims["D"] and "latent" not in self.facts.words
        return tuple((axes.replace("M", "D") if same else axes).split())

    def _extent(self, axis: str) -> int:
        extent = measure(axis, self.dims, self.architecture)
        for symbol in axis.replace("*", "+").split("+"):
            if not symbol.isdigit():
                self.used[symbol] = self.dims[symbol] or 0
        return extent

    def _exists(self, name: str) -> bool:
        stem = name.removesuffix(".weight")
        return stem == name or self.layer is None or stem in self.facts.stems
