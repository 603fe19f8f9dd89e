"""``blk.7.attn_v.weight`` -> layer 7, ``attn_v``, the value projection of attention.

A tensor's name is built of parts, and the parts say what it is for::

    v.blk.7.attn_q.weight
    │ └──┬─┘└─┬──┘└─┬──┘
    │  layer  stem  suffix: weight, bias, scale
    tower: v vision, a audio, mm the bridge to them, enc and dec the halves of T5

Stems are read by pattern, not from a list of whole names: ``attn_`` is attention, ``ffn_`` the
feed-forward, a part called ``norm`` is a normalization. ``STEMS`` only gives the well-known ones
their proper words. Names follow ``LLM_TENSOR_NAMES`` in ``llama-arch.cpp`` and ``clip-impl.h``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

Group = Literal[
    "embedding", "attention", "feed-forward", "experts", "norm", "recurrent", "output", "other"
]
"""What a tensor is for, in one word; totals are given by it."""


@dataclass(frozen=True, slots=True)
class Role:
    """What a tensor is for, read from its name alone."""

    tower: str
    """Part of the model outside the text decoder (``v``, ``a``, ``mm``, ``enc`` ...), or empty."""
    layer: int | None
    stem: str
    """The name without tower, layer and suffix: ``attn_v``."""
    suffix: str
    group: Group
    label: str
    """A few words for a table; empty where the name says nothing to this program."""


STEMS: Final[dict[str, tuple[Group, str]]] = {
    "token_embd": ("embedding", "token embedding"),
    "position_embd": ("embedding", "position embedding"),
    "token_embd_norm": ("norm", "norm"),
    "token_types": ("embedding", "segment embedding"),
    "per_layer_token_embd": ("embedding", "embedding for each layer"),
    "output": ("output", "output projection"),
    "output_norm": ("norm", "norm before output"),
    "rope_freqs": ("other", "RoPE frequency factors"),
    "rope_factors_long": ("other", "RoPE factors, long context"),
    "rope_factors_short": ("other", "RoPE factors, short context"),
    "attn_q": ("attention", "W_q: queries"),
    "attn_k": ("attention", "W_k: keys"),
    "attn_v": ("attention", "W_v: values"),
    "attn_qkv": ("attention", "W_q, W_k, W_v in one"),
    "attn_output": ("attention", "W_o: joins the heads"),
    "attn_out": ("attention", "W_o: joins the heads"),
    "attn_o": ("attention", "W_o: joins the heads"),
    "attn_sinks": ("attention", "attention sinks"),
    "attn_gate": ("attention", "gate on the heads"),
    "attn_q_a": ("attention", "W_q, squeezed"),
    "attn_q_b": ("attention", "W_q, unfolded"),
    "attn_kv_a_mqa": ("attention", "W_k, W_v squeezed"),
    "attn_kv_b": ("attention", "W_k, W_v unfolded"),
    "attn_k_b": ("attention", "W_k unfolded"),
    "attn_v_b": ("attention", "W_v unfolded"),
    "attn_rel_b": ("attention", "relative position bias"),
    "attn_norm": ("norm", "norm before attention"),
    "attn_norm_2": ("norm", "second norm of attention"),
    "attn_q_norm": ("norm", "norm of queries"),
    "attn_k_norm": ("norm", "norm of keys"),
    "attn_q_a_norm": ("norm", "norm of squeezed queries"),
    "attn_kv_a_norm": ("norm", "norm of squeezed keys"),
    "attn_sub_norm": ("norm", "norm of the heads"),
    "attn_output_norm": ("norm", "norm after attention"),
    "post_attention_norm": ("norm", "norm after attention"),
    "ffn_norm": ("norm", "norm before FFN"),
    "ffn_norm_exps": ("norm", "norm before the experts"),
    "ffn_sub_norm": ("norm", "norm inside FFN"),
    "post_ffw_norm": ("norm", "norm after FFN"),
    "layer_output_norm": ("norm", "norm after FFN"),
    "ffn_gate": ("feed-forward", "FFN gate"),
    "ffn_up": ("feed-forward", "FFN up"),
    "ffn_down": ("feed-forward", "FFN down"),
    "ffn_gate_inp": ("experts", "router of experts"),
    "ffn_gate_inp_shexp": ("experts", "gate of shared expert"),
    "ffn_gate_exps": ("experts", "gates of experts"),
    "ffn_up_exps": ("experts", "ups of experts"),
    "ffn_down_exps": ("experts", "downs of experts"),
    "ffn_gate_up_exps": ("experts", "gates, ups of experts"),
    "ffn_gate_shexp": ("experts", "shared expert's gate"),
    "ffn_up_shexp": ("experts", "shared expert's up"),
    "ffn_down_shexp": ("experts", "shared expert's down"),
    "exp_probs_b": ("experts", "bias of the router"),
    "ssm_in": ("recurrent", "state space: input"),
    "ssm_conv1d": ("recurrent", "state space: convolution"),
    "ssm_dt": ("recurrent", "state space: time step"),
    "ssm_a": ("recurrent", "state space: decay"),
    "ssm_d": ("recurrent", "state space: skip"),
    "ssm_out": ("recurrent", "state space: output"),
    "cls": ("output", "classifier"),
    "cls.output": ("output", "classifier output"),
    "patch_embd": ("embedding", "image patch embedding"),
    "class_embd": ("embedding", "image class embedding"),
}
"""Stem -> group, label. W_q, W_k, W_v, W_o are the names that papers use."""

# Tried in order where the stem is not in the table: what the parts of a name give away.
_PATTERNS: Final[tuple[tuple[str, Group, str], ...]] = (
    (r"ffn_(gate|up|down)\.\d+$", "experts", "one expert's {1}"),
    (r"(.*[._])?(norm|ln|bn|snake)(_?\w?\d*|_conv|_mean|_var|_emb\w*)$", "norm", "norm"),
    (r"(.*[._])?(norm|ln)[._]\w+$", "norm", "norm"),
    (r"((pre|post)_.*)?norm_?\d*$", "norm", "norm"),
    (r"(time_mix|channel_mix)_(.+)", "recurrent", "RWKV {1}: {2}"),
    (r"ssm_(.+)", "recurrent", "state space: {1}"),
    (r"shortconv\.(.+)", "recurrent", "short convolution: {1}"),
    (r"indexer(.+)", "attention", "picks what to attend to"),
    (r"(.*_)?cross_attn_(.+)", "attention", "attention across: {2}"),
    (r"(.*[._])?(self_|vis_)?attn(.*)", "attention", "attention"),
    (r"per_dim_.*|pos_bias_.|linear_pos|.*attn_rel.*", "attention", "attention positions"),
    (r"hc_.*|.*_hc_.*|attn_res.*|.*res_score", "other", "mixes residual streams"),
    (r".*(chexps|exps)$", "experts", "experts"),
    (r"exp_probs.*|ffn_routed.*|ffn_latent.*", "experts", "experts"),
    (r"ffn.*|vis_(gate|up|down)|mlp\..*|.*ffn\..*", "feed-forward", "feed-forward"),
    (r"(.*[._])?nextn\..*|nextn.*", "other", "predicts further tokens"),
    (r"altup.*|laurel.*|inp_gate|proj|per_layer.*|ple_.*", "other", "stream for each layer"),
    (r".*(embd|embed|embedding|codebook|query|position\w*)(_.*|\.\d+)?$", "embedding", "embedding"),
    (r".*(conv|convnext|posnet|seanet|dw|pw)[\w.]*", "other", "convolution"),
    (r"(ls\d|gamma|out_scale|layer_output_scale|layer_scale.*)", "other", "layer scale"),
    (
        r"(.*[._])?(fc\d?|linear|proj|projection|mlp|up|down|gate|in_proj|out_proj|dense_\d)[\w.]*",
        "other",
        "projection",
    ),
)

_TOWERS: Final = {
    "v": "vision",
    "a": "audio",
    "mm": "bridge",
    "resampler": "bridge",
    "adapter": "bridge",
    "enc": "encoder",
    "dec": "decoder",
    "posnet": "audio",
    "convnext": "audio",
}

_NAME: Final = re.compile(
    r"(?:(?P<tower>v|a|mm|resampler|adapter|enc|dec|posnet|convnext)\.)?"
    r"(?:.*?(?:blk|layer|block|stage)\.(?P<layer>\d{1,9})\.)?"
    r"(?P<stem>.+?)"
    r"(?:\.(?P<suffix>weight|bias|scale|input_scale|lora_a|lora_b))?",
    re.DOTALL,
)


@lru_cache(maxsize=65_536)
def role_of(name: str) -> Role:
    """Read what a tensor is for from its name; any name has a role, if only ``other``."""
    match = _NAME.fullmatch(name)
    if match is None:  # the empty name, which GGUF allows
        return Role("", None, name, "", "other", "")
    tower, stem = match["tower"] or "", match["stem"]
    layer = int(match["layer"]) if match["layer"] else None
    group, label = _read_stem(stem, tower)
    if tower:
        label = f"{_TOWERS[tower]}: {label}" if label else _TOWERS[tower]
    if match["suffix"] in ("bias", "scale", "input_scale") and label:
        label = f"{label}, {match['suffix'].replace('_', ' ')}"
    return Role(tower, layer, stem, match["suffix"] or "", group, label)


def without_layer(name: str, layer: int) -> str:
    """Return a tensor's name without its layer: ``attn_q.weight``, ``v.blk.*.attn_q.weight``."""
    prefix = f"blk.{layer}."
    if name.startswith(prefix):
        return name[len(prefix) :]
    return name.replace(f".{layer}.", ".*.", 1)


def _read_stem(stem: str, tower: str) -> tuple[Group, str]:
    known = STEMS.get(stem)
    if known is not None:
        return known
    for pattern, group, label in _PATTERNS:
        match = re.fullmatch(pattern, stem)  # `re` keeps what it compiled
        if match is not None:
            parts = [part or "" for part in match.groups()]
            return group, label.format(stem, *parts).replace("_", " ")
    return "other", ""
