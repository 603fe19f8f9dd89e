"""Q4_K_M and its kin, as data: every preset that ``llama-quantize`` knows.

A mix has a main type, and for some categories of tensor a list of (condition, type): the first that
holds decides, and where none does it is the main type. The facts are those of llama.cpp's
``llama_tensor_get_type_impl`` and ``llama_ftype_get_default_type`` (``llama-quant.cpp``), the
names those of ``tools/quantize/quantize.cpp``.
"""

from __future__ import annotations

from typing import Final

from ggufscope.blocks.layouts import LAYOUTS
from ggufscope.errors import UnknownPreset
from ggufscope.model.file_types import FILE_TYPES
from ggufscope.recipes.rules import (
    ALWAYS,
    EIGHT_EXPERTS,
    FALCON,
    FIRST_EIGHTH,
    FIRST_SIXTEENTH,
    FOUR_EXPERTS,
    GROUPED,
    IMPORTANCE,
    MIDDLE,
    MORE_BITS,
    NO_IMPORTANCE,
    STACKED,
    Mix,
    MixGroup,
    Rule,
    first,
)
from ggufscope.spelling import did_you_mean

LIFTED: Final = {"Q3_K": "Q5_K", "Q4_K": "Q5_K"}
"""What the 70B shape makes of its values' types, in the ordinary mixes."""


def _mix(
    name: str,
    type_: str = "",
    group: MixGroup = MixGroup.ORDINARY,
    output: str = "Q6_K",
    **rules: list[Rule] | str,
) -> Mix:
    """Return a mix; a type alone is taken always."""
    listed = {
        key: ((ALWAYS, those),) if isinstance(those, str) else tuple(those)
        for key, those in rules.items()
    }
    return Mix(name, LAYOUTS[type_ or name], group, output, listed)


_PLAIN: Final = ~FALCON
_EIGHT: Final = _PLAIN & EIGHT_EXPERTS
_FEW: Final = _PLAIN & ~EIGHT_EXPERTS


def _low(name: str, type_: str, better: str, joins: str = "") -> Mix:
    """Return a mix below three bits; what feels it most gets ``better``."""
    own: list[Rule] = [(ALWAYS, joins)] if joins else []
    return _mix(
        name,
        type_,
        MixGroup.LOW,
        "Q5_K",
        token_embd=better,
        attn_v=[(GROUPED | FOUR_EXPERTS, "Q4_K"), (ALWAYS, better)],
        attn_k=[(EIGHT_EXPERTS, "Q4_K")],
        attn_output=[(EIGHT_EXPERTS, "Q5_K"), *own],
        ffn_down=[(FIRST_EIGHTH, better)],
    )


_ALL: Final = (
    Mix("COPY", None, MixGroup.COPY, ""),
    *(_mix(name, group=MixGroup.FLOAT) for name in ("F32", "F16", "BF16")),
    _mix("Q1_0"),
    _mix("Q2_0", token_embd="Q4_K"),
    _mix("Q4_0", ffn_down=[(IMPORTANCE & FIRST_EIGHTH, "Q4_1")]),
    _mix("Q4_1"),
    _mix("Q5_0", ffn_down=[(IMPORTANCE & FIRST_EIGHTH, "Q5_1")]),
    _mix("Q5_1"),
    _mix("Q8_0", output="Q8_0"),
    _mix(
        "MXFP4_MOE",
        "MXFP4",
        MixGroup.EXPERTS,
        "Q8_0",
        **{"*": [(STACKED, "MXFP4"), (ALWAYS, "Q8_0")]},
    ),
    _mix("TQ1_0", token_embd="Q4_K"),
    _mix("TQ2_0", token_embd="Q4_K"),
    _low("IQ1_S", "IQ1_S", "Q2_K", "IQ2_XXS"),
    _low("IQ1_M", "IQ1_M", "Q2_K", "IQ2_XXS"),
    _low("IQ2_XXS", "IQ2_XXS", "Q2_K"),
    _low("IQ2_XS", "IQ2_XS", "Q2_K"),
    _low("IQ2_S", "IQ2_XS", "IQ3_S", "IQ3_S"),
    _low("IQ2_M", "IQ2_S", "IQ3_S", "IQ3_S"),
    _mix(
        "Q2_K",
        attn_v=[(GROUPED, "Q4_K"), (ALWAYS, "Q3_K")],
        attn_output=[(_EIGHT, "Q5_K"), (_FEW, "Q3_K")],
        ffn_down="Q3_K",
    ),
    _mix("Q2_K_S", "Q2_K", attn_v=[(GROUPED, "Q4_K")], ffn_down=[(FIRST_EIGHTH, "Q4_K")]),
    _mix(
        "IQ3_XXS",
        output="Q5_K",
        token_embd="IQ3_S",
        attn_v=[(GROUPED, "Q4_K"), (NO_IMPORTANCE, "IQ3_S")],
        attn_k="IQ2_S",
        attn_q="IQ2_S",
        attn_output=[(_EIGHT, "Q5_K"), (_FEW, "IQ3_S")],
        ffn_down=[(NO_IMPORTANCE & FIRST_EIGHTH, "Q4_K"), (NO_IMPORTANCE, "Q3_K")],
    ),
    _mix(
        "IQ3_XS",
        "IQ3_S",
        attn_v=[(GROUPED, "Q4_K")],
        attn_k="IQ3_XXS",
        attn_q="IQ3_XXS",
        attn_output=[(_EIGHT, "Q5_K")],
        ffn_gate=[(MIDDLE, "IQ3_XXS")],
        ffn_up=[(MIDDLE, "IQ3_XXS")],
    ),
    _mix("IQ3_S", attn_v=[(GROUPED, "Q4_K")], attn_output=[(_EIGHT, "Q5_K")]),
    _mix(
        "IQ3_M",
        "IQ3_S",
        attn_v="Q4_K",
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
        attn_v="Q5_K",
        attn_output=[(FALCON, "Q4_K"), (_FEW, "Q5_K")],
        ffn_down=[(FALCON, "Q4_K"), (ALWAYS, "Q5_K")],
    ),
    *(
        _mix(
            name,
            attn_v=[(GROUPED, "Q5_K")],
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
    """Return the mix of this name, in any case, or of this ``general.file_type`` number.

    Raises ``UnknownPreset``.
    """
    name = preset.upper()
    if name.isdecimal():
        name = FILE_TYPES.get(int(name), name)
    mix = MIXES.get(ALIASES.get(name, name))
    if mix is None:
        raise UnknownPreset(
            f"there is no preset {preset!r:.60}",
            hint=did_you_mean(preset, [*MIXES, *ALIASES], f"the presets are {', '.join(MIXES)}"),
        )
    return mix
