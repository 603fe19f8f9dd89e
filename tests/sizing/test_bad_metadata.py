"""Metadata that is missing, absurd or contradictory: an error that names the key, or a reason."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Array, Value
from ggufscope.errors import GGUFScopeError, HyperparameterError, NotDerivable
from ggufscope.model.families import FAMILIES, OTHER_GRAPHS
from ggufscope.sizing.budget import memory_of
from ggufscope.sizing.kv_cache import kv_cache_of
from ggufscope.sizing.settings import RunSettings
from ggufscope.sizing.shapes import SHAPES
from ggufscope.sizing.states import HYBRID, RECURRENT

LLAMA = SHAPES["llama-3.1-8b"].metadata
RUN = RunSettings(4096)


def _without(key: str) -> dict[str, Any]:
    return {name: value for name, value in LLAMA.items() if name != f"llama.{key}"}


def _array(*numbers: int) -> Array:
    data = Value.array(ValueType.UINT32, numbers).data
    assert isinstance(data, Array)
    return data


@pytest.mark.parametrize("count", [0, 513, 10**9, 2**40, -1, "32", 3.5])
def test_a_model_has_1_to_512_layers(count: Any) -> None:
    with pytest.raises(HyperparameterError, match=r"llama\.block_count"):
        kv_cache_of({**LLAMA, "llama.block_count": count}, RUN)


def test_an_array_has_an_entry_for_each_layer() -> None:
    metadata = {**LLAMA, "llama.attention.head_count_kv": _array(8, 8, 8)}
    with pytest.raises(HyperparameterError, match="3 entries for 32 layers"):
        kv_cache_of(metadata, RUN)


def test_heads_that_are_not_there_are_missed() -> None:
    with pytest.raises(NotDerivable, match="head_count' is 0 in layer 0, which has 8"):
        kv_cache_of({**LLAMA, "llama.attention.head_count": 0}, RUN)
    bare = {k: v for k, v in LLAMA.items() if "head_count" not in k}
    with pytest.raises(NotDerivable, match="head_count_kv' is missing"):
        kv_cache_of(bare, RUN)


def test_what_is_missing_and_has_a_default_is_taken_from_there() -> None:
    mha = kv_cache_of(_without("attention.head_count_kv"), RUN)
    assert mha.nbytes == 4 * kv_cache_of(LLAMA, RUN).nbytes


def test_without_vocabulary_there_are_no_logits_to_size() -> None:
    with pytest.raises(NotDerivable, match="vocabulary has no size"):
        memory_of(_without("vocab_size"), RUN)


def test_a_state_needs_its_sizes() -> None:
    metadata = {
        "general.architecture": "mamba",
        "mamba.block_count": 2,
        "mamba.embedding_length": 64,
        "mamba.ssm.inner_size": 128,
    }
    with pytest.raises(NotDerivable, match=r"mamba\.ssm\.state_size' is missing or 0"):
        kv_cache_of(metadata, RUN)
    with pytest.raises(NotDerivable, match=r"mamba\.ssm\.state_size' is missing or 0"):
        kv_cache_of({**metadata, "mamba.ssm.state_size": 0}, RUN)


@pytest.mark.parametrize("name", ["deepseek32", "deepseek4", "t5", "clip", "flux-capacitor"])
def test_rules_that_are_not_known_are_not_guessed(name: str) -> None:
    metadata = {key.replace("llama.", f"{name}."): value for key, value in LLAMA.items()}
    with pytest.raises(NotDerivable, match=f"architecture '{name}' ") as caught:
        kv_cache_of({**metadata, "general.architecture": name}, RUN)
    assert caught.value.hint


def test_an_encoder_keeps_nothing() -> None:
    metadata = {key.replace("llama.", "bert."): value for key, value in LLAMA.items()}
    assert kv_cache_of({**metadata, "general.architecture": "bert"}, RUN).nbytes == 0


NAMES = sorted({*FAMILIES, *OTHER_GRAPHS, *HYBRID, *RECURRENT, "gemma3n", "unheard-of"})
KEYS = [
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "vocab_size",
    "full_attention_interval",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.key_length_mla",
    "attention.value_length_mla",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.shared_kv_layers",
    "attention.recurrent_layers",
    "nextn_predict_layers",
    "ssm.conv_kernel",
    "ssm.inner_size",
    "ssm.state_size",
    "ssm.group_count",
    "shortconv.l_cache",
    "kda.head_dim",
    "wkv.head_size",
]
NUMBERS = st.one_of(st.integers(0, 8), st.integers(0, 2**64 - 1), st.just(None))
VALUES = st.one_of(NUMBERS, st.lists(st.integers(0, 8), max_size=6), st.booleans(), st.text())


@given(
    st.sampled_from(NAMES),
    st.dictionaries(st.sampled_from(KEYS), VALUES),
    st.integers(1, 6),
    st.integers(1, 2**31),
    st.integers(1, 8),
)
def test_whatever_a_file_says_there_is_a_size_or_an_error_with_words(
    name: str, said: dict[str, Any], layers: int, context: int, parallel: int
) -> None:
    metadata: dict[str, Any] = {"general.architecture": name, f"{name}.block_count": layers}
    for key, value in said.items():
        if value is not None:
            given = _array(*value) if isinstance(value, list) else value
            metadata[f"{name}.{key}"] = given
    outcome: Any
    try:
        outcome = memory_of(metadata, RunSettings(context, parallel=parallel))
    except GGUFScopeError as error:
        outcome = error
    if isinstance(outcome, GGUFScopeError):
        assert outcome.message
        assert outcome.hint
    else:
        assert outcome.cache.nbytes >= 0
        assert 0 <= outcome.compute.low <= outcome.compute.high
