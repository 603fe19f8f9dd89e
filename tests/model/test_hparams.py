from __future__ import annotations

from typing import Any

import pytest

from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Value
from ggufscope.errors import HyperparameterError
from ggufscope.model.hparams import read_hparams
from ggufscope.model.keys import PerLayer


def _metadata(**keys: Any) -> dict[str, Any]:
    base = {"block_count": 3, "embedding_length": 32, "attention.head_count": 4}
    full = {f"llama.{key}": value for key, value in (base | keys).items() if value is not None}
    return {"general.architecture": "llama", **full}


def _array(type_: ValueType, *items: Any) -> Any:
    return Value.array(type_, items).data


def test_what_is_not_said_follows_llama_cpp() -> None:
    hparams = read_hparams(_metadata())
    assert hparams.head_count_kv == PerLayer((4,))
    assert (hparams.key_length, hparams.value_length, hparams.rope_dimension_count) == (8, 8, 8)
    assert hparams.context_length is None


def test_arrays_give_each_layer_its_own() -> None:
    heads = _array(ValueType.INT32, 4, 8, 4)
    hparams = read_hparams(_metadata(**{"attention.head_count": heads}))
    assert hparams.head_count is not None
    assert [hparams.head_count[layer] for layer in range(3)] == [4, 8, 4]
    assert hparams.head_count.distinct() == [4, 8]
    assert hparams.head_count_kv == hparams.head_count


def test_a_window_pattern_may_be_longer_than_the_model() -> None:
    pattern = _array(ValueType.BOOL, True, False, True, False, True)
    hparams = read_hparams(_metadata(**{"attention.sliding_window_pattern": pattern}))
    assert hparams.sliding_window_pattern == PerLayer((1, 0, 1))


def test_numbers_that_a_pass_needs() -> None:
    hparams = read_hparams(_metadata())
    assert (hparams.rope_scaling_type, hparams.rope_scaling_factor) == ("linear", None)
    assert hparams.layer_norm_rms_epsilon is None
    said = {
        "context_length": 4096,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": 4.0,
        "final_logit_softcapping": 30.0,
        "expert_shared_feed_forward_length": 40,
    }
    hparams = read_hparams(_metadata(**said))
    assert (hparams.rope_scaling_type, hparams.rope_scaling_factor) == ("yarn", 4.0)
    assert hparams.rope_scaling_original_context_length == 4096
    assert hparams.layer_norm_rms_epsilon == 1e-6
    assert hparams.final_logit_softcapping == 30.0
    assert hparams.expert_shared_feed_forward_length == 40


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"block_count": None}, "llama.block_count"),
        ({"block_count": 0}, "llama.block_count"),
        ({"block_count": 10**9}, "llama.block_count"),
        ({"block_count": "three"}, "llama.block_count"),
        ({"embedding_length": -1}, "llama.embedding_length"),
        ({"embedding_length": True}, "llama.embedding_length"),
        ({"rope.freq_base": "fast"}, "llama.rope.freq_base"),
        ({"rope.scaling.type": 3}, "llama.rope.scaling.type"),
        ({"attention.layer_norm_epsilon": True}, "llama.attention.layer_norm_epsilon"),
        ({"attention.head_count": _array(ValueType.INT32, 4, 4)}, "llama.attention.head_count"),
        ({"attention.head_count": _array(ValueType.INT32, *[4] * 4)}, "llama.attention.head_count"),
        ({"attention.head_count": _array(ValueType.INT32, 4, -4, 4)}, "llama.attention.head_count"),
        ({"attention.head_count": _array(ValueType.STRING, *"abc")}, "llama.attention.head_count"),
    ],
)
def test_what_cannot_be_is_refused(keys: dict[str, Any], named: str) -> None:
    with pytest.raises(HyperparameterError, match=named.replace(".", r"\.")) as caught:
        read_hparams(_metadata(**keys))
    assert caught.value.hint


@pytest.mark.parametrize("architecture", [None, 7])
def test_no_architecture(architecture: Any) -> None:
    with pytest.raises(HyperparameterError, match=r"general\.architecture"):
        read_hparams({"general.architecture": architecture} if architecture else {})
