"""Attention, row by row, in the order in which a pass meets it. See rows.py for the notation."""

from __future__ import annotations

from typing import Final

from ggufscope.model.anatomy.rows import Row, cached, computed, stored

_ATTENTION_INPUT: Final = (
    stored("attn_norm", "E", "Learned scale, one number a feature."),
    computed(
        "attn_norm",
        "T E",
        "attn_norm",
        "inpL attn_norm.weight",
        "Each token's vector brought to a common size, so that attention compares like with like.",
    ),
)

_QUERIES_KEYS_VALUES: Final = (
    stored("attn_qkv", "H*D+K*D+K*M E", "W_q, W_k and W_v, stacked into one matrix."),
    computed(
        "wqkv", "T H*D+K*D+K*M", "attn_qkv", "{attn_input} attn_qkv.weight", "Q, K and V in one."
    ),
    stored(
        "attn_q",
        "H*D E",
        "W_q, learned: turns a token into the question it puts to the tokens before it.",
        "!attn_kv_a_mqa",
    ),
    stored("attn_q_norm", "?", "Learned scale of the queries."),
    computed(
        "Qcur",
        "T H D",
        "attn_q !attn_kv_a_mqa",
        "{attn_input} attn_q.weight",
        "The question of each token, once a head{rotated}.",
    ),
    computed(
        "Qcur", "T H D", "attn_qkv", "wqkv", "The question of each token, once a head{rotated}."
    ),
    stored(
        "attn_k",
        "K*D E",
        "W_k, learned: turns a token into the label by which others find it.",
    ),
    stored("attn_k_norm", "?", "Learned scale of the keys."),
    computed(
        "Kcur",
        "T K D",
        "attn_k",
        "{attn_input} attn_k.weight",
        "The label of each token, once a key head{rotated}.",
    ),
    computed(
        "Kcur", "T K D", "attn_qkv", "wqkv", "The label of each token, once a key head{rotated}."
    ),
    stored(
        "attn_v", "K*M E", "W_v, learned: turns a token into what it passes on when attended to."
    ),
    computed(
        "Vcur",
        "T K M",
        "attn_v",
        "{attn_input} attn_v.weight",
        "What each token passes on, once a value head.",
    ),
    computed("Vcur", "T K M", "attn_qkv", "wqkv", "What each token passes on, once a value head."),
)

_LATENT: Final = (
    stored("attn_q_a", "Q E", "W_q in two steps, first: down to a narrow vector."),
    stored("attn_q_a_norm", "Q", "Learned scale of the narrow queries."),
    stored("attn_q_b", "H*N+H*R Q", "W_q in two steps, second: out to all heads."),
    stored(
        "attn_q", "H*N+H*R E", "W_q, learned: turns a token into its question.", "attn_kv_a_mqa"
    ),
    computed(
        "q",
        "T H N+R",
        "attn_q_b",
        "{attn_input} attn_q_a.weight attn_q_b.weight",
        "The question of each token, once a head.",
    ),
    computed(
        "q",
        "T H N+R",
        "attn_q attn_kv_a_mqa",
        "{attn_input} attn_q.weight",
        "The question of each token, once a head.",
    ),
    stored(
        "attn_kv_a_mqa", "L+R E", "Squeezes a token's keys and values of all heads into one latent."
    ),
    stored("attn_kv_a_norm", "L", "Learned scale of the latent."),
    computed(
        "kv_cmpr_pe",
        "T L+R",
        "attn_kv_a_mqa",
        "{attn_input} attn_kv_a_mqa.weight",
        "The latent, and beside it the one rotated key that all heads share.",
    ),
    computed(
        "kv_cmpr",
        "T L",
        "attn_kv_a_mqa",
        "kv_cmpr_pe attn_kv_a_norm.weight",
        "The latent: what this token will be remembered by.",
    ),
    computed(
        "k_pe", "T 1 R", "attn_kv_a_mqa", "kv_cmpr_pe", "The shared key, rotated by its position."
    ),
    stored(
        "attn_kv_b", "H*N+H*M L", "Unfolds the latent into keys and values of every head.", "!mla"
    ),
    computed(
        "kv",
        "T H*N+H*M",
        "attn_kv_b !mla",
        "kv_cmpr attn_kv_b.weight",
        "Keys and values of every head, unfolded.",
    ),
    stored("attn_k_b", "H L N", "W_k of each head, moved onto the query side.", "mla"),
    computed(
        "q_nope_absorbed",
        "T H L",
        "mla",
        "q attn_k_b.weight",
        "The question, asked in the latent's own terms: keys need not be unfolded.",
    ),
    computed(
        "Qcur", "T H L+R", "mla", "q_nope_absorbed q", "The question of each token, once a head."
    ),
    computed(
        "Kcur",
        "T 1 L+R",
        "mla",
        "kv_cmpr k_pe",
        "One label for all heads: the latent and the shared key.",
    ),
    computed("Vcur", "T 1 L", "mla", "kv_cmpr", "One value for all heads: the latent itself."),
    computed(
        "Qcur",
        "T H N+R",
        "latent !mla",
        "q",
        "The question of each token, once a head, its end rotated.",
    ),
    computed("Kcur", "T H N+R", "latent !mla", "kv k_pe", "The label of each token, once a head."),
    computed("Vcur", "T H M", "latent !mla", "kv", "What each token passes on, once a head."),
    stored(
        "attn_v_b",
        "H M L",
        "W_v of each head: unfolds what attention gathered from the latent.",
        "mla",
    ),
)

