"""The table read against one model: which rows apply to a layer, and the numbers of its symbols.

This is where the weights in a file and the numbers that exist only while it runs are told apart.
``W_q`` is in the file; the attention scores, a product of two things made from the text, are not
and cannot be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ggufscope.errors import HyperparameterError
from ggufscope.model.anatomy.conditions import ATTENDS, LATENT, PARALLEL, POST_ATTN, Facts
from ggufscope.model.anatomy.quantities import Places, Quantity, Shape
from ggufscope.model.anatomy.rows import Kind, Row
from ggufscope.model.anatomy.symbols import layer_dims, measure, unknown_symbol
from ggufscope.model.anatomy.table import HEAD, LAYER, TAIL
from ggufscope.model.families import FAMILIES, OTHER_GRAPHS, Family, window_of
from ggufscope.model.hparams import HParams, read_hparams
from ggufscope.model.keys import architecture_of
from ggufscope.model.roles import Role, role_of


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

    def computed_names(self) -> list[str]:
        """Return the names of what is computed, each once, in order."""
        found = (q.name for q in self.all_quantities() if q.kind is Kind.COMPUTED)
        return list(dict.fromkeys(found))

    def cache_elements(self) -> int:
        """How many numbers the KV cache holds for these tokens, over all layers."""
        return sum(q.n_elements for q in self.all_quantities() if q.kind is Kind.CACHED)


def anatomy_of(shapes: Mapping[str, Shape], metadata: Mapping[str, Any], tokens: int) -> Anatomy:
    """Return what a model stores and what it computes over ``tokens`` tokens.

    ``shapes``: tensor name -> NumPy shape, for every tensor of the file. Never raises for what the
    file says: where its metadata does not allow it, only the stored quantities are there, and why.
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
    """Return the family, or raise ``HyperparameterError`` that says why its graph is not known."""
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
    symbols: dict[str, set[int]] = {}
    layers = []
    for layer in range(hparams.block_count):
        window = window_of(family, hparams, layer)
        place = _Place(places, layer, hparams, family, tokens, window)
        reason = _not_derivable(place.facts, hparams, layer)
        if reason:
            layers.append(LayerAnatomy(layer, places.stored(layer, LAYER), window, reason))
            continue
        quantities = place.read_layer()
        layers.append(LayerAnatomy(layer, quantities, window))
        _note_symbols(symbols, quantities, place.dims)
    for layer in places.layers():
        if layer >= hparams.block_count:
            reason = f"is beyond the {hparams.block_count} layers that the metadata counts"
            layers.append(LayerAnatomy(layer, places.stored(layer, LAYER), None, reason))
    ends = _Place(places, None, hparams, family, tokens, None)
    head, tail = ends.read(HEAD), ends.read(TAIL)
    named = {q.name for q in (*head, *tail)}
    others = tuple(q for q in places.stored(None, ()) if q.name not in named)
    _note_symbols(symbols, (*head, *tail), ends.dims)
    found = {symbol: tuple(sorted(numbers)) for symbol, numbers in symbols.items()}
    return Anatomy(tokens, (*others, *head), tuple(layers), tail, found)


def _not_derivable(facts: Facts, hparams: HParams, layer: int) -> str:
    """Return why what a layer computes is not known; empty where it is."""
    if layer >= hparams.block_count - hparams.nextn_predict_layers:
        return "predicts further tokens, and is left out of an ordinary pass"
    if not facts.stems:
        return "has no tensors in this file"
    states = sorted(s for s in facts.stems if role_of(f"blk.0.{s}").group == "recurrent")
    attends = ATTENDS.holds(facts)
    if states:
        beside = "has a state beside attention" if attends else "keeps a state instead of attention"
        return f"{beside} ({states[0]})"
    return "" if attends else "has no attention"


def _note_symbols(
    symbols: dict[str, set[int]],
    quantities: Iterable[Quantity],
    dims: Mapping[str, int | None],
) -> None:
    for axis in dict.fromkeys(axis for quantity in quantities for axis in quantity.axes):
        for symbol in re.findall("[A-Z]", axis):
            symbols.setdefault(symbol, set()).add(dims[symbol] or 0)


