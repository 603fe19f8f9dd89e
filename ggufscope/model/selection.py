"""Choosing what to look at: one layer, or the names that match a pattern."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from fnmatch import translate

from ggufscope.errors import BadPattern, NotInModel
from ggufscope.model.anatomy.build import Anatomy
from ggufscope.model.anatomy.quantities import Quantity
from ggufscope.model.inventory import Entry

Matches = Callable[[str], bool]


def matcher(pattern: str) -> Matches:
    """Return a test for names: ``/regex/`` is searched for, a glob has to match the whole name.

    A word without ``*``, ``?`` or ``[`` matches wherever it stands in the name.
    Raises ``BadPattern``.
    """
    if len(pattern) > 1 and pattern[0] == pattern[-1] == "/":
        try:
            search = re.compile(pattern[1:-1]).search
        except re.error as error:
            raise BadPattern(
                f"the regex {pattern} is not valid: {error}",
                hint="or use a glob, such as '*attn_q*'",
            ) from None
        return lambda name: search(name) is not None
    if not set(pattern) & set("*?["):
        return lambda name: pattern in name
    match = re.compile(translate(pattern)).match
    return lambda name: match(name) is not None


def select_entries(
    entries: Iterable[Entry], layer: int | None, matches: Matches | None
) -> list[Entry]:
    """Return the stored tensors of one layer, of matching names, or of both."""
    return [
        entry
        for entry in entries
        if (layer is None or (entry.role.layer == layer and not entry.role.tower))
        and (matches is None or matches(entry.tensor.name))
    ]


def select_anatomy(anatomy: Anatomy, layer: int | None, matches: Matches | None) -> Anatomy:
    """Return the quantities of one layer, of matching names, or of both.

    A quantity of layer 3 matches by its name in the layer (``Qcur``, ``attn_q.weight``), by its
    whole name in the file (``blk.3.attn_q.weight``) and by llama.cpp's (``Qcur-3``).
    Raises ``NotInModel`` for a layer that the model does not have.
    """
    layers = anatomy.layers
    if layer is not None:
        layers = tuple(each for each in layers if each.layer == layer)
        if not layers:
            numbers = [each.layer for each in anatomy.layers]
            has = f"layers {min(numbers)} to {max(numbers)}" if numbers else "no layers"
            raise NotInModel(f"there is no layer {layer}: the model has {has}", hint="count from 0")
        anatomy = replace(anatomy, head=(), tail=())
    if matches is None:
        return replace(anatomy, layers=layers)
    kept = (
        replace(each, quantities=_matching(each.quantities, matches, each.layer)) for each in layers
    )
    return replace(
        anatomy,
        head=_matching(anatomy.head, matches, None),
        layers=tuple(each for each in kept if each.quantities),
        tail=_matching(anatomy.tail, matches, None),
    )


def _matching(
    quantities: tuple[Quantity, ...], matches: Matches, layer: int | None
) -> tuple[Quantity, ...]:
    def named(quantity: Quantity) -> bool:
        names = [quantity.name]
        if layer is not None:
            names += [f"blk.{layer}.{quantity.name}", f"{quantity.name}-{layer}"]
        return any(map(matches, names))

    return tuple(quantity for quantity in quantities if named(quantity))
