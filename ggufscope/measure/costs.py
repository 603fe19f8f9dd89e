"""What storing a tensor in each other type would cost: bits against the error of its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from ggufscope.blocks.codec import CODECS, engine, through
from ggufscope.blocks.error import NO_ERROR, WeightError
from ggufscope.blocks.layouts import LAYOUTS, NOT_CONVERTIBLE
from ggufscope.errors import UnmakeableBlock
from ggufscope.machine import processors
from ggufscope.measure.metrics.tensors import weight_error
from ggufscope.measure.statistics import Part, weights_of
from ggufscope.threads import side_by_side

STRETCHES: Final = 16
LENGTH: Final = 1 << 12
"""Weights of each stretch that is tried: whole blocks of any type."""


@dataclass(frozen=True, slots=True)
class Cost:
    """One type, and what it would make of a tensor."""

    type: str
    bits_per_weight: float
    nbytes: int
    """Of the whole tensor."""
    error: WeightError | None
    """Of the weights that were tried; None where it cannot be made here."""
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Costs:
    """Every type that a row fits, the largest first."""

    costs: tuple[Cost, ...]
    tried: int
    """How many weights were quantized to find out."""


def costs_of(part: Part, *, threads: int | None = None) -> Costs:
    """Quantize evenly spread stretches of a part to every type that fits its rows, and compare.

    The errors are against the weights as they are stored: of a tensor that is quantized already
    they come on top. Without an importance matrix.
    """
    n, elements = part.n, part.tensor.info.n_elements
    even = np.linspace(0, max(0, n - LENGTH), STRETCHES).astype(np.int64) // LENGTH * LENGTH
    stretches = [
        weights_of(part, start, min(start + LENGTH, n)) for start in sorted({*even.tolist()})
    ]
    x = np.concatenate(stretches)
    x = x if np.isfinite(x).all() else np.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)

    def cost(name: str) -> Cost:
        layout, codec = LAYOUTS[name], CODECS[name]
        nbytes = layout.row_bytes(elements)
        bits = layout.bits_per_weight
        if name == part.tensor.type.name:
            return Cost(name, bits, nbytes, WeightError(0.0, 1.0, 0.0, x.size))
        if not codec.makes_alone:
            why_not = codec.missing or "it cannot be made without an importance matrix"
            return Cost(name, bits, nbytes, None, why_not)
        with np.errstate(all="ignore"):
            try:
                made = through(x.reshape(-1, layout.block_length), name).reshape(-1)
            except UnmakeableBlock as error:
                return Cost(name, bits, nbytes, None, error.message)
            return Cost(name, bits, nbytes, weight_error(x, made) if x.size else NO_ERROR)

    fit = [
        name
        for name, layout in LAYOUTS.items()
        if name not in NOT_CONVERTIBLE and part.row % layout.block_length == 0
    ]
    at_work = (threads or processors()) if engine().releases_gil else 1
    found = sorted(side_by_side(cost, fit, at_work), key=lambda each: -each.bits_per_weight)
    return Costs(tuple(found), x.size)