class _Place:
    """One layer of one model, or what is outside the layers (None), to read rows against."""

    def __init__(
        self,
        places: Places,
        layer: int | None,
        hparams: HParams,
        family: Family,
        tokens: int,
        window: int | None,
    ) -> None:
        self.places, self.layer, self.architecture = places, layer, hparams.architecture
        self.dims = layer_dims(hparams, layer or 0, tokens, window)
        stems, up = places.stems(layer), places.shape(layer, "ffn_up")
        width = self.dims["F"] or 0
        self.facts = Facts(stems, hparams.is_mla, hparams.parallel_residual, up, width)
        self.words = _words(self.facts, family, positions="position_embd" in places.stems(None))

    def read_layer(self) -> tuple[Quantity, ...]:
        """Return what a layer has: the rows of the table, then tensors that it has no row for."""
        found = self.read(LAYER)
        listed = {q.name for q in found if q.kind is Kind.STORED}
        rest = self.places.stored(self.layer, ())
        return (*found, *(q for q in rest if q.name not in listed))

    def read(self, rows: tuple[Row, ...]) -> tuple[Quantity, ...]:
        """Return the quantities of the rows that apply."""
        found: list[Quantity] = []
        for row in rows:
            if not row.when.holds(self.facts):
                continue
            if row.kind is Kind.STORED:
                tensors = self.places.of_stem(self.layer, row.name.removesuffix(".weight"))
                found += [self._tensor(row, *tensor) for tensor in tensors]
            else:
                found.append(self._computed(row))
        return tuple(found)

    def _tensor(self, row: Row, name: str, role: Role, shape: Shape) -> Quantity:
        if name != row.name:
            return Quantity(Kind.STORED, name, (), shape, (), f"Learned {role.suffix} of the same.")
        axes = self._axes(row)
        open_ = any(unknown_symbol(axis, self.dims) for axis in axes)
        fits = not open_ and self._shape(axes) == shape
        return Quantity(Kind.STORED, name, axes if fits else (), shape, (), row.caption)

    def _computed(self, row: Row) -> Quantity:
        axes = self._axes(row)
        made_from = row.made_from.format_map(self.words).split()
        present = tuple(name for name in made_from if self._exists(name))
        name, caption = row.name.format_map(self.words), row.caption.format_map(self.words)
        return Quantity(row.kind, name, axes, self._shape(axes), present, caption)

    def _axes(self, row: Row) -> tuple[str, ...]:
        """Return the symbols of a shape; where both sizes of a head are equal, one serves."""
        same = self.dims["M"] == self.dims["D"] and not LATENT.holds(self.facts)
        return tuple((row.axes.replace("M", "D") if same else row.axes).split())

    def _shape(self, axes: tuple[str, ...]) -> Shape:
        return tuple(measure(axis, self.dims, self.architecture) for axis in axes)

    def _exists(self, name: str) -> bool:
        stem = name.removesuffix(".weight")
        return stem == name or self.layer is None or stem in self.facts.stems


def _words(facts: Facts, family: Family, *, positions: bool) -> dict[str, str]:
    """Return what stands for the ``WORDS`` of the table in one layer of one model.

    ``positions`` says that positions are learned, so that nothing is rotated.
    """
    stems, parallel, post_attn = facts.stems, PARALLEL.holds(facts), POST_ATTN.holds(facts)
    residual = "inpL" if parallel else family.residual
    attended = "attn_out"
    if post_attn:
        attended = "attn_post_norm"
    elif "attn_output_norm" in stems:
        attended = "attn_out_norm"
    attn_input = "attn_norm" if "attn_norm" in stems else "inpL"
    ffn_input = attn_input if parallel else residual
    if "ffn_norm" in stems:
        ffn_input = "ffn_norm"
    elif "post_attention_norm" in stems and not post_attn:
        ffn_input = "attn_post_norm"
    ffn_output = []
    if "ffn_down" in stems or "ffn_down_shexp" in stems:
        ffn_output.append("ffn_out")
    if "ffn_down_exps" in stems and "ffn_down_shexp" not in stems:
        ffn_output.append("ffn_moe_out")
    added = ["ffn_post_norm"] if "post_ffw_norm" in stems else ffn_output
    return {
        "residual": residual,
        "attn_input": attn_input,
        "attended": attended,
        "ffn_input": ffn_input,
        "ffn_output": " ".join(ffn_output),
        "summands": " ".join([residual, *([attended] if parallel else []), *added]),
        "activation": family.activation,
        "rotated": "" if positions or family.rope == "none" else ", rotated by its position",
    }
