"""Small seeded models of each kind of memory, large enough that one byte a token would show.

Beside `makers.RECIPES`, whose models are only read: these are loaded by real llama.cpp, so they
have every tensor that their architecture asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.models.kinds_parts import (
    DENSE,
    EXPERTS,
    E,
    V,
    attention_of,
    experts_of,
    hparams_of,
    model_of,
)
from tests.models.kinds_recurrent import RECURRENT
from tests.models.makers import Recipe, Shapes, write_recipe


def _llama(kv: int) -> Recipe:
    hparams = hparams_of(3, 4, kv, rope__dimension_count=32)
    return model_of("llama", hparams, [attention_of(4, kv) | DENSE] * 3)


def _uneven() -> Recipe:
    """A different number of key/value heads in each layer, and a layer without attention."""
    hparams = hparams_of(4, [4, 4, 4, 0], [4, 2, 1, 0], rope__dimension_count=32)
    return model_of("deci", hparams, [*[attention_of(4, kv) | DENSE for kv in (4, 2, 1)], DENSE])


def _gemma(architecture: str, layers: int, window: int, **more: Any) -> Recipe:
    post: Shapes = {"post_attention_norm.weight": (E,), "post_ffw_norm.weight": (E,)}
    if architecture == "gemma3":
        post |= {"attn_q_norm.weight": (32,), "attn_k_norm.weight": (32,)}
    hparams = hparams_of(layers, 4, 2, attention__sliding_window=window, **more)
    return model_of(architecture, hparams, [attention_of(4, 2) | post | DENSE] * layers, tied=True)


def _gemma3n() -> Recipe:
    """The first 20 layers keep keys and values, the rest use theirs."""
    layers, altup, per_layer, rank = 22, 4, 16, 64
    layer = attention_of(4, 2) | DENSE
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
    recipe = model_of(
        "gemma3n", hparams_of(layers, 4, 2, attention__sliding_window=1024), [layer] * layers
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
    layer = attention_of(4, 2) | EXPERTS
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
    hparams = hparams_of(4, 4, 2, attention__sliding_window=128, **experts_of())
    return model_of("gpt-oss", hparams, [layer] * 4)


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
    hparams = sizes | hparams_of(
        3,
        4,
        1 if folded else 4,
        None,
        attention__q_lora_rank=queries,
        attention__kv_lora_rank=latent,
        rope__dimension_count=rotated,
        leading_dense_block_count=1,
        **experts_of(expert_shared_count=1, expert_gating_func=2),
    )
    return model_of(
        "deepseek2", hparams, [layer | DENSE, *[layer | shared | EXPERTS for _ in range(2)]]
    )


def _gemma4() -> Recipe:
    """The last two layers share; heads are larger in the layers that see everything."""
    windowed = [True, True, True, False, True, False]

    def layer(size: int) -> Shapes:
        return (
            attention_of(4, 2, size)
            | DENSE
            | {
                "attn_q_norm.weight": (size,),
                "attn_k_norm.weight": (size,),
                "post_attention_norm.weight": (E,),
                "post_ffw_norm.weight": (E,),
            }
        )

    hparams = hparams_of(
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
    recipe = model_of("gemma4", hparams, [layer(32 if w else 64) for w in windowed], tied=True)
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
    **RECURRENT,
}
"""Every kind, by name."""


def write_kind(path: Path, kind: str) -> Path:
    """Write the seeded model of a kind."""
    return write_recipe(path, KINDS[kind]())
