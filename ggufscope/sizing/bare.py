"""What so many weights weigh in one type each: the memory table of every introduction.

A bare type is not a preset. Q4_K spends 4.5 bits on every weight; the preset ``Q4_K_M`` gives some
tensors more, so a file of it has more, and how many more depends on the model's shape.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from ggufscope.blocks.layouts import LAYOUTS, Layout
from ggufscope.errors import BadUsage
from ggufscope.recipes.plan import Plan, plan
from ggufscope.sizing.shapes import SHAPES

EXAMPLE: Final = "llama-2-7b"
"""The shape that shows the difference between a type and the preset of its name."""

_DOCUMENTED_FOR: Final = 7 * 10**9
_DOCUMENTED: Final = {"F32": 28.0, "F16": 14.0, "Q8_0": 7.0, "Q4_K": 4.0, "Q2_K": 2.5}
"""Type -> GB for 7B as introductions give them."""

_TYPES: Final = ("F32", "F16", "Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K")
_SCALES: Final = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_COUNT: Final = re.compile(r"([0-9][0-9_,]*(?:\.[0-9]+)?) ?([KMBT]?)", re.ASCII)
MOST: Final = 10**18
"""Weights that a bare count may have."""


@dataclass(frozen=True, slots=True)
class BareSize:
    """So many weights of one type, and nothing else."""

    type: Layout
    n_elements: int
    documented: float | None
    """GB as introductions round them; None where they say nothing of this count and type."""

    @property
    def nbytes(self) -> int:
        """Bytes, rounded up where a block is begun and not filled."""
        return -(-self.n_elements * self.type.block_bytes // self.type.block_length)


def parse_count(text: str) -> int | None:
    """Read a parameter count: ``7B``, ``1.5B``, ``6738415616``; None where it is none.

    Raises ``BadUsage`` for a count of nothing.
    """
    match = _COUNT.fullmatch(text.upper())
    if match is None:
        return None
    number = Decimal(re.sub("[_,]", "", match[1])) * _SCALES[match[2]]
    if not 1 <= number <= MOST or number != int(number):
        raise BadUsage(f"{text!r:.60} is no count of weights", hint="write 7B, 1.5B or 6738415616")
    return int(number)


def bare_sizes(n_elements: int) -> list[BareSize]:
    """Size ``n_elements`` weights in the types that introductions speak of."""
    said = _DOCUMENTED if n_elements == _DOCUMENTED_FOR else {}
    return [BareSize(LAYOUTS[name], n_elements, said.get(name)) for name in _TYPES]


def example_plans() -> list[Plan]:
    """Plan the example shape, to show what presets of a type's name come to."""
    shape = SHAPES[EXAMPLE]
    return [plan(shape.tensors, shape.metadata, preset) for preset in ("Q4_K_M", "Q2_K")]
