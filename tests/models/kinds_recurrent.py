"""Small seeded models whose layers keep a state; see kinds.py."""

from __future__ import annotations

from collections.abc import Callable

from tests.models.kinds_parts import (
    DENSE,
    EXPERTS,
    E,
    F,
    attention_of,
    experts_of,
    hparams_of,
    model_of,
)
from tests.models.makers import Recipe, Shapes


def _ssm(inner: int, state: int, rank: int, conv: int) -> dict[str, int]:
    return {
        "ssm__conv_kernel": conv,
        "ssm__inner_size": inner,
        "ssm__state_size": state,
        "ssm__time_step_rank": rank,
    }


def _mamba_layer(state: int, rank: int) -> Shapes:
    inner = 2 * E
    return {
        "attn_norm.weight": (E,),
        "ssm_in.weight": (2 * inner, E),
        "ssm_conv1d.weight": (inner, 4),
        "ssm_conv1d.bias": (inner,),
        "ssm_x.weight": (rank + 2 * state, inner),
        "ssm_dt.weight": (inner, rank),
        "ssm_dt.bias": (inner,),
        "ssm_a": (inner, state),
        "ssm_d": (inner,),
        "ssm_out.weight": (E, inner),
    }


def _mamba() -> Recipe:
    hparams = hparams_of(2, 0, 0, None, **_ssm(2 * E, 64, 8, 4))
    return model_of("mamba", hparams, [_mamba_layer(64, 8)] * 2)


def _jamba() -> Recipe:
    """Attention in layer 1 alone; its file says groups, which llama.cpp does not read of it."""
    norms: Shapes = {
        "ssm_dt_norm.weight": (8,),
        "ssm_b_norm.weight": (64,),
        "ssm_c_norm.weight": (64,),
    }
    recurrent = _mamba_layer(64, 8) | norms | DENSE
    hparams = hparams_of(3, 4, [0, 2, 0], **_ssm(2 * E, 64, 8, 4), ssm__group_count=5)
    return model_of("jamba", hparams, [recurrent, attention_of(4, 2) | DENSE, recurrent])


def _qwen3next() -> Recipe:
    """Of four layers, the last attends."""
    state, groups, values, conv = 64, 2, 4, 4
    keyed, valued = state * groups, state * values
    shared: Shapes = {
        "post_attention_norm.weight": (E,),
        "ffn_gate_inp_shexp.weight": (E,),
        "ffn_gate_shexp.weight": (32, E),
        "ffn_up_shexp.weight": (32, E),
        "ffn_down_shexp.weight": (E, 32),
    }
    recurrent: Shapes = {
        "attn_norm.weight": (E,),
        "attn_qkv.weight": (2 * keyed + valued, E),
        "attn_gate.weight": (valued, E),
        "ssm_conv1d.weight": (2 * keyed + valued, conv),
        "ssm_dt.bias": (values,),
        "ssm_a": (values,),
        "ssm_ba.weight": (2 * values, E),
        "ssm_norm.weight": (state,),
        "ssm_out.weight": (E, valued),
    }
    attending = attention_of(4, 2) | {
        "attn_q.weight": (2 * 128, E),
        "attn_q_norm.weight": (32,),
        "attn_k_norm.weight": (32,),
    }
    hparams = hparams_of(
        4,
        4,
        2,
        **_ssm(valued, state, values, conv),
        ssm__group_count=groups,
        rope__dimension_count=32,
        **experts_of(expert_shared_feed_forward_length=32),
    )
    layers = [recurrent, recurrent, recurrent, attending]
    return model_of("qwen3next", hparams, [layer | shared | EXPERTS for layer in layers])


