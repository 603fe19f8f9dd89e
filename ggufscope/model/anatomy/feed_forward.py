"""Feed-forward and experts, row by row, and the end of a layer. See rows.py for the notation."""

from __future__ import annotations

from typing import Final

from ggufscope.model.anatomy.rows import Row, computed, stored

_FEED_FORWARD: Final = (
    stored("ffn_norm", "E", "Learned scale before the feed-forward."),
    computed(
        "ffn_norm",
        "T E",
        "ffn_norm",
        "{before_ffn} ffn_norm.weight",
        "Brought to a common size again.",
    ),
    computed(
        "attn_post_norm",
        "T E",
        "post_attention_norm !post_attn",
        "{before_ffn} post_attention_norm.weight",
        "Brought to a common size again.",
    ),
    stored("ffn_gate", "F E", "Learned: which features to let through."),
    stored("ffn_up", "F E", "Learned: a wide set of features to look for.", "!fused_up"),
    stored("ffn_up", "F+F E", "Learned: gate and features, stacked into one matrix.", "fused_up"),
    computed(
        "ffn_gate",
        "T F",
        "ffn_gate",
        "{ffn_input} ffn_gate.weight",
        "How far to open each feature.",
    ),
    computed(
        "ffn_up",
        "T F",
        "ffn_up !fused_up",
        "{ffn_input} ffn_up.weight",
        "How strong each feature is in the token.",
    ),
    computed(
        "ffn_up",
        "T F+F",
        "ffn_up fused_up",
        "{ffn_input} ffn_up.weight",
        "How far to open each feature, and how strong it is.",
    ),
    computed(
        "ffn_{activation}",
        "T F",
        "ffn_up ffn_gate",
        "ffn_gate ffn_up",
        "The features, let through as far as the gate opens.",
    ),
    computed(
        "ffn_{activation}",
        "T F",
        "ffn_up !ffn_gate",
        "ffn_up",
        "The features that are strong enough.",
    ),
    stored("ffn_down", "E F", "Learned: what the features found say about the token."),
    computed(
        "ffn_out",
        "T E",
        "ffn_down",
        "ffn_{activation} ffn_down.weight",
        "What the feed-forward adds to each token.",
    ),
)

_EXPERTS: Final = (
    stored("ffn_gate_inp", "X E", "The router, learned: which experts suit a token."),
    computed(
        "ffn_moe_logits",
        "T X",
        "ffn_gate_inp",
        "{ffn_input} ffn_gate_inp.weight",
        "How well each expert suits each token.",
    ),
    computed("ffn_moe_probs", "T X", "ffn_gate_inp", "ffn_moe_logits", "The same as shares."),
    computed(
        "ffn_moe_topk",
        "T U",
        "ffn_gate_inp",
        "ffn_moe_probs",
        "The experts chosen for each token: only these are run.",
    ),
    computed(
        "ffn_moe_weights",
        "T U",
        "ffn_gate_inp",
        "ffn_moe_probs ffn_moe_topk",
        "How much each chosen expert counts.",
    ),
    stored("ffn_gate_exps", "X P E", "The gates of all experts, one matrix each."),
    stored("ffn_up_exps", "X P E", "The feature matrices of all experts."),
    stored("ffn_gate_up_exps", "X P+P E", "Gate and features of all experts, stacked."),
    computed(
        "ffn_moe_gate",
        "T U P",
        "ffn_gate_exps",
        "{ffn_input} ffn_gate_exps.weight ffn_moe_topk",
        "How far the chosen experts open each feature.",
    ),
    computed(
        "ffn_moe_up",
        "T U P",
        "ffn_up_exps",
        "{ffn_input} ffn_up_exps.weight ffn_moe_topk",
        "The features as the chosen experts see them.",
    ),
    computed(
        "ffn_moe_gate_up",
        "T U P+P",
        "ffn_gate_up_exps",
        "{ffn_input} ffn_gate_up_exps.weight ffn_moe_topk",
        "Gate and features of the chosen experts.",
    ),
    computed(
        "ffn_moe_{activation}",
        "T U P",
        "ffn_up_exps",
        "ffn_moe_gate ffn_moe_up",
        "The features let through.",
    ),
    computed(
        "ffn_moe_{activation}",
        "T U P",
        "ffn_gate_up_exps",
        "ffn_moe_gate_up",
        "The features let through.",
    ),
    stored("ffn_down_exps", "X E P", "What each expert's features say about the token."),
    computed(
        "ffn_moe_down",
        "T U E",
        "ffn_down_exps",
        "ffn_moe_{activation} ffn_down_exps.weight",
        "What each chosen expert would add.",
    ),
    computed(
        "ffn_moe_out",
        "T E",
        "ffn_down_exps",
        "ffn_moe_down ffn_moe_weights",
        "Their sum, each weighted.",
    ),
    stored("ffn_gate_inp_shexp", "?", "How much the shared expert counts."),
    stored("ffn_gate_shexp", "? E", "The gate of the expert that every token visits."),
    stored("ffn_up_shexp", "? E", "The features of the expert that every token visits."),
    stored("ffn_down_shexp", "E ?", "What the shared expert's features say about the token."),
    computed(
        "ffn_shexp",
        "T E",
        "ffn_down_shexp",
        "{ffn_input} ffn_gate_shexp.weight ffn_up_shexp.weight ffn_down_shexp.weight",
        "What the shared expert adds.",
    ),
    computed(
        "ffn_out", "T E", "ffn_down_exps ffn_down_shexp", "ffn_moe_out ffn_shexp", "Both together."
    ),
)

_OUTPUT: Final = (
    stored("post_ffw_norm", "E", "Learned scale after the feed-forward."),
    computed(
        "ffn_post_norm",
        "T E",
        "post_ffw_norm",
        "{ffn_output} post_ffw_norm.weight",
        "The same, brought to a common size.",
    ),
    computed(
        "l_out",
        "T E",
        "attends",
        "{summands}",
        "The token as it leaves the layer, and enters the next.",
    ),
)


FEED_FORWARD: Final[tuple[Row, ...]] = (*_FEED_FORWARD, *_EXPERTS, *_OUTPUT)
