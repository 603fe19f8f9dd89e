"""Slices of models: every tensor of a real architecture, all layers, but a few rows of each.

A quantizer works row by row and chooses types by names, layers and row lengths, so a slice makes
it do all that it does for the whole model, in a thousandth of the bytes. The rows are as long as
K-quants want them (256), and in some slices not.

The weights come from SHAKE-128 of the tensor's name: the same on every machine, for ever. Each
tensor has a row of zeros, one of a single value, one with an outlier and one of tiny numbers.
The golden data in ``golden/quantize`` belongs to these very bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.models.makers import Shapes, add_pair

E, ROWS, VOCAB = 256, 6, 8


@dataclass(frozen=True)
class Slice:
    """Architecture, metadata without its prefix, shapes, and the type of what is not 1-D."""

    architecture: str
    hparams: dict[str, Any]
    shapes: Shapes
    type: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F16
    metadata: tuple[tuple[str, Any], ...] = ()


def weights(name: str, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Numbers within +-0.5, about normal, 18 bits each: the sum of four 16-bit ones."""
    count = int(np.prod(shape))
    raw = hashlib.shake_128(name.encode()).digest(8 * count)
    total = np.frombuffer(raw, "<u2").reshape(count, 4).astype(np.int64).sum(axis=1)
    data: np.ndarray[Any, np.dtype[np.float32]] = ((total - 131_070) / 2**18).astype(np.float32)
    data = data.reshape(shape)
    if len(shape) >= 2:
        rows = data.reshape(-1, shape[-1])
        which = hashlib.sha256(name.encode()).digest()[0] % 4
        special = rows[which % len(rows)]
        if which == 0:
            special[:] = 0
        elif which == 1:
            special[:] = 0.125
        elif which == 2:
            special[shape[-1] // 3] = -24.0
        else:
            special /= 2**14  # partly below the smallest normal half
    return data


def write_slice(path: Path, kind: str, **options: int) -> Path:
    """Write the slice of a kind with the ``gguf`` package, which takes the options."""
    made = SLICES[kind]()
    writer = gguf.GGUFWriter(path, made.architecture, **options)
    for key, value in made.hparams.items():
        add_pair(writer, f"{made.architecture}.{key}", value)
    for key, value in made.metadata:
        add_pair(writer, key, value)
    for name, shape in made.shapes.items():
        data = weights(name, shape)
        narrow = len(shape) >= 2 and not name.endswith("_norm.weight")
        wanted = made.type if narrow else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(data, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def importance(kind: str, tensors: Shapes) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Give made-up sums of squares for every matrix: positive, one row an expert."""
    return {
        name: np.abs(weights(f"{kind} {name}", (shape[0] if len(shape) == 3 else 1, shape[-1])))
        + np.float32(2**-10)
        for name, shape in tensors.items()
        if len(shape) >= 2
    }


def write_importance(path: Path, kind: str) -> Path:
    """Write an importance matrix for a slice, as ``llama-imatrix`` would."""
    writer = gguf.GGUFWriter(path, "")
    writer.kv_data[0].clear()
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", ["made-up.txt"])
    writer.add_uint32("imatrix.chunk_count", 2)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, sums in importance(kind, SLICES[kind]().shapes).items():
        writer.add_tensor(f"{name}.in_sum2", sums)
        writer.add_tensor(f"{name}.counts", np.full((len(sums), 1), 4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _base(layers: int, heads: int, kv: int, row: int = E, **more: Any) -> dict[str, Any]:
    return {
        "block_count": layers,
        "context_length": 64,
        "embedding_length": row,
        "feed_forward_length": row,
        "attention.head_count": heads,
        "attention.head_count_kv": kv,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "attention.layer_norm_epsilon": 1e-5,
        "vocab_size": VOCAB,
        **more,
    }


def _ends(*, tied: bool = False, row: int = E) -> Shapes:
    ends: Shapes = {"token_embd.weight": (VOCAB, row), "output_norm.weight": (row,)}
    return ends if tied else ends | {"output.weight": (VOCAB, row)}


def _attention(row: int = E) -> Shapes:
    return {
        "attn_norm.weight": (row,),
        "attn_q.weight": (ROWS, row),
        "attn_k.weight": (ROWS - 2, row),
        "attn_v.weight": (ROWS - 2, row),
        "attn_output.weight": (ROWS, row),
    }


def _dense(row: int = E, inner: int = E) -> Shapes:
    return {
        "ffn_norm.weight": (row,),
        "ffn_gate.weight": (ROWS, row),
        "ffn_up.weight": (ROWS, row),
        "ffn_down.weight": (ROWS, inner),
    }


def _experts(count: int) -> Shapes:
    return {
        "ffn_norm.weight": (E,),
        "ffn_gate_inp.weight": (count, E),
        "ffn_gate_exps.weight": (count, 2, E),
        "ffn_up_exps.weight": (count, 2, E),
        "ffn_down_exps.weight": (count, 2, E),
    }


def _fused() -> Shapes:
    return {
        "attn_norm.weight": (E,),
        "attn_qkv.weight": (ROWS, E),
        "attn_output.weight": (ROWS, E),
    }


def _layers(count: int, layer: Shapes, first: int = 0) -> Shapes:
    return {f"blk.{n}.{name}": shape for n in range(first, count) for name, shape in layer.items()}


F32, BF16 = gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.BF16
_ROUTED = {"expert_used_count": 2, "expert_feed_forward_length": E}


def _llama(layers: int, heads: int, kv: int, **options: Any) -> Slice:
    tied = options.pop("tied", False)
    shapes = _ends(tied=tied) | _layers(layers, _attention() | _dense())
    return Slice("llama", _base(layers, heads, kv), shapes, **options)


def _ragged() -> Slice:
    """Rows of 288 divide into blocks of 32 alone; those of 272 (ffn_down) into none."""
    layer = _attention(288) | _dense(288, 272)
    shapes = _ends(row=288) | _layers(6, layer)
    return Slice("llama", _base(6, 4, 4, row=288), shapes, F32)


def _mixtral() -> Slice:
    shapes = _ends() | _layers(10, _attention() | _experts(8))
    return Slice("llama", _base(10, 8, 2, expert_count=8, **_ROUTED), shapes)


def _qwen2moe() -> Slice:
    layer: Shapes = _attention() | _experts(4)
    layer |= {f"attn_{what}.bias": (ROWS,) for what in "qkv"}
    layer |= {"ffn_gate_inp_shexp.weight": (E,)}
    layer |= {f"ffn_{what}_shexp.weight": (ROWS, E) for what in ("gate", "up", "down")}
    hparams = _base(8, 4, 4, expert_count=4, **_ROUTED)
    return Slice("qwen2moe", hparams, _ends() | _layers(8, layer), BF16)


def _qwen2() -> Slice:
    biases: Shapes = {f"attn_{what}.bias": (ROWS,) for what in "qkv"}
    shapes = _ends() | _layers(12, _attention() | biases | _dense())
    return Slice("qwen2", _base(12, 14, 2), shapes)


def _phi3() -> Slice:
    layer = _fused() | _dense()
    del layer["ffn_gate.weight"]
    factors: Shapes = {"rope_factors_long.weight": (16,), "rope_factors_short.weight": (16,)}
    return Slice("phi3", _base(8, 4, 4), _ends() | factors | _layers(8, layer))


def _gemma2() -> Slice:
    post: Shapes = {"post_attention_norm.weight": (E,), "post_ffw_norm.weight": (E,)}
    hparams = _base(10, 8, 4, **{"attention.sliding_window": 16})
    return Slice(
        "gemma2", hparams, _ends(tied=True) | _layers(10, _attention() | post | _dense()), F32
    )


def _gpt2() -> Slice:
    layer = _fused() | _dense()
    del layer["ffn_gate.weight"]
    biases = {f"{name.removesuffix('weight')}bias": (shape[0],) for name, shape in layer.items()}
    hparams = _base(8, 4, 4)
    del hparams["attention.head_count_kv"]
    shapes = _ends() | {"position_embd.weight": (64, E)} | _layers(8, layer | biases)
    return Slice("gpt2", hparams, shapes)


def _falcon() -> Slice:
    layer = _fused() | {"ffn_up.weight": (ROWS, E), "ffn_down.weight": (ROWS, E)}
    return Slice("falcon", _base(16, 4, 1), _ends() | _layers(16, layer))


def _deepseek2() -> Slice:
    """MLA, unfolded; the first layer without experts, shared experts, a layer left over."""
    attention: Shapes = {
        "attn_norm.weight": (E,),
        "attn_q_a.weight": (ROWS, E),
        "attn_q_a_norm.weight": (ROWS,),
        "attn_q_b.weight": (ROWS, E),
        "attn_kv_a_mqa.weight": (ROWS, E),
        "attn_kv_a_norm.weight": (ROWS,),
        "attn_kv_b.weight": (ROWS, E),
        "attn_k_b.weight": (2, 2, 128),
        "attn_v_b.weight": (2, 2, E),
        "attn_output.weight": (ROWS, E),
    }
    shared: Shapes = {f"ffn_{what}_shexp.weight": (2, E) for what in ("gate", "up", "down")}
    routed = attention | _experts(6) | shared | {"exp_probs_b.bias": (6,)}
    lora = {"attention.q_lora_rank": E, "attention.kv_lora_rank": E}
    hparams = _base(9, 4, 1, expert_count=6, expert_shared_count=1, **_ROUTED, **lora)
    shapes = _ends() | _layers(1, attention | _dense()) | _layers(9, routed, 1)
    return Slice("deepseek2", hparams | {"leading_dense_block_count": 1}, shapes, F32)


def _gemma3n() -> Slice:
    """Small matrices that stay as they are, and a table for each layer."""
    more: Shapes = {
        "altup_correct_coef.weight": (4, 4),
        "laurel_l.weight": (ROWS, E),
        "inp_gate.weight": (ROWS, E),
        "proj.weight": (ROWS, E),
    }
    ends: Shapes = {
        "per_layer_token_embd.weight": (VOCAB, E),
        "per_layer_model_proj.weight": (ROWS, E),
        "altup_proj.weight": (2, ROWS, E),
    }
    hparams = _base(8, 8, 2, **{"attention.sliding_window": 16})
    layers = _layers(8, _attention() | _dense() | more)
    return Slice("gemma3n", hparams, _ends(tied=True) | ends | layers)


def _jamba() -> Slice:
    """Attention in every fourth layer; no key/value heads in the first, which GQA goes by."""
    state: Shapes = {
        "attn_norm.weight": (E,),
        "ssm_in.weight": (ROWS, E),
        "ssm_conv1d.weight": (ROWS, 4),
        "ssm_conv1d.bias": (ROWS,),
        "ssm_x.weight": (ROWS, E),
        "ssm_a": (ROWS, 16),
        "ssm_out.weight": (ROWS, E),
    }
    shapes = _ends()
    for n in range(8):
        shapes |= _layers(n + 1, (_attention() if n % 4 == 2 else state) | _dense(), n)
    hparams = _base(8, 8, 2)
    hparams["attention.head_count_kv"] = [2 if n % 4 == 2 else 0 for n in range(8)]
    ssm = {"conv_kernel": 4, "inner_size": E, "state_size": 16, "time_step_rank": 8}
    return Slice("jamba", hparams | {f"ssm.{key}": n for key, n in ssm.items()}, shapes)


def _t5() -> Slice:
    """Layers whose names do not begin with blk: sorted as words, 10 before 2."""
    shapes = _ends()
    for half in ("enc", "dec"):
        shapes |= {
            f"{half}.blk.{n}.{name}": shape
            for n in range(11)
            for name, shape in (_attention() | _dense()).items()
        }
        shapes |= {f"{half}.blk.0.attn_rel_b.weight": (32, 4), f"{half}.output_norm.weight": (E,)}
    return Slice("t5", _base(11, 4, 4, **{"attention.relative_buckets_count": 32}), shapes)


def _odd() -> Slice:
    """Names and shapes that stay as they are, or only look as if they would."""
    parts = ["first", "decay_w1", "decay_w2", "lerp_fused", "g1", "g2"]
    parts += [f"{letter}{number}" for letter in "wva" for number in "012"]
    kept = [
        *(f"blk.0.time_mix_{part}.weight" for part in parts),
        *(f"blk.0.{part}.weight" for part in ("ffn_gate_inp", "ffn_gate_tid2eid", "ssm_conv1d")),
        *(f"blk.0.{part}.weight" for part in ("altup_router", "laurel_r", "shortconv.conv")),
        *(f"blk.0.indexer.{part}_proj.weight" for part in "kq"),
        *(f"blk.0.{part}.weight" for part in ("attn_rel_b", "attn_q_norm", "attn_sub_norm")),
        *("position_embd.weight", "token_types.weight", "per_layer_model_proj.weight"),
        *("v.position_embd.weight", "sam.pos_embd.weight", "sam.neck.0.weight", "sam.net_2.weight"),
        *("v.blk.0.attn.rel_pos_h.weight", "v.patch_embd.weight", "mm.patch_merger.weight"),
        *("a.rvq.codebook.weight", "mm.a.code_embd.weight", "blk.0.attn_q.bias", "blk.0.weight_a"),
    ]
    made = [
        *(f"blk.0.{part}.weight" for part in ("time_mix_key", "ssm_in", "ffn_gate_inp_shexp")),
        *(f"blk.1.{part}.weight" for part in ("indexer.attn_q_b", "hc_attn_fn", "attn_q_a")),
        *("patch_embd.weight", "output_norm_2.weight", "weight", "query", "querys"),
        *("enc.output.weight", "cls.output.weight", "v.blk.0.attn_v.weight", "blk.1.x.weight"),
        *("blk.10.attn_v.weight", "blk.2.attn_v.weight", "blk.02.attn_v.weight"),
        *("blk.3.ffn_up_gate.weight", "blk.3.ffn_gate_up_exps.weight", "blk.3.ffn_down.weight"),
    ]
    shapes: Shapes = dict.fromkeys(kept + made, (2, E))
    shapes |= {"blk.0.one.weight": (1, E), "blk.0.stack.weight": (2, 1, E)}
    shapes |= {"blk.0.flat.weight": (1, 1, E), "blk.0.thin.weight": (1, 2, E)}
    return Slice("llama", _base(4, 4, 4), _ends() | shapes)


def _clip() -> Slice:
    """An image encoder, of which llama.cpp reads no metadata, not even its layers."""
    names = ("attn_v", "attn_q", "attn_out", "ffn_down", "ffn_up")
    shapes: Shapes = {f"v.blk.{n}.{name}.weight": (4, E) for n in range(4) for name in names}
    return Slice("clip", {}, shapes | {"v.patch_embd.weight": (4, E), "mm.0.weight": (4, E)})


_MLA = {
    "attention.q_lora_rank": E,
    "attention.kv_lora_rank": E,
    "attention.key_length_mla": 64,
    "attention.value_length_mla": 64,
}


def _glm5_next() -> Slice:
    """Keeps more than others, and makes some Q8_0 whatever is asked."""
    names = [f"attn_{part}" for part in ("q_a", "q_b", "kv_a_mqa", "k_b", "v_b", "output")]
    names += ["hc_attn_fn", "indexer.attn_q_b", "indexer.attn_k", "indexer.proj"]
    names += ["indexer_compressor_gate", "indexer_compressor_ape", "ssm_beta"]
    names += ["ssm_f_a", "ssm_f_b", "ssm_g_a", "ssm_g_b", "nextn.eh_proj", "ssm_q"]
    layer: Shapes = {f"{name}.weight": (2, E) for name in names}
    indexer = {"head_count": 4, "key_length": 64, "top_k": 8, "kpool": 2}
    hyper = {"count": 4, "sinkhorn_iterations": 2, "epsilon": 1e-6}
    hparams = _base(3, 4, 1, expert_count=6, expert_shared_count=1, **_ROUTED, **_MLA)
    hparams |= {"ssm.conv_kernel": 4, "kda.head_dim": 64}
    hparams |= {f"attention.indexer.{key}": value for key, value in indexer.items()}
    hparams |= {f"hyper_connection.{key}": value for key, value in hyper.items()}
    return Slice("glm5-next", hparams, _ends() | _layers(3, layer | _experts(6)))


def _bailingmoe3() -> Slice:
    """Attention that is stacked as experts are; more experts than eight."""
    layer: Shapes = {
        "attn_v.weight": (2, E),
        "attn_k.weight": (2, E),
        "attn_output.weight": (2, E),
        "attn_k_b.weight": (2, 2, E),
        "ffn_gate_exps.weight": (16, 1, E),
        "ffn_up_exps.weight": (16, 1, E),
        "ffn_down_exps.weight": (16, 1, E),
    }
    hparams = _base(8, 4, 4, expert_count=16, expert_shared_count=1, **_ROUTED, **_MLA)
    hparams |= {"ssm.conv_kernel": 4, "kda.head_dim": 64, "kda.safe_gate": True}
    hparams |= {"kda.gate_lower_bound": -5.0, "leading_dense_block_count": 0}
    shapes = _ends() | _layers(8, layer)
    return Slice("bailingmoe3", hparams | {"expert_gating_func": 2}, shapes)


SLICES: dict[str, Callable[[], Slice]] = {
    "llama-mha": lambda: _llama(10, 4, 4),
    "llama-gqa": lambda: _llama(16, 8, 2, type=F32),
    "llama-tied": lambda: _llama(9, 4, 2, tied=True, type=BF16),
    "llama-ragged": _ragged,
    "mixtral": _mixtral,
    "qwen2moe": _qwen2moe,
    "qwen2": _qwen2,
    "phi3": _phi3,
    "gemma2": _gemma2,
    "gpt2": _gpt2,
    "falcon": _falcon,
    "deepseek2": _deepseek2,
    "gemma3n": _gemma3n,
    "jamba": _jamba,
    "t5": _t5,
    "glm5-next": _glm5_next,
    "bailingmoe3": _bailingmoe3,
    "odd": _odd,
    "clip": _clip,
}
"""Every slice, by name."""
