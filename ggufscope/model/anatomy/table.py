"""The table: what a model stores and computes, in the order in which a pass meets it.

Every family at once, in parts; a layer shows the rows whose condition holds for it. ``stored``: a
tensor, its shape, what it is. ``computed`` and ``cached``: a name, its shape, when, made from what,
what it is. Symbols are explained in symbols.py, conditions in conditions.py.
"""

from __future__ import annotations

from typing import Final

from ggufscope.model.anatomy.conditions import (
    ATTENDS,
    CACHED,
    FUSED_UP,
    LATENT,
    MLA,
    PARALLEL,
    POST_ATTN,
    has,
)
from ggufscope.model.anatomy.rows import Row, cached, computed, stored

# A table is read by its columns, and ruff would put each of them on a line of its own.
# fmt: off

HEAD: Final[tuple[Row, ...]] = (
    stored("token_embd", "V E", "One learned vector for each entry of the vocabulary."),
    stored("position_embd", "? E", "One learned vector for each position."),
    stored("token_embd_norm", "E", "Learned scale of the embedding."),
    computed("embd", "T E", has("token_embd"), "token_embd.weight",
        "The rows of the vocabulary that the text's tokens pick: here text becomes numbers."),
)
"""What comes before the layers."""

ATTENTION_INPUT: Final = (
    stored("attn_norm", "E", "Learned scale, one number a feature."),
    computed("attn_norm", "T E", has("attn_norm"), "inpL attn_norm.weight",
        "Each token's vector brought to a common size, so that attention compares like with like."),
)

QUERIES_KEYS_VALUES: Final = (
    stored("attn_qkv", "H*D+K*D+K*M E", "W_q, W_k and W_v, stacked into one matrix."),
    computed("wqkv", "T H*D+K*D+K*M", has("attn_qkv"), "{attn_input} attn_qkv.weight",
        "Q, K and V in one."),
    stored("attn_q", "H*D E",
        "W_q, learned: turns a token into the question it puts to the tokens before it.", ~LATENT),
    stored("attn_q_norm", "?", "Learned scale of the queries."),
    computed("Qcur", "T H D", has("attn_q") & ~LATENT, "{attn_input} attn_q.weight",
        "The question of each token, once a head{rotated}."),
    computed("Qcur", "T H D", has("attn_qkv"), "wqkv",
        "The question of each token, once a head{rotated}."),
    stored("attn_k", "K*D E",
        "W_k, learned: turns a token into the label by which others find it."),
    stored("attn_k_norm", "?", "Learned scale of the keys."),
    computed("Kcur", "T K D", has("attn_k"), "{attn_input} attn_k.weight",
        "The label of each token, once a key head{rotated}."),
    computed("Kcur", "T K D", has("attn_qkv"), "wqkv",
        "The label of each token, once a key head{rotated}."),
    stored("attn_v", "K*M E",
        "W_v, learned: turns a token into what it passes on when attended to."),
    computed("Vcur", "T K M", has("attn_v"), "{attn_input} attn_v.weight",
        "What each token passes on, once a value head."),
    computed("Vcur", "T K M", has("attn_qkv"), "wqkv",
        "What each token passes on, once a value head."),
)

LATENT_ATTENTION: Final = (
    stored("attn_q_a", "Q E", "W_q in two steps, first: down to a narrow vector."),
    stored("attn_q_a_norm", "Q", "Learned scale of the narrow queries."),
    stored("attn_q_b", "H*N+H*R Q", "W_q in two steps, second: out to all heads."),
    stored("attn_q", "H*N+H*R E", "W_q, learned: turns a token into its question.", LATENT),
    computed("q", "T H N+R", has("attn_q_b"), "{attn_input} attn_q_a.weight attn_q_b.weight",
        "The question of each token, once a head."),
    computed("q", "T H N+R", has("attn_q") & LATENT, "{attn_input} attn_q.weight",
        "The question of each token, once a head."),
    stored("attn_kv_a_mqa", "L+R E",
        "Squeezes a token's keys and values of all heads into one latent."),
    stored("attn_kv_a_norm", "L", "Learned scale of the latent."),
    computed("kv_cmpr_pe", "T L+R", LATENT, "{attn_input} attn_kv_a_mqa.weight",
        "The latent, and beside it the one rotated key that all heads share."),
    computed("kv_cmpr", "T L", LATENT, "kv_cmpr_pe attn_kv_a_norm.weight",
        "The latent: what this token will be remembered by."),
    computed("k_pe", "T 1 R", LATENT, "kv_cmpr_pe",
        "The shared key, rotated by its position."),
    stored("attn_kv_b", "H*N+H*M L",
        "Unfolds the latent into keys and values of every head.", ~MLA),
    computed("kv", "T H*N+H*M", has("attn_kv_b") & ~MLA, "kv_cmpr attn_kv_b.weight",
        "Keys and values of every head, unfolded."),
    stored("attn_k_b", "H L N", "W_k of each head, moved onto the query side.", MLA),
    computed("q_nope_absorbed", "T H L", MLA, "q attn_k_b.weight",
        "The question, asked in the latent's own terms: keys need not be unfolded."),
    computed("Qcur", "T H L+R", MLA, "q_nope_absorbed q",
        "The question of each token, once a head."),
    computed("Kcur", "T 1 L+R", MLA, "kv_cmpr k_pe",
        "One label for all heads: the latent and the shared key."),
    computed("Vcur", "T 1 L", MLA, "kv_cmpr",
        "One value for all heads: the latent itself."),
    computed("Qcur", "T H N+R", LATENT & ~MLA, "q",
        "The question of each token, once a head, its end rotated."),
    computed("Kcur", "T H N+R", LATENT & ~MLA, "kv k_pe",
        "The label of each token, once a head."),
    computed("Vcur", "T H M", LATENT & ~MLA, "kv",
        "What each token passes on, once a head."),
    stored("attn_v_b", "H M L",
        "W_v of each head: unfolds what attention gathered from the latent.", MLA),
)