def _lfm2() -> Recipe:
    """A short convolution in all layers but one."""
    norms: Shapes = {"attn_q_norm.weight": (32,), "attn_k_norm.weight": (32,)}
    convolution: Shapes = {
        "attn_norm.weight": (E,),
        "shortconv.conv.weight": (E, 3),
        "shortconv.in_proj.weight": (3 * E, E),
        "shortconv.out_proj.weight": (E, E),
    }
    hparams = hparams_of(3, 4, [0, 2, 0], shortconv__l_cache=3)
    layers = [convolution, attention_of(4, 2) | norms, convolution]
    recipe = model_of("lfm2", hparams, [layer | DENSE for layer in layers], tied=True)
    del recipe.shapes["output_norm.weight"]
    recipe.shapes["token_embd_norm.weight"] = (E,)
    return recipe


def _mamba2_layer(inner: int, state: int, heads: int, groups: int) -> Shapes:
    convolved = inner + 2 * groups * state
    return {
        "attn_norm.weight": (E,),
        "ssm_in.weight": (inner + convolved + heads, E),
        "ssm_conv1d.weight": (convolved, 4),
        "ssm_conv1d.bias": (convolved,),
        "ssm_dt.bias": (heads,),
        "ssm_a": (heads, 1),
        "ssm_d": (heads, 1),
        "ssm_norm.weight": (groups, inner // groups),
        "ssm_out.weight": (E, inner),
    }


def _mamba2() -> Recipe:
    hparams = hparams_of(2, 0, 0, None, **_ssm(2 * E, 64, 4, 4), ssm__group_count=2)
    return model_of("mamba2", hparams, [_mamba2_layer(2 * E, 64, 4, 2)] * 2)


def _falcon_h1() -> Recipe:
    """Attention and a state in every layer."""
    layer = _mamba2_layer(2 * E, 64, 4, 2) | attention_of(4, 2) | DENSE
    layer = {name.replace("ffn_norm.weight", "ffn_norm"): shape for name, shape in layer.items()}
    hparams = hparams_of(2, 4, 2, **_ssm(2 * E, 64, 4, 4), ssm__group_count=2)
    return model_of("falcon-h1", hparams, [layer] * 2)


def _nemotron_h() -> Recipe:
    """A layer has a state, or attention, or a feed-forward."""
    hparams = hparams_of(4, 4, [0, 2, 0, 0], **_ssm(2 * E, 64, 4, 4), ssm__group_count=2)
    hparams |= {"feed_forward_length": [0, 0, F, 0], "attention.layer_norm_epsilon": 1e-5}
    state = _mamba2_layer(2 * E, 64, 4, 2)
    forward: Shapes = {
        "attn_norm.weight": (E,),
        "ffn_up.weight": (F, E),
        "ffn_down.weight": (E, F),
    }
    return model_of("nemotron_h", hparams, [state, attention_of(4, 2), forward, state])


def _minimax() -> Recipe:
    """Linear attention, but for one layer in eight; here the file says two."""
    linear: Shapes = {
        "attn_norm.weight": (E,),
        "attn_norm_2.weight": (128,),
        "attn_qkv.weight": (3 * 128, E),
        "attn_gate.weight": (128, E),
        "attn_output.weight": (E, 128),
    }
    experts = EXPERTS | {
        "ffn_norm.weight": (E,),
        "ffn_gate_exps.weight": (4, F, E),
        "ffn_up_exps.weight": (4, F, E),
        "ffn_down_exps.weight": (4, E, F),
    }
    hparams = hparams_of(
        4,
        4,
        2,
        residual_scale=1.0,
        full_attention_interval=2,
        rope__dimension_count=32,
        expert_count=4,
        expert_used_count=2,
    )
    layers = [linear, attention_of(4, 2)] * 2
    return model_of("minimax-01", hparams, [layer | experts for layer in layers])


def _rwkv7() -> Recipe:
    """No attention, and a state of 32 numbers for each number of the embedding."""
    rank, mixed = 16, ("w", "a", "v")
    layer: Shapes = {}
    for name in ("attn_norm", "attn_norm_2", "time_mix_ln"):
        layer |= {f"{name}.weight": (E,), f"{name}.bias": (E,)}
    for letter in mixed:
        layer |= {
            f"time_mix_{letter}0.weight": (E,),
            f"time_mix_{letter}1.weight": (rank, E),
            f"time_mix_{letter}2.weight": (E, rank),
        }
    layer |= {"time_mix_g1.weight": (rank, E), "time_mix_g2.weight": (E, rank)}
    layer |= {"time_mix_lerp_fused.weight": (6, 1, 1, E)}
    layer |= {f"time_mix_{part}.weight": (E,) for part in ("k_k", "k_a", "r_k")}
    matrices = ("key", "value", "receptance", "output")
    layer |= {f"time_mix_{part}.weight": (E, E) for part in matrices}
    layer |= {
        "channel_mix_lerp_k.weight": (1, 1, E),
        "channel_mix_key.weight": (F, E),
        "channel_mix_value.weight": (E, F),
    }
    ranks = ("decay", "iclr", "value_residual_mix", "gate")
    hparams = hparams_of(2, 0, 0, None, wkv__head_size=32)
    hparams |= {f"attention.{name}_lora_rank": rank for name in ranks}
    hparams |= {"attention.layer_norm_epsilon": 1e-5}
    recipe = model_of("rwkv7", hparams, [layer] * 2)
    for name in ("token_embd_norm", "output_norm"):
        recipe.shapes |= {f"{name}.weight": (E,), f"{name}.bias": (E,)}
    return recipe


def _kimi_linear() -> Recipe:
    """Delta attention with a state; the second layer has MLA."""
    latent, rotated, rest, value, size = 64, 32, 32, 32, 32
    forward: Shapes = {**DENSE}
    delta: Shapes = {f"ssm_conv1d_{part}.weight": (4 * size, 1, 4) for part in "qkv"}
    delta |= {f"attn_{part}.weight": (4 * size, E) for part in "qkv"}
    delta |= {
        "attn_norm.weight": (E,),
        "ssm_f_a.weight": (size, E),
        "ssm_f_b.weight": (4 * size, size),
        "ssm_beta.weight": (4, E),
        "ssm_a": (4, 1),
        "ssm_dt.bias": (4 * size,),
        "ssm_g_a.weight": (size, E),
        "ssm_g_b.weight": (4 * size, size),
        "ssm_norm.weight": (size,),
        "attn_output.weight": (E, 4 * size),
    }
    folded: Shapes = {
        "attn_norm.weight": (E,),
        "attn_q.weight": (4 * (rest + rotated), E),
        "attn_kv_a_mqa.weight": (latent + rotated, E),
        "attn_kv_a_norm.weight": (latent,),
        "attn_k_b.weight": (4, latent, rest),
        "attn_v_b.weight": (4, value, latent),
        "attn_output.weight": (E, 4 * value),
    }
    hparams = hparams_of(
        3,
        4,
        [0, 1, 0],
        None,
        attention__key_length=latent + rotated,
        attention__value_length=latent,
        attention__key_length_mla=rest + rotated,
        attention__value_length_mla=value,
        attention__kv_lora_rank=latent,
        rope__dimension_count=rotated,
        leading_dense_block_count=3,
        ssm__conv_kernel=4,
        kda__head_dim=size,
        **experts_of(expert_shared_count=1, expert_gating_func=2),
    )
    return model_of("kimi-linear", hparams, [layer | forward for layer in (delta, folded, delta)])


RECURRENT: dict[str, Callable[[], Recipe]] = {
    "mamba": _mamba,
    "mamba2": _mamba2,
    "falcon-h1": _falcon_h1,
    "nemotron_h": _nemotron_h,
    "minimax-01": _minimax,
    "jamba": _jamba,
    "qwen3next": _qwen3next,
    "lfm2": _lfm2,
    "rwkv7": _rwkv7,
    "kimi-linear": _kimi_linear,
}
"""Every kind that keeps a state, by name."""
