"""Q4_K_M and its kin, as data: every preset that ``llama-quantize`` knows.

A mix has a main type, and for some kinds of tensor a list of (condition, type): the first that
holds decides, and where none does it is the main type. The facts are those of llama.cpp's
``llama_tensor_get_type_impl`` and ``llama_ftype_get_default_type`` (``llama-quant.cpp``), the
names those of ``tools/quantize/quantize.cpp``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from ggufscope.blocks.layouts import LAYOUTS, Layout
from ggufscope.errors import UnknownPreset
from ggufscope.model.file_types import FILE_TYPES
from ggufscope.recipes.kinds import Kind
from ggufscope.recipes.rules import (
    ALWAYS,
    EIGHT_EXPERTS,
    FALCON,
    FIRST_EIGHTH,
    FIRST_SIXTEENTH,
    IMPORTANCE,
    MIDDLE,
    MORE_BITS,
    NO_IMPORTANCE,
    RAGGED,
    STACKED,
    Condition,
    experts_from,
    first,
    grouped,
)

Choice = tuple[Condition, str]


class Family(Enum):
    """What the mixes of a family have in common."""

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
    family: Family
    output: str
    """The type of the output projection, and of embeddings that stand in for it."""
    choices: Mapping[str, tuple[Choice, ...]] = field(default_factory=dict)
    """By kind; ``attn_v`` speaks for ``attn_qkv`` and ``attn_kv_b`` as well, ``*`` for all."""

    @property
    def file_type(self) -> int | None:
        """Its ``general.file_type``; None for COPY, which keeps the source's."""
        return _NUMBERS.get(self.name)

    def choices_for(self, kind: Kind) -> tuple[Choice, ...]:
        """Give what may decide for a kind of tensor, the first to hold wins."""
        if kind is Kind.OUTPUT:
            return (FALCON, "Q8_0"), (RAGGED, "Q8_0"), (ALWAYS, self.output)
        first: tuple[Choice, ...] = ()
        if self.family is Family.ORDINARY and (kind.holds_values or kind is Kind.ATTN_K):
            first = ((EIGHT_EXPERTS, "Q8_0"),)
        own = self.choices.get(Kind.ATTN_V if kind.holds_values else kind, ())
        return first + own + self.choices.get("*", ())


LIFTED: Final = {"Q3_K": "Q5_K", "Q4_K": "Q5_K"}
"""What the 70B shape makes of its values' types, in the ordinary mixes."""

_NUMBERS: Final = {name: number for number, name in FILE_TYPES.items()}


def _mix(
    name: str,
    type_: str = "",
    family: Family = Family.ORDINARY,
    output: str = "Q6_K",
    **choices: list[Choice],
) -> Mix:
    listed = {kind: tuple(those) for kind, those in choices.items()}
    return Mix(name, LAYOUTS[type_ or name], family, output, listed)


_GQA: Final = grouped(4)
_PLAIN: Final = ~FALCON
_EIGHT: Final = _PLAIN & EIGHT_EXPERTS
_FEW: Final = _PLAIN & ~EIGHT_EXPERTS


def _low(name: str, type_: str, better: str, joins: str = "") -> Mix:
    """Give a mix below three bits; what feels it most gets ``better``."""
    own: list[Choice] = [(ALWAYS, joins)] if joins else []
    return _mix(
        name,
        type_,
        Family.LOW,
        "Q5_K",
        token_embd=[(ALWAYS, better)],
        attn_v=[(_GQA | experts_from(4), "Q4_K"), (ALWAYS, better)],
        attn_k=[(EIGHT_EXPERTS, "Q4_K")],
        attn_output=[(EIGHT_EXPERTS, "Q5_K"), *own],
        ffn_down=[(FIRST_EIGHTH, better)],
    )


