"""What cannot be run is said before any long work: one clear error each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ggufscope.errors import (
    EmptyPrompt,
    GGUFScopeError,
    HyperparameterError,
    NotInModel,
    NotRunnable,
    TokenUnknown,
    TooManyTokens,
)
from ggufscope.forward.cache import KVCache
from ggufscope.forward.trace import Trace
from ggufscope.forward.transformer import Transformer
from tests.forward.arrays import ArrayMatrix, Arrays, Floats
from tests.models.families import IDS, SMALL, Tensors, V


class Unread(Arrays):
    """Weights that nobody may read."""

    def matrix(self, name: str) -> ArrayMatrix:
        raise AssertionError(f"{name} was read")

    def vector(self, name: str) -> Floats:
        raise AssertionError(f"{name} was read")


def made(
    name: str, change: Callable[[Tensors], object] = lambda _: None, **keys: Any
) -> Transformer:
    small = SMALL[name]
    tensors = small.tensors()
    change(tensors)
    metadata = small.metadata
    for key, value in keys.items():
        full = f"{small.architecture}.{key.replace('__', '.')}"
        if value is None:
            metadata.pop(full)
        else:
            metadata[full] = value
    return Transformer(metadata, Unread(tensors))


@pytest.mark.parametrize("name", [name for name in SMALL if name not in {"llama-3", "phi3-long"}])
def test_a_model_is_checked_without_reading_a_weight(name: str) -> None:
    model = made(name)
    model.require_runnable(IDS)
    assert (model.n_vocab, model.n_context, model.n_layers) == (V, 64, 7 if name == "gemma3" else 3)


def test_an_architecture_without_a_pass_says_which_have_one() -> None:
    metadata = SMALL["llama-mha"].metadata | {"general.architecture": "falcon"}
    metadata |= {k.replace("llama", "falcon"): v for k, v in metadata.items()}
    with pytest.raises(NotRunnable, match="'falcon'") as caught:
        Transformer(metadata, Unread({}))
    assert "llama, qwen2, qwen3" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("llama-gqa", "token_embd.weight"),
        ("llama-gqa", "output_norm.weight"),
        ("llama-gqa", "blk.2.attn_v.weight"),
        ("llama-gqa", "blk.1.ffn_gate.weight"),
        ("mixtral", "blk.1.ffn_down_exps.weight"),
        ("qwen3", "blk.0.attn_k_norm.weight"),
        ("gemma2", "blk.0.post_ffw_norm.weight"),
        ("gpt2", "position_embd.weight"),
        ("gpt2", "blk.0.attn_qkv.weight"),
    ],
)
def test_a_missing_tensor_is_named(name: str, missing: str) -> None:
    with pytest.raises(NotInModel, match=r"tensor '.*' is missing") as caught:
        made(name, lambda tensors: tensors.pop(missing))
    stem = missing.removesuffix(".weight")
    assert stem.replace("attn_qkv", "attn_q").replace("_exps", "") in caught.value.message


@pytest.mark.parametrize(
    ("name", "tensor", "shape"),
    [
        ("llama-gqa", "token_embd.weight", (V, 31)),
        ("llama-gqa", "output.weight", (V + 1, 32)),
        ("llama-gqa", "blk.1.attn_k.weight", (64, 32)),
        ("llama-gqa", "blk.1.ffn_down.weight", (48, 32)),
        ("llama-biased", "blk.0.attn_q.bias", (4,)),
        ("phi3", "blk.2.ffn_up.weight", (48, 32)),
        ("qwen3", "blk.2.attn_q_norm.weight", (48,)),
        ("mixtral", "blk.0.ffn_up_exps.weight", (3, 24, 32)),
        ("qwen2moe", "blk.0.ffn_gate_inp_shexp.weight", (31,)),
        ("gpt2", "position_embd.weight", (64, 31)),
        ("llama-3", "rope_freqs.weight", (3,)),
        ("phi3-long", "rope_factors_short.weight", (4,)),
    ],
)
def test_a_tensor_of_another_shape_is_named(name: str, tensor: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(NotRunnable, match=f"'{tensor}' has shape"):
        made(name, lambda tensors: tensors.update({tensor: np.zeros(shape, np.float32)}))


@pytest.mark.parametrize(
    "tensor",
    [
        "blk.1.attn_sub_norm.weight",
        "blk.1.attn_q.scale",
        "blk.0.attn_q_norm.weight",
        "blk.0.attn_norm.bias",
        "output_norm.bias",
        "token_embd.bias",
        "token_embd_norm.weight",
        "position_embd.weight",
    ],
)
def test_a_tensor_that_a_pass_would_ignore_is_refused(tensor: str) -> None:
    with pytest.raises(NotRunnable, match=tensor.removesuffix(".weight")):
        made("llama-gqa", lambda tensors: tensors.update({tensor: np.ones(32, np.float32)}))


@pytest.mark.parametrize(
    ("name", "keys", "named"),
    [
        ("llama-mha", {"attention__layer_norm_rms_epsilon": None}, "layer_norm_rms_epsilon"),
        ("gpt2", {"attention__layer_norm_epsilon": None}, "layer_norm_epsilon"),
        ("llama-mha", {"attention__head_count": 3}, "3 heads and 4 key heads"),
        ("llama-mha", {"attention__head_count": 0}, "0 heads"),
        ("llama-mha", {"rope__dimension_count": 7}, "rope.dimension_count' is 7"),
        ("llama-mha", {"rope__dimension_count": 10}, "rope.dimension_count' is 10"),
        ("llama-mha", {"rope__scaling__type": "magic"}, "rope.scaling.type' is 'magic'"),
        ("mixtral", {"expert_used_count": 5}, "expert_used_count' is 5"),
        ("mixtral", {"expert_used_count": None}, "expert_used_count' is missing"),
        ("llama-mha", {"embedding_length": None}, "embedding_length"),
        ("llama-mha", {"attention__layer_norm_rms_epsilon": float("nan")}, "epsilon' is nan"),
        ("llama-mha", {"rope__freq_base": 0.0}, "rope.freq_base' is 0.0"),
        ("llama-mha", {"rope__freq_base": float("inf")}, "rope.freq_base' is inf"),
        ("llama-linear", {"rope__scaling__factor": -2.0}, "rope.scaling.factor' is -2.0"),
        ("gemma2", {"final_logit_softcapping": float("nan")}, "final_logit_softcapping' is nan"),
        ("llama-yarn", {"rope__scaling__original_context_length": 0}, "context_length' is 0"),
        ("llama-yarn", {"rope__freq_base": 1.0}, "rope.freq_base' is 1.0"),
    ],
)
def test_metadata_that_cannot_be_run_is_named(name: str, keys: dict[str, Any], named: str) -> None:
    with pytest.raises(HyperparameterError) as caught:
        made(name, **keys)
    assert named in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("ids", "error", "said"),
    [
        ([], EmptyPrompt, "empty"),
        ([3, -1], TokenUnknown, "token -1 at position 1"),
        ([3, 4, V], TokenUnknown, f"token {V} at position 2"),
        ([3] * 65, TooManyTokens, "65 tokens are more than the model's context of 64"),
    ],
)
@pytest.mark.parametrize("name", ["llama-mha", "gpt2"])
def test_a_text_that_cannot_be_run_is_refused_before_a_weight_is_read(
    ids: list[int], error: type[Exception], said: str, name: str
) -> None:
    model = made(name)
    for attempt in (model.require_runnable, model.run, model.embed):
        with pytest.raises(error, match=said):
            attempt(ids)


def test_what_a_cache_holds_counts_too() -> None:
    small = SMALL["llama-mha"]
    model = Transformer(small.metadata, Arrays(small.tensors()))
    cache = KVCache()
    model.run([3] * 60, cache=cache)
    with pytest.raises(TooManyTokens, match="65 tokens"):
        model.run([3] * 5, cache=cache)
    with pytest.raises(TokenUnknown, match="position 60"):
        model.run([V], cache=cache)
    model.run([3] * 4, cache=cache)
    assert cache.length() == 64


WEIRD = (0, 1, 7, 2**31, -1, 1e30, 1e-30, float("nan"), float("inf"), "text", True)


@pytest.mark.parametrize("name", ["llama-yarn", "gemma3", "mixtral", "phi3-long", "gpt2"])
def test_whatever_the_metadata_says_it_runs_or_is_refused_by_name(name: str) -> None:
    small = SMALL[name]
    weights = Arrays(small.tensors())
    refused = ran = 0
    for key in small.hparams:
        for value in WEIRD:
            metadata = small.metadata | {f"{small.architecture}.{key}": value}
            try:
                logits = Transformer(metadata, weights).run(IDS[:3])
            except GGUFScopeError:  # anything else is a defect
                refused += 1
            else:
                assert logits.shape == (3, V)
                ran += 1
    assert refused > 20
    assert ran > 6  # of gpt2, whose context is a shape, fewer than of the others


def test_numbers_that_overflow_make_no_noise() -> None:
    small = SMALL["llama-gqa"]
    tensors = small.tensors()
    for layer in range(3):
        tensors[f"blk.{layer}.ffn_down.weight"] *= np.float32(1e30)
    trace = Trace({"l_out"})
    # A warning would be an error here.
    logits = Transformer(small.metadata, Arrays(tensors)).run(IDS, trace=trace)
    assert np.abs(trace["l_out-2"]).max() > 1e25
    assert logits.shape == (len(IDS), V)