_SCORES: Final = (
    cached(
        "cache_k",
        "S K D",
        "cached !latent",
        "Kcur",
        "The keys of all tokens so far, kept so that they are not computed again.",
    ),
    cached("cache_v", "S K M", "cached !latent", "Vcur", "The values of all tokens so far."),
    cached("cache_k", "S H N+R", "cached latent !mla", "Kcur", "The keys of all tokens so far."),
    cached("cache_v", "S H M", "cached latent !mla", "Vcur", "The values of all tokens so far."),
    cached(
        "cache_k",
        "S 1 L+R",
        "cached mla",
        "Kcur",
        "One latent a token: keys and values of all heads in it. There is no other cache.",
    ),
    stored(
        "attn_sinks",
        "H",
        "Learned: a place for attention to go when no token is worth it.",
    ),
    computed(
        "kq",
        "H T S",
        "attends",
        "Qcur cache_k",
        "How well each question fits each label: a score for every pair of tokens. A product of "
        "two computed things, it exists for this text alone.",
    ),
    computed(
        "kq_soft_max",
        "H T S",
        "attends",
        "kq",
        "The attention weights: softmax turns the scores into shares that add up to 1 in each row. "
        "Other words give other shares, so no file can hold them.",
    ),
    computed(
        "kqv", "H T M", "attends !mla", "kq_soft_max cache_v", "The values, mixed in these shares."
    ),
    computed(
        "kqv", "H T L", "attends mla", "kq_soft_max cache_k", "The latents, mixed in these shares."
    ),
    computed(
        "kqv_mla",
        "H T M",
        "attends mla",
        "kqv attn_v_b.weight",
        "The mixture, unfolded for each head.",
    ),
    computed("kqv_out", "T H*M", "attends", "kqv", "All heads side by side."),
    stored("attn_sub_norm", "?", "Learned scale of the heads."),
    stored("attn_output", "E H*M", "W_o, learned: what the layer makes of the heads' findings."),
    computed(
        "attn_out",
        "T E",
        "attends attn_output",
        "kqv_out attn_output.weight",
        "What attention adds to each token.",
    ),
    stored("post_attention_norm", "E", "Learned scale after attention."),
    computed(
        "attn_post_norm",
        "T E",
        "post_attn",
        "attn_out post_attention_norm.weight",
        "The same, brought to a common size.",
    ),
    stored("attn_output_norm", "E", "Learned scale after attention."),
    computed(
        "attn_out_norm",
        "T E",
        "attn_output_norm",
        "attn_out attn_output_norm.weight",
        "The same, brought to a common size.",
    ),
    computed(
        "{residual}",
        "T E",
        "attends !parallel",
        "inpL {attended}",
        "The token as it came, plus what attention added.",
    ),
)


ATTENTION: Final[tuple[Row, ...]] = (
    *_ATTENTION_INPUT,
    *_QUERIES_KEYS_VALUES,
    *_LATENT,
    *_SCORES,
)