_ALL: Final = (
    Mix("COPY", None, Family.COPY, ""),
    *(_mix(name, family=Family.FLOAT) for name in ("F32", "F16", "BF16")),
    _mix("Q1_0"),
    _mix("Q2_0", token_embd=[(ALWAYS, "Q4_K")]),
    _mix("Q4_0", ffn_down=[(IMPORTANCE & FIRST_EIGHTH, "Q4_1")]),
    _mix("Q4_1"),
    _mix("Q5_0", ffn_down=[(IMPORTANCE & FIRST_EIGHTH, "Q5_1")]),
    _mix("Q5_1"),
    _mix("Q8_0", output="Q8_0"),
    _mix(
        "MXFP4_MOE",
        "MXFP4",
        Family.EXPERTS,
        "Q8_0",
        **{"*": [(STACKED, "MXFP4"), (ALWAYS, "Q8_0")]},
    ),
    _mix("TQ1_0", token_embd=[(ALWAYS, "Q4_K")]),
    _mix("TQ2_0", token_embd=[(ALWAYS, "Q4_K")]),
    _low("IQ1_S", "IQ1_S", "Q2_K", "IQ2_XXS"),
    _low("IQ1_M", "IQ1_M", "Q2_K", "IQ2_XXS"),
    _low("IQ2_XXS", "IQ2_XXS", "Q2_K"),
    _low("IQ2_XS", "IQ2_XS", "Q2_K"),
    _low("IQ2_S", "IQ2_XS", "IQ3_S", "IQ3_S"),
    _low("IQ2_M", "IQ2_S", "IQ3_S", "IQ3_S"),
    _mix(
        "Q2_K",
        attn_v=[(_GQA, "Q4_K"), (ALWAYS, "Q3_K")],
        attn_output=[(_EIGHT, "Q5_K"), (_FEW, "Q3_K")],
        ffn_down=[(ALWAYS, "Q3_K")],
    ),
    _mix("Q2_K_S", "Q2_K", attn_v=[(_GQA, "Q4_K")], ffn_down=[(FIRST_EIGHTH, "Q4_K")]),
    _mix(
        "IQ3_XXS",
        output="Q5_K",
        token_embd=[(ALWAYS, "IQ3_S")],
        attn_v=[(_GQA, "Q4_K"), (NO_IMPORTANCE, "IQ3_S")],
        attn_k=[(ALWAYS, "IQ2_S")],
        attn_q=[(ALWAYS, "IQ2_S")],
        attn_output=[(_EIGHT, "Q5_K"), (_FEW, "IQ3_S")],
        ffn_down=[(NO_IMPORTANCE & FIRST_EIGHTH, "Q4_K"), (NO_IMPORTANCE, "Q3_K")],
    ),
    _mix(
        "IQ3_XS",
        "IQ3_S",
        attn_v=[(_GQA, "Q4_K")],
        attn_k=[(ALWAYS, "IQ3_XXS")],
        attn_q=[(ALWAYS, "IQ3_XXS")],
        attn_output=[(_EIGHT, "Q5_K")],
        ffn_gate=[(MIDDLE, "IQ3_XXS")],
        ffn_up=[(MIDDLE, "IQ3_XXS")],
    ),
    _mix("IQ3_S", attn_v=[(_GQA, "Q4_K")], attn_output=[(_EIGHT, "Q5_K")]),
    _mix(
        "IQ3_M",
        "IQ3_S",
        attn_v=[(ALWAYS, "Q4_K")],
        attn_output=[(_EIGHT, "Q5_K"), (_FEW, "Q4_K")],
        ffn_down=[(FIRST_EIGHTH, "Q4_K"), (EIGHT_EXPERTS & MORE_BITS, "Q4_K")],
    ),
    _mix("Q3_K_S", "Q3_K", attn_output=[(_EIGHT, "Q5_K")]),
    _mix(
        "Q3_K_M",
        "Q3_K",
        attn_v=[(first(2), "Q5_K"), (ALWAYS, "Q4_K")],
        attn_output=[(_EIGHT, "Q5_K"), (_FEW, "Q4_K")],
        ffn_down=[(FIRST_SIXTEENTH, "Q5_K"), (_PLAIN, "Q4_K"), (MORE_BITS, "Q4_K")],
    ),
    _mix(
        "Q3_K_L",
        "Q3_K",
        attn_v=[(ALWAYS, "Q5_K")],
        attn_output=[(FALCON, "Q4_K"), (_FEW, "Q5_K")],
        ffn_down=[(FALCON, "Q4_K"), (ALWAYS, "Q5_K")],
    ),
    *(
        _mix(
            name,
            attn_v=[(_GQA, "Q5_K")],
            attn_output=[(_EIGHT, "Q5_K")],
            ffn_down=[(NO_IMPORTANCE & FIRST_EIGHTH, "Q5_K")],
        )
        for name in ("IQ4_NL", "IQ4_XS")
    ),
    _mix(
        "Q4_K_S",
        "Q4_K",
        attn_v=[(first(4), "Q5_K")],
        attn_output=[(_EIGHT, "Q5_K")],
        ffn_down=[(_PLAIN & FIRST_EIGHTH, "Q5_K")],
    ),
    _mix(
        "Q4_K_M",
        "Q4_K",
        attn_v=[(MORE_BITS, "Q6_K")],
        attn_output=[(_EIGHT, "Q5_K")],
        ffn_down=[
            (FALCON & FIRST_SIXTEENTH, "Q6_K"),
            (FALCON & MORE_BITS, "Q5_K"),
            (_PLAIN & MORE_BITS, "Q6_K"),
        ],
    ),
    _mix("Q5_K_S", "Q5_K"),
    _mix("Q5_K_M", "Q5_K", attn_v=[(MORE_BITS, "Q6_K")], ffn_down=[(MORE_BITS, "Q6_K")]),
    _mix("Q6_K"),
)

MIXES: Final[dict[str, Mix]] = {mix.name: mix for mix in _ALL}
"""Every preset by name, roughly from the largest idea to the smallest."""

ALIASES: Final = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}
"""Short names that llama-quantize takes as well."""


def mix_named(preset: str) -> Mix:
    """Give the mix of this name, in any case, or of this ``general.file_type`` number.

    Raises ``UnknownPreset``.
    """
    name = preset.upper()
    if name.isdecimal():
        name = FILE_TYPES.get(int(name), name)
    mix = MIXES.get(ALIASES.get(name, name))
    if mix is None:
        raise UnknownPreset(
            f"there is no preset {preset!r}", hint=f"the presets are {', '.join(MIXES)}"
        )
    return mix
