"""What mixes are written in: named conditions (``MORE_BITS``, ``FIRST_EIGHTH``), rules, ``Mix``.

A condition is a function of a ``Situation`` with words to explain itself; ``&`` and ``~`` combine
them. The facts are those of ``llama_tensor_get_type_impl`` in llama.cpp's ``llama-quant.cpp``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from ggufscope.blocks.layouts import Layout
from ggufscope.errors import HeadsUnknown
from ggufscope.model.file_types import FILE_TYPES
from ggufscope.recipes.categories import Category
from ggufscope.recipes.traits import Traits


@dataclass(slots=True)  # not frozen: one is made for every tensor in every preset
class Situation:
    """All that a condition may look at: where a tensor stands, and in what model."""

    position: int
    """Its layer, or how many of its kind came before it."""
    count: int
    """How many layers, or how many of its kind, there are."""
    traits: Traits
    importance: bool
    """Whether an importance matrix is at hand."""
    ragged: bool
    """Whether its rows do not divide into blocks of the recipe's main type."""
    stacked: bool
    """Whether it holds a matrix for each expert."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A yes or no about a ``Situation``, and the words for yes; none where it goes without."""

    words: str
    holds: Callable[[Situation], bool]

    def __and__(self, other: Condition) -> Condition:
        words = " and ".join(filter(None, (self.words, other.words)))
        return Condition(words, lambda it: self.holds(it) and other.holds(it))

    def __or__(self, other: Condition) -> Condition:
        words = " or ".join(filter(None, (self.words, other.words)))
        return Condition(words, lambda it: self.holds(it) or other.holds(it))

    def __invert__(self) -> Condition:
        return Condition("", lambda it: not self.holds(it))


def _more_bits(it: Situation) -> bool:
    eighth = it.count // 8
    return (
        it.position < eighth or it.position >= 7 * it.count // 8 or (it.position - eighth) % 3 == 2
    )


def first(number: int) -> Condition:
    """Return the condition: one of the first ``number`` of its kind."""
    return Condition(f"one of the first {number}", lambda it: it.position < number)


def _grouped(it: Situation) -> bool:
    """Raise ``HeadsUnknown`` for a model without heads, at which llama-quantize aborts."""
    if it.traits.query_group is None:
        raise HeadsUnknown(
            "this recipe goes by the number of heads, and the model has none",
            hint="choose Q8_0 or F16, for which heads do not matter",
        )
    return it.traits.query_group >= 4


ALWAYS: Final = Condition("", lambda it: True)
MORE_BITS: Final = Condition("in the first or last eighth, or every third between", _more_bits)
FIRST_EIGHTH: Final = Condition("in the first eighth", lambda it: it.position < it.count // 8)
FIRST_SIXTEENTH: Final = Condition(
    "in the first sixteenth", lambda it: it.position < it.count // 16
)
MIDDLE: Final = Condition(
    "between the first and the last eighth",
    lambda it: it.count // 8 <= it.position < 7 * it.count // 8,
)
GROUPED: Final = Condition("4 or more query heads to a key/value head", _grouped)
FOUR_EXPERTS: Final = Condition("4 or more experts", lambda it: it.traits.experts >= 4)
EIGHT_EXPERTS: Final = Condition("exactly 8 experts", lambda it: it.traits.experts == 8)
FALCON: Final = Condition("falcon", lambda it: it.traits.architecture == "falcon")
IMPORTANCE: Final = Condition("with an importance matrix", lambda it: it.importance)
NO_IMPORTANCE: Final = Condition("without an importance matrix", lambda it: not it.importance)
RAGGED: Final = Condition("rows that do not divide", lambda it: it.ragged)
STACKED: Final = Condition("a matrix for each expert", lambda it: it.stacked)

_NUMBERS: Final = {name: number for number, name in FILE_TYPES.items()}

Rule = tuple[Condition, str]
"""A type, and when it is taken."""


class MixGroup(Enum):
    """What mixes have in common."""

    COPY = auto()
    """Every tensor keeps its type."""
    FLOAT = auto()
    """One type without blocks; no rule applies, not even one given by hand."""
    ORDINARY = auto()
    """Exactly 8 experts make keys and values Q8_0; the 70B shape raises its values."""
    LOW = auto()
    """Neither of these, and layers are counted even where experts name theirs."""
    EXPERTS = auto()
    """The shape alone decides."""


@dataclass(frozen=True, slots=True)
class Mix:
    """One preset."""

    name: str
    type: Layout | None
    """The main type; None for COPY."""
    group: MixGroup
    output: str
    """The type of the output projection, and of embeddings that stand in for it."""
    rules: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    """By category; ``attn_v`` speaks for ``attn_qkv`` and ``attn_kv_b`` as well, ``*`` for all."""

    @property
    def file_type(self) -> int | None:
        """Its ``general.file_type``; None for COPY, which keeps the source's."""
        return _NUMBERS.get(self.name)

    def rules_for(self, category: Category) -> tuple[Rule, ...]:
        """Return what may decide for a category, the first to hold wins."""
        if category is Category.OUTPUT:
            return (FALCON, "Q8_0"), (RAGGED, "Q8_0"), (ALWAYS, self.output)
        own = self.rules.get(Category.ATTN_V if category.holds_values else category, ())
        if self.group is MixGroup.ORDINARY and (
            category.holds_values or category is Category.ATTN_K
        ):
            own = (EIGHT_EXPERTS, "Q8_0"), *own
        return own + self.rules.get("*", ())