CACHE: Final = (
    cached("cache_k", "S K D", CACHED & ~LATENT, "Kcur",
        "The keys of all tokens so far, kept so that they are not computed again."),
    cached("cache_v", "S K M", CACHED & ~LATENT, "Vcur",
        "The values of all tokens so far."),
    cached("cache_k", "S H N+R", LATENT & ~MLA, "Kcur", "The keys of all tokens so far."),
    cached("cache_v", "S H M", LATENT & ~MLA, "Vcur", "The values of all tokens so far."),
    cached("cache_k", "S 1 L+R", CACHED & MLA, "Kcur",
        "One latent a token: keys and values of all heads in it. There is no other cache."),
)

ATTENTION_WEIGHTS: Final = (
    stored("attn_sinks", "H",
        "Learned: a place for attention to go when no token is worth it."),
    computed("kq", "H T S", ATTENDS, "Qcur cache_k",
        "How well each question fits each label: a score for every pair of tokens. A product of "
        "two computed things, it exists for this text alone."),
    computed("kq_soft_max", "H T S", ATTENDS, "kq",
        "The attention weights: softmax turns the scores into shares that add up to 1 in each row. "
        "Other words give other shares, so no file can hold them."),
    computed("kqv", "H T M", ATTENDS & ~MLA, "kq_soft_max cache_v",
        "The values, mixed in these shares."),
    computed("kqv", "H T L", ATTENDS & MLA, "kq_soft_max cache_k",
        "The latents, mixed in these shares."),
    computed("kqv_mla", "H T M", ATTENDS & MLA, "kqv attn_v_b.weight",
        "The mixture, unfolded for each head."),
    computed("kqv_out", "T H*M", ATTENDS, "kqv", "All heads side by side."),
)

ATTENTION_OUTPUT: Final = (
    stored("attn_sub_norm", "?", "Learned scale of the heads."),
    stored("attn_output", "E H*M", "W_o, learned: what the layer makes of the heads' findings."),
    computed("attn_out", "T E", ATTENDS & has("attn_output"), "kqv_out attn_output.weight",
        "What attention adds to each token."),
    stored("post_attention_norm", "E", "Learned scale after attention."),
    computed("attn_post_norm", "T E", POST_ATTN, "attn_out post_attention_norm.weight",
        "The same, brought to a common size."),
    stored("attn_output_norm", "E", "Learned scale after attention."),
    computed("attn_out_norm", "T E", has("attn_output_norm"), "attn_out attn_output_norm.weight",
        "The same, brought to a common size."),
    computed("{residual}", "T E", ATTENDS & ~PARALLEL, "inpL {attended}",
        "The token as it came, plus what attention added."),
)

FEED_FORWARD: Final = (
    stored("ffn_norm", "E", "Learned scale before the feed-forward."),
    computed("ffn_norm", "T E", has("ffn_norm"), "{residual} ffn_norm.weight",
        "Brought to a common size again."),
    computed("attn_post_norm", "T E", has("post_attention_norm") & ~POST_ATTN,
        "{residual} post_attention_norm.weight", "Brought to a common size again."),
    stored("ffn_gate", "F E", "Learned: which features to let through."),
    stored("ffn_up", "F E", "Learned: a wide set of features to look for.", ~FUSED_UP),
    stored("ffn_up", "F+F E", "Learned: gate and features, stacked into one matrix.", FUSED_UP),
    computed("ffn_gate", "T F", has("ffn_gate"), "{ffn_input} ffn_gate.weight",
        "How far to open each feature."),
    computed("ffn_up", "T F", has("ffn_up") & ~FUSED_UP, "{ffn_input} ffn_up.weight",
        "How strong each feature is in the token."),
    computed("ffn_up", "T F+F", has("ffn_up") & FUSED_UP, "{ffn_input} ffn_up.weight",
        "How far to open each feature, and how strong it is."),
    computed("ffn_{activation}", "T F", has("ffn_up") & has("ffn_gate"), "ffn_gate ffn_up",
        "The features, let through as far as the gate opens."),
    computed("ffn_{activation}", "T F", has("ffn_up") & ~has("ffn_gate"), "ffn_up",
        "The features that are strong enough."),
    stored("ffn_down", "E F", "Learned: what the features found say about the token."),
    computed("ffn_out", "T E", has("ffn_down"), "ffn_{activation} ffn_down.weight",
        "What the feed-forward adds to each token."),
)

