"""A row of the table: one quantity, stored or computed, with its shape in symbols.

Names of computed quantities are those of llama.cpp's graph (the ``cb`` calls in
``llama-graph.cpp`` and ``src/models``); ``inpL`` is its name for what enters a layer. A ``{word}``
in a name, a source or a caption is a ``WORDS``: what differs from family to family.

Shapes are in symbols (symbols.py), NumPy order, so a matrix is ``[out, in]`` and ``y = x @ W.T``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ggufscope.model.anatomy.conditions import ALWAYS, Condition, has
from ggufscope.model.anatomy.symbols import SYMBOLS

WORDS: Final = frozenset(
    {"residual", "attn_input", "attended", "ffn_input", "ffn_output", "summands"}
    | {"activation", "rotated"}
)
"""The words in braces; ``_words`` in build.py fills them in for one layer of one model."""


class Kind(StrEnum):
    """Where a quantity lives."""

    STORED = "stored"
    COMPUTED = "computed"
    CACHED = "cached"
    """Computed, and kept from token to token while the model runs: the KV cache."""


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity of the table. Raises ``ValueError`` for a word or symbol that is misspelt."""

    kind: Kind
    name: str
    axes: str
    """``"T H D"``; ``?`` for an extent that families choose differently."""
    when: Condition
    made_from: str
    caption: str

    def __post_init__(self) -> None:
        words = set(re.findall(r"{(\w*)}", f"{self.name} {self.made_from} {self.caption}"))
        symbols = set(re.findall(r"[^\d\s*+?]", self.axes))
        if not (words <= WORDS and symbols <= SYMBOLS.keys()):
            raise ValueError(f"unknown word or symbol in the row of {self.name}")


def stored(stem: str, axes: str, caption: str, when: Condition = ALWAYS) -> Row:
    """Return the row of a tensor in the file, which applies where the tensor is there."""
    return Row(Kind.STORED, f"{stem}.weight", axes, has(stem) & when, "", caption)


def computed(name: str, axes: str, when: Condition, made_from: str, caption: str) -> Row:
    """Return the row of a quantity that exists only while the model runs."""
    return Row(Kind.COMPUTED, name, axes, when, made_from, caption)


def cached(name: str, axes: str, when: Condition, made_from: str, caption: str) -> Row:
    """Return the row of a quantity that is kept from token to token."""
    return Row(Kind.CACHED, name, axes, when, made_from, caption)
