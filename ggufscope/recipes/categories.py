"""What a tensor's name and shape decide: whether it is quantized, its category, what its rows fit.

Follows ``tensor_allows_quantization``, ``tensor_get_category``, ``tensor_requires_imatrix`` and
``tensor_type_fallback`` in llama.cpp's ``llama-quant.cpp``.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import Final

from ggufscope.blocks.layouts import LAYOUTS, Layout
from ggufscope.errors import NoFallback

OUTPUT_NAME: Final = "output.weight"
LAYER_TABLE_NAME: Final = "per_layer_token_embd.weight"
_EMBEDDING_NAMES: Final = ("token_embd.weight", LAYER_TABLE_NAME)


class Category(StrEnum):
    """The categories of tensors that mixes tell apart."""

    OUTPUT = "output"
    TOKEN_EMBD = "token_embd"
    ATTN_QKV = "attn_qkv"
    ATTN_KV_B = "attn_kv_b"
    ATTN_V = "attn_v"
    ATTN_K = "attn_k"
    ATTN_Q = "attn_q"
    ATTN_OUTPUT = "attn_output"
    FFN_UP = "ffn_up"
    FFN_GATE = "ffn_gate"
    FFN_DOWN = "ffn_down"
    OTHER = "other"

    @property
    def holds_values(self) -> bool:
        """Whether attention's values come from it: those feel quantization most."""
        return self in _HOLD_VALUES

    @property
    def is_feed_forward(self) -> bool:
        """Whether it belongs to the feed-forward, experts included."""
        return self in _FEED_FORWARD


_HOLD_VALUES: Final = frozenset({Category.ATTN_V, Category.ATTN_QKV, Category.ATTN_KV_B})
_FEED_FORWARD: Final = frozenset({Category.FFN_UP, Category.FFN_GATE, Category.FFN_DOWN})

# Part of a name -> category, tried in this order: "ffn_gate_up_exps" is a gate.
_PARTS: Final = [
    (category if category.is_feed_forward else f"{category}.weight", category)
    for category in Category
    if category not in {Category.OUTPUT, Category.TOKEN_EMBD, Category.OTHER}
]


@lru_cache(maxsize=65_536)
def category_of(name: str) -> Category:
    """Return the category of the tensor of this name."""
    if name == OUTPUT_NAME:
        return Category.OUTPUT
    if name in _EMBEDDING_NAMES:
        return Category.TOKEN_EMBD
    return next((category for part, category in _PARTS if part in name), Category.OTHER)


# Why a matrix stays as it is -> the parts of names that say so.
_KEPT: Final[dict[str, tuple[str, ...]]] = {
    "a norm": ("_norm.weight",),
    "it routes tokens to experts": ("ffn_gate_inp.weight", "ffn_gate_tid2eid.weight"),
    "it is small": ("altup", "laurel", "per_layer_model_proj"),
    "a short convolution": ("ssm_conv1d", "shortconv.conv.weight"),
    "it picks what to attend to": ("indexer.k_proj.weight", "indexer.q_proj.weight"),
    "RWKV's mixing": (
        *(f"time_mix_{part}.weight" for part in ("first", "w0", "w1", "w2", "v0", "v1", "v2")),
        *(f"time_mix_{part}.weight" for part in ("a0", "a1", "a2", "g1", "g2")),
        *(f"time_mix_{part}.weight" for part in ("decay_w1", "decay_w2", "lerp_fused")),
    ),
    "relative positions": ("attn_rel_b.weight", ".rel_pos"),
    "positions": (".position_embd", "sam.pos_embd"),
    "the first look at an image": ("sam.neck.", "sam.net_", ".patch_embd", ".patch_merger"),
    "a codebook for sound": ("a.rvq.codebook", "mm.a.code_embd"),
}
_KEPT_NAMES: Final = {
    "position_embd.weight": "positions",
    "token_types.weight": "token types",
}
# glm5-next keeps more.
_KEPT_GLM5_NEXT: Final = (
    "hc_",
    "indexer.attn_q_b",
    "indexer.attn_k",
    "indexer.proj",
    "indexer_compressor_gate",
    "indexer_compressor_ape",
    *(f"ssm_{part}.weight" for part in ("f_a", "f_b", "g_a", "g_b", "beta")),
    *(f"attn_{part}.weight" for part in ("kv_a_mqa", "k_b", "v_b")),
)


def why_kept(name: str, shape: tuple[int, ...], architecture: str) -> str:
    """Return why a tensor keeps its type in every recipe; empty where it does not.

    ``shape`` is NumPy's; leading extents of 1 do not count as dimensions.
    """
    if max(shape[:-1], default=0) <= 1:
        return "one row only"
    return _why_kept_by_name(name, architecture)


@lru_cache(maxsize=65_536)
def _why_kept_by_name(name: str, architecture: str) -> str:
    # Of a name of five letters upstream's arithmetic makes one that ends in "weight".
    if not name.endswith("weight") and len(name.encode("utf-8", "surrogateescape")) != 5:
        return "not a weight"
    if name in _KEPT_NAMES:
        return _KEPT_NAMES[name]
    for reason, parts in _KEPT.items():
        if any(part in name for part in parts):
            return reason
    if architecture == "glm5-next" and any(part in name for part in _KEPT_GLM5_NEXT):
        return "glm5-next needs it exact"
    return ""


# What takes the place of a type whose blocks are too long for a row.
_SHORTER: Final = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S"), "IQ4_NL"),
    **dict.fromkeys(("IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    **dict.fromkeys(("Q2_0", "Q2_K", "Q3_K", "TQ1_0", "TQ2_0"), "Q4_0"),
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}


def fitting(layout: Layout, name: str, row: int) -> Layout:
    """Return ``layout``, or what llama.cpp takes for it where ``row`` weights do not divide.

    Raises ``NoFallback`` where llama.cpp knows none.
    """
    if row % layout.block_length == 0:
        return layout
    shorter = _SHORTER.get(layout.name)
    if shorter is None and layout.block_length > 32:
        raise NoFallback(
            f"tensor {name!r} has rows of {row} weights, not a multiple of {layout.block_length}, "
            f"and llama.cpp has no fallback for {layout.name}",
            hint="choose another recipe, or another type for this tensor",
        )
    if shorter is not None and row % LAYOUTS[shorter].block_length == 0:
        return LAYOUTS[shorter]
    return LAYOUTS["F16"]


_ALWAYS_NEED: Final = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS")


def needs_importance(name: str, target: Layout, preset: str) -> bool:
    """Return whether ``target`` makes garbage of this tensor without an importance matrix."""
    if name == OUTPUT_NAME or name in _EMBEDDING_NAMES:
        return False
    return target.name in _ALWAYS_NEED or (target.name == "Q2_K" and preset == "Q2_K_S")