EXPERTS: Final = (
    stored("ffn_gate_inp", "X E", "The router, learned: which experts suit a token."),
    computed("ffn_moe_logits", "T X", has("ffn_gate_inp"), "{ffn_input} ffn_gate_inp.weight",
        "How well each expert suits each token."),
    computed("ffn_moe_probs", "T X", has("ffn_gate_inp"), "ffn_moe_logits", "The same as shares."),
    computed("ffn_moe_topk", "T U", has("ffn_gate_inp"), "ffn_moe_probs",
        "The experts chosen for each token: only these are run."),
    computed("ffn_moe_weights", "T U", has("ffn_gate_inp"), "ffn_moe_probs ffn_moe_topk",
        "How much each chosen expert counts."),
    stored("ffn_gate_exps", "X P E", "The gates of all experts, one matrix each."),
    stored("ffn_up_exps", "X P E", "The feature matrices of all experts."),
    stored("ffn_gate_up_exps", "X P+P E", "Gate and features of all experts, stacked."),
    computed("ffn_moe_gate", "T U P", has("ffn_gate_exps"),
        "{ffn_input} ffn_gate_exps.weight ffn_moe_topk",
        "How far the chosen experts open each feature."),
    computed("ffn_moe_up", "T U P", has("ffn_up_exps"),
        "{ffn_input} ffn_up_exps.weight ffn_moe_topk",
        "The features as the chosen experts see them."),
    computed("ffn_moe_gate_up", "T U P+P", has("ffn_gate_up_exps"),
        "{ffn_input} ffn_gate_up_exps.weight ffn_moe_topk",
        "Gate and features of the chosen experts."),
    computed("ffn_moe_{activation}", "T U P", has("ffn_up_exps"), "ffn_moe_gate ffn_moe_up",
        "The features let through."),
    computed("ffn_moe_{activation}", "T U P", has("ffn_gate_up_exps"), "ffn_moe_gate_up",
        "The features let through."),
    stored("ffn_down_exps", "X E P", "What each expert's features say about the token."),
    computed("ffn_moe_down", "T U E", has("ffn_down_exps"),
        "ffn_moe_{activation} ffn_down_exps.weight", "What each chosen expert would add."),
    computed("ffn_moe_out", "T E", has("ffn_down_exps"), "ffn_moe_down ffn_moe_weights",
        "Their sum, each weighted."),
    stored("ffn_gate_inp_shexp", "?", "How much the shared expert counts."),
    stored("ffn_gate_shexp", "? E", "The gate of the expert that every token visits."),
    stored("ffn_up_shexp", "? E", "The features of the expert that every token visits."),
    stored("ffn_down_shexp", "E ?", "What the shared expert's features say about the token."),
    computed("ffn_shexp", "T E", has("ffn_down_shexp"),
        "{ffn_input} ffn_gate_shexp.weight ffn_up_shexp.weight ffn_down_shexp.weight",
        "What the shared expert adds."),
    computed("ffn_out", "T E", has("ffn_down_exps") & has("ffn_down_shexp"),
        "ffn_moe_out ffn_shexp", "Both together."),
)

LAYER_OUTPUT: Final = (
    stored("post_ffw_norm", "E", "Learned scale after the feed-forward."),
    computed("ffn_post_norm", "T E", has("post_ffw_norm"), "{ffn_output} post_ffw_norm.weight",
        "The same, brought to a common size."),
    computed("l_out", "T E", ATTENDS, "{summands}",
        "The token as it leaves the layer, and enters the next."),
)

LAYER: Final[tuple[Row, ...]] = (
    *ATTENTION_INPUT,
    *QUERIES_KEYS_VALUES,
    *LATENT_ATTENTION,
    *CACHE,
    *ATTENTION_WEIGHTS,
    *ATTENTION_OUTPUT,
    *FEED_FORWARD,
    *EXPERTS,
    *LAYER_OUTPUT,
)
"""A layer, from what enters it to what leaves it."""

TAIL: Final[tuple[Row, ...]] = (
    stored("output_norm", "E", "Learned scale before the output."),
    computed("result_norm", "T E", has("output_norm"), "l_out output_norm.weight",
        "The last layer's output, brought to a common size."),
    stored("output", "V E",
        "Learned: turns a token's vector into a score for each entry of the vocabulary."),
    computed("result_output", "T V", has("output"), "result_norm output.weight",
        "The logits: how likely each entry is to come next."),
    computed("result_output", "T V", ~has("output") & has("token_embd"),
        "result_norm token_embd.weight",
        "The logits: how likely each entry is to come next. The embedding serves as W_out too."),
)
"""What comes after the layers."""
