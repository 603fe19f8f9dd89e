"""Small seeded models of each kind of memory, large enough that one byte a token would show.

Beside `makers.RECIPES`, whose models are only read: these are loaded by real llama.cpp, so they
have every tensor that their architecture asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.makers import Recipe, Shapes, write_recipe

E, F, V = 128, 192, 64
"""Embedding, feed-forward, vocabulary."""
NO_TOKENIZER = {"tokenizer.ggml.model": "none"}

_DENSE: Shapes = {
    "ffn_norm.weight": (E,),
    "ffn_gate.weight": (F, E),
    "ffn_up.weight": (F, E),
    "ffn_down.weight": (E, F),
}
_EXPERTS: Shapes = {
    "ffn_gate_inp.weight": (4, E),
    "ffn_gate_exps.weight": (4, 32, E),
    "ffn_up_exps.weight": (4, 32, E),
    "ffn_down_exps.weight": (4, E, 32),
}


def _hparams(layers: int, heads: Any, kv: Any, size: int | None = 32, **more: Any) -> Any:
    own = {"attention.key_length": size, "attention.value_length": size} if size else {}
    return {
        "block_count": layers,
        "context_length": 65536,
        "embedding_length": E,
        "feed_forward_length": F,
        "attention.head_count": heads,
        "attention.head_count_kv": kv,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "vocab_size": V,
        **own,
        **{key.replace("__", "."): value for key, value in more.items()},
    }


def _experts(**more: Any) -> dict[str, Any]:
    return {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 32, **more}


def _attention(heads: int, kv: int, size: int = 32, values: int | None = None) -> Shapes:
    values = values or size
    return {
        "attn_norm.weight": (E,),
        "attn_q.weight": (heads * size, E),
        "attn_k.weight": (kv * size, E),
        "attn_v.weight": (kv * values, E),
        "attn_output.weight": (E, heads * values),
    }


def _model(
    architecture: str, hparams: dict[str, Any], layers: list[Shapes], *, tied: bool = False
) -> Recipe:
    shapes: Shapes = {"token_embd.weight": (V, E), "output_norm.weight": (E,)}
    shapes |= {} if tied else {"output.weight": (V, E)}
    for number, layer in enumerate(layers):
        shapes |= {f"blk.{number}.{name}": shape for name, shape in layer.items()}
    return Recipe(architecture, hparams, shapes, dict(NO_TOKENIZER))


def _llama(kv: int) -> Recipe:
    hparams = _hparams(3, 4, kv, rope__dimension_count=32)
    return _model("llama", hparams, [_attention(4, kv) | _DENSE] * 3)


def _uneven() -> Recipe:
    """A different number of key/value heads in each layer, and a layer without attention."""
    hparams = _hparams(4, [4, 4, 4, 0], [4, 2, 1, 0], rope__dimension_count=32)
    return _model("deci", hparams, [*[_attention(4, kv) | _DENSE for kv in (4, 2, 1)], _DENSE])


def _gemma(architecture: str, layers: int, window: int, **more: Any) -> Recipe:
    post: Shapes = {"post_attention_norm.weight": (E,), "post_ffw_norm.weight": (E,)}
    if architecture == "gemma3":
        post |= {"attn_q_norm.weight": (32,), "attn_k_norm.weight": (32,)}
    hparams = _hparams(layers, 4, 2, attention__sliding_window=window, **more)
    return _model(architecture, hparams, [_attention(4, 2) | post | _DENSE] * layers, tied=True)


def _gemma3n() -> Recipe:
    """The first 20 layers keep keys and values, the rest use theirs."""
    layers, altup, per_layer, rank = 22, 4, 16, 64
    layer = _attention(4, 2) | _DENSE
    layer |= {
        "attn_q_norm.weight": (32,),
        "attn_k_norm.weight": (32,),
        "post_attention_norm.weight": (E,),
        "post_ffw_norm.weight": (E,),
        "inp_gate.weight": (per_layer, E),
        "proj.weight": (E, per_layer),
        "post_norm.weight": (E,),
        "altup_correct_coef.weight": (altup, altup),
        "altup_correct_scale.weight": (E,),
        "altup_predict_coef.weight": (altup * altup, altup),
        "altup_router.weight": (altup, E),
        "altup_router_norm.weight": (E,),
        "laurel_l.weight": (rank, E),
        "laurel_r.weight": (E, rank),
        "laurel_post_norm.weight": (E,),
    }
    recipe = _model(
        "gemma3n", _hparams(layers, 4, 2, attention__sliding_window=1024), [layer] * layers
    )
    recipe.shapes |= {
        "altup_proj.weight": (altup - 1, E, E),
        "altup_unembd_proj.weight": (altup - 1, E, E),
        "per_layer_token_embd.weight": (V, 256 * layers),
        "per_layer_model_proj.weight": (256 * layers, E),
        "per_layer_proj_norm.weight": (256,),
    }
    for number in range(layers):
        recipe.shapes[f"blk.{number}.inp_gate.weight"] = (256, E)
        recipe.shapes[f"blk.{number}.proj.weight"] = (E, 256)
    return recipe


def _gpt_oss() -> Recipe:
    layer = _attention(4, 2) | _EXPERTS
    layer |= {
        "post_attention_norm.weight": (E,),
        "attn_sinks.weight": (4,),
        "attn_q.bias": (128,),
        "attn_k.bias": (64,),
        "attn_v.bias": (64,),
        "attn_output.bias": (E,),
        "ffn_gate_inp.bias": (4,),
        "ffn_gate_exps.bias": (4, 32),
        "ffn_up_exps.bias": (4, 32),
        "ffn_down_exps.bias": (4, E),
    }
    hparams = _hparams(4, 4, 2, attention__sliding_window=128, **_experts())
    return _model("gpt-oss", hparams, [layer] * 4)


def _deepseek2(*, folded: bool) -> Recipe:
    """MLA: a latent of 64 and 32 rotated numbers for all 4 heads; or unfolded, 4 wide keys."""
    latent, rotated, rest, value, queries = 64, 32, 32, 32, 48
    layer: Shapes = {
        "attn_norm.weight": (E,),
        "attn_q_a.weight": (queries, E),
        "attn_q_a_norm.weight": (queries,),
        "attn_q_b.weight": (4 * (rest + rotated), queries),
        "attn_kv_a_mqa.weight": (latent + rotated, E),
        "attn_kv_a_norm.weight": (latent,),
        "attn_output.weight": (E, 4 * value),
    }
    if folded:
        layer |= {"attn_k_b.weight": (4, latent, rest), "attn_v_b.weight": (4, value, latent)}
    else:
        layer |= {"attn_kv_b.weight": (4 * (rest + value), latent)}
    shared: Shapes = {
        "ffn_norm.weight": (E,),
        "ffn_gate_shexp.weight": (32, E),
        "ffn_up_shexp.weight": (32, E),
        "ffn_down_shexp.weight": (E, 32),
        "exp_probs_b.bias": (4,),
    }
    sizes = {
        "attention.key_length": latent + rotated if folded else rest + rotated,
        "attention.value_length": latent if folded else value,
    }
    if folded:
        sizes |= {
            "attention.key_length_mla": rest + rotated,
            "attention.value_length_mla": value,
        }
    hparams = sizes | _hparams(
        3,
        4,
        1 if folded else 4,
        None,
        attention__q_lora_rank=queries,
        attention__kv_lora_rank=latent,
        rope__dimension_count=rotated,
        leading_dense_block_count=1,
        **_experts(expert_shared_count=1, expert_gating_func=2),
    )
    return _model(
        "deepseek2", hparams, [layer | _DENSE, *[layer | shared | _EXPERTS for _ in range(2)]]
    )


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
    hparams = _hparams(2, 0, 0, None, **_ssm(2 * E, 64, 8, 4))
    return _model("mamba", hparams, [_mamba_layer(64, 8)] * 2)


def _jamba() -> Recipe:
    """Attention in layer 1 alone; its file says groups, which llama.cpp does not read of it."""
    norms: Shapes = {
        "ssm_dt_norm.weight": (8,),
        "ssm_b_norm.weight": (64,),
        "ssm_c_norm.weight": (64,),
    }
    recurrent = _mamba_layer(64, 8) | norms | _DENSE
    hparams = _hparams(3, 4, [0, 2, 0], **_ssm(2 * E, 64, 8, 4), ssm__group_count=5)
    return _model("jamba", hparams, [recurrent, _attention(4, 2) | _DENSE, recurrent])


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
    attending = _attention(4, 2) | {
        "attn_q.weight": (2 * 128, E),
        "attn_q_norm.weight": (32,),
        "attn_k_norm.weight": (32,),
    }
    hparams = _hparams(
        4,
        4,
        2,
        **_ssm(valued, state, values, conv),
        ssm__group_count=groups,
        rope__dimension_count=32,
        **_experts(expert_shared_feed_forward_length=32),
    )
    layers = [recurrent, recurrent, recurrent, attending]
    return _model("qwen3next", hparams, [layer | shared | _EXPERTS for layer in layers])


def _lfm2() -> Recipe:
    """A short convolution in all layers but one."""
    norms: Shapes = {"attn_q_norm.weight": (32,), "attn_k_norm.weight": (32,)}
    convolution: Shapes = {
        "attn_norm.weight": (E,),
        "shortconv.conv.weight": (E, 3),
        "shortconv.in_proj.weight": (3 * E, E),
        "shortconv.out_proj.weight": (E, E),
    }
    hparams = _hparams(3, 4, [0, 2, 0], shortconv__l_cache=3)
    layers = [convolution, _attention(4, 2) | norms, convolution]
    recipe = _model("lfm2", hparams, [layer | _DENSE for layer in layers], tied=True)
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
    hparams = _hparams(2, 0, 0, None, **_ssm(2 * E, 64, 4, 4), ssm__group_count=2)
    return _model("mamba2", hparams, [_mamba2_layer(2 * E, 64, 4, 2)] * 2)


def _falcon_h1() -> Recipe:
    """Attention and a state in every layer."""
    layer = _mamba2_layer(2 * E, 64, 4, 2) | _attention(4, 2) | _DENSE
    layer = {name.replace("ffn_norm.weight", "ffn_norm"): shape for name, shape in layer.items()}
    hparams = _hparams(2, 4, 2, **_ssm(2 * E, 64, 4, 4), ssm__group_count=2)
    return _model("falcon-h1", hparams, [layer] * 2)


def _nemotron_h() -> Recipe:
    """A layer has a state, or attention, or a feed-forward."""
    hparams = _hparams(4, 4, [0, 2, 0, 0], **_ssm(2 * E, 64, 4, 4), ssm__group_count=2)
    hparams |= {"feed_forward_length": [0, 0, F, 0], "attention.layer_norm_epsilon": 1e-5}
    state = _mamba2_layer(2 * E, 64, 4, 2)
    forward: Shapes = {
        "attn_norm.weight": (E,),
        "ffn_up.weight": (F, E),
        "ffn_down.weight": (E, F),
    }
    return _model("nemotron_h", hparams, [state, _attention(4, 2), forward, state])


def _minimax() -> Recipe:
    """Linear attention, but for one layer in eight; here the file says two."""
    linear: Shapes = {
        "attn_norm.weight": (E,),
        "attn_norm_2.weight": (128,),
        "attn_qkv.weight": (3 * 128, E),
        "attn_gate.weight": (128, E),
        "attn_output.weight": (E, 128),
    }
    experts = _EXPERTS | {
        "ffn_norm.weight": (E,),
        "ffn_gate_exps.weight": (4, F, E),
        "ffn_up_exps.weight": (4, F, E),
        "ffn_down_exps.weight": (4, E, F),
    }
    hparams = _hparams(
        4,
        4,
        2,
        residual_scale=1.0,
        full_attention_interval=2,
        rope__dimension_count=32,
        expert_count=4,
        expert_used_count=2,
    )
    layers = [linear, _attention(4, 2)] * 2
    return _model("minimax-01", hparams, [layer | experts for layer in layers])


def _gemma4() -> Recipe:
    """The last two layers share; heads are larger in the layers that see everything."""
    windowed = [True, True, True, False, True, False]

    def layer(size: int) -> Shapes:
        return (
            _attention(4, 2, size)
            | _DENSE
            | {
                "attn_q_norm.weight": (size,),
                "attn_k_norm.weight": (size,),
                "post_attention_norm.weight": (E,),
                "post_ffw_norm.weight": (E,),
            }
        )

    hparams = _hparams(
        6,
        4,
        2,
        64,
        attention__key_length_swa=32,
        attention__value_length_swa=32,
        attention__sliding_window=1024,
        attention__sliding_window_pattern=windowed,
        attention__shared_kv_layers=2,
        embedding_length_per_layer_input=0,
        rope__dimension_count=64,
        rope__dimension_count_swa=32,
    )
    recipe = _model("gemma4", hparams, [layer(32 if w else 64) for w in windowed], tied=True)
    recipe.shapes["rope_freqs.weight"] = (32,)
    return recipe


def _ahead() -> Recipe:
    """Its metadata counts a layer that predicts further tokens, which is not in the file."""
    recipe = _deepseek2(folded=True)
    recipe.hparams |= {"block_count": 4, "nextn_predict_layers": 1}
    return recipe


KINDS: dict[str, Callable[[], Recipe]] = {
    "llama-mha": lambda: _llama(4),
    "llama-gqa": lambda: _llama(2),
    "llama-mqa": lambda: _llama(1),
    "uneven": _uneven,
    "gemma2": lambda: _gemma("gemma2", 5, 4096),
    "gemma3": lambda: _gemma("gemma3", 8, 1024),
    "gemma3 by a pattern": lambda: _gemma(
        "gemma3", 4, 512, attention__sliding_window_pattern=[True, False, False, True]
    ),
    "gemma3 by a period": lambda: _gemma("gemma3", 5, 700, attention__sliding_window_pattern=3),
    "gemma3n": _gemma3n,
    "gpt-oss": _gpt_oss,
    "deepseek2": lambda: _deepseek2(folded=True),
    "deepseek2 unfolded": lambda: _deepseek2(folded=False),
    "deepseek2 with a layer ahead": _ahead,
    "gemma4": _gemma4,
    "mamba": _mamba,
    "mamba2": _mamba2,
    "falcon-h1": _falcon_h1,
    "nemotron_h": _nemotron_h,
    "minimax-01": _minimax,
    "jamba": _jamba,
    "qwen3next": _qwen3next,
    "lfm2": _lfm2,
}
"""Every kind, by name."""


def write_kind(path: Path, kind: str) -> Path:
    """Write the seeded model of a kind."""
    return write_recipe(path, KINDS[kind]())
