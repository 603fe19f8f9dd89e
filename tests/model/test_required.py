"""Whether a model is whole, held to what real llama.cpp loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ggufscope.container.file import open_gguf
from ggufscope.forward.families import GRAPHS
from ggufscope.model.required import REQUIRED, Flaw, flaws_of, in_words, warnings_of
from tests.llama_loads import loads
from tests.models.families import SMALL, Small, Tensors, write
from tests.models.makers import RECIPES, make, pair, raw_gguf, tensor, text
from tests.shapes import WHOLES


def _flaws(small: Small, tensors: Tensors, **more: Any) -> list[str]:
    shapes = {name: weights.shape for name, weights in tensors.items()}
    return [str(flaw) for flaw in flaws_of(shapes, small.metadata | more)]


def test_what_runs_here_is_what_is_known() -> None:
    assert REQUIRED.keys() == GRAPHS.keys()


def test_llama_cpp_loads_what_is_whole_and_nothing_else(tmp_path: Path) -> None:
    """Each tensor of layer 1, and of those outside the layers, left out or cut by a row.

    All families go through one llama.cpp: its start takes longer than to load them.
    """
    models: list[Path] = []
    expected: list[bool] = []
    what: list[str] = []
    for name, small in SMALL.items():
        tensors = small.tensors()
        changes = {f"{name}, whole": tensors}
        for tensor_, weights in tensors.items():
            if tensor_.startswith("blk.") and not tensor_.startswith("blk.1."):
                continue
            rest = {key: value for key, value in tensors.items() if key != tensor_}
            half = {tensor_: np.ascontiguousarray(weights[: len(weights) // 2])}
            changes |= {f"{name} without {tensor_}": rest, f"half {name} {tensor_}": tensors | half}
        for words, changed in changes.items():
            models.append(write(tmp_path / f"{len(models)}.gguf", small, changed))
            expected.append(not _flaws(small, changed))
            what.append(words)
        assert expected[-len(changes)]
        assert not all(expected[-len(changes) :])
    found = loads(models)
    wrong = {w for w, mine, theirs in zip(what, expected, found, strict=True) if mine != theirs}
    assert wrong == KNOWN


KNOWN = {
    "mixtral without blk.1.ffn_gate_exps.weight",
    "phi3 without blk.1.attn_qkv.weight",
    "phi3-long without blk.1.attn_qkv.weight",
}
"""Optional in llama.cpp, which then computes something else, or fails when it runs."""


def test_each_flaw_is_named() -> None:
    small = SMALL["llama-gqa"]
    tensors = small.tensors()
    del tensors["blk.2.ffn_up.weight"]
    tensors["blk.1.attn_q.weight"] = tensors["blk.1.attn_q.weight"][:32]
    tensors["output_norm.weight"] = np.ones(31, np.float32)
    assert _flaws(small, tensors) == [
        "blk.2.ffn_up.weight is missing",
        "output_norm.weight has shape 31, 32 is needed",
        "blk.1.attn_q.weight has shape 32×32, 64×32 is needed",
    ]


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("phi3", "blk.1.attn_qkv.weight"),
        ("llama-gqa", "blk.1.attn_v.weight"),
        ("mixtral", "blk.1.ffn_down_exps.weight"),
        ("mixtral", "blk.1.ffn_gate_inp.weight"),
        ("gpt2", "blk.0.attn_qkv.bias"),
    ],
)
def test_of_two_ways_to_store_it_the_usual_one_is_named(name: str, missing: str) -> None:
    tensors = SMALL[name].tensors()
    del tensors[missing]
    assert _flaws(SMALL[name], tensors) == [f"{missing} is missing"]


def test_the_tokens_go_before_the_key_for_their_number() -> None:
    small = SMALL["llama-gqa"]
    tokens = ["a"] * 72
    assert _flaws(small, small.tensors(), **{"llama.vocab_size": 71}) != []
    more = {"llama.vocab_size": 71, "tokenizer.ggml.tokens": tokens}
    assert _flaws(small, small.tensors(), **more) == []


@pytest.mark.parametrize("name", WHOLES)
def test_known_models_are_whole(name: str) -> None:
    whole = WHOLES[name]()
    assert flaws_of(whole.shapes, whole.metadata) == []


@pytest.mark.parametrize("kind", RECIPES)
def test_no_kind_of_model_is_taken_for_a_part(kind: str, tmp_path: Path) -> None:
    with open_gguf(make(tmp_path / "m.gguf", kind)) as file:
        assert warnings_of(file) == []


def _llama(*pairs: bytes, tensors: list[bytes] | None = None) -> bytes:
    architecture = pair("general.architecture", 8, text("llama"))
    return raw_gguf([architecture, *pairs], tensors, bytes(128))


@pytest.mark.parametrize(
    "raw",
    [
        _llama(pair("llama.block_count", 4, b"\2\0\0\0")),  # a vocabulary
        _llama(
            pair("llama.block_count", 4, b"\2\0\0\0"),
            pair("general.type", 8, text("adapter")),
            tensors=[tensor("blk.0.attn_q.weight.lora_a")],
        ),
        _llama(pair("llama.block_count", 4, b"\2\0\0\0"), tensors=[tensor("token_embd.weight")]),
        _llama(tensors=[tensor("blk.0.attn_q.weight")]),  # nothing says how many layers
    ],
    ids=["vocabulary", "adapter", "embedding", "without metadata"],
)
def test_what_is_no_model_lacks_nothing(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(raw)
    with open_gguf(path) as file:
        assert not any("whole" in words for words in warnings_of(file))


def test_what_no_key_says_is_left_out() -> None:
    small = SMALL["llama-gqa"]
    tensors = small.tensors()
    del tensors["blk.0.attn_q.weight"]
    metadata = {k: v for k, v in small.metadata.items() if "feed_forward" not in k}
    shapes = {name: weights.shape for name, weights in tensors.items()}
    assert [str(f) for f in flaws_of(shapes, metadata)] == ["blk.0.attn_q.weight is missing"]


def test_many_flaws_are_counted() -> None:
    flaws = [Flaw(f"t{n}", "is missing", missing=True) for n in range(5)]
    said = "the model is not whole: t0 is missing; t1 is missing; t2 is missing"
    assert in_words(flaws) == f"{said}; and 2 more"
    assert in_words(flaws[:3]) == said
