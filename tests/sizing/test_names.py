"""What people call a model, and which known shape is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from ggufscope.errors import UnknownShape
from ggufscope.sizing.names import known_names, shape_named, shapes_like
from ggufscope.sizing.overview import named
from ggufscope.sizing.shapes import SHAPES


@pytest.mark.parametrize("name", SHAPES)
def test_every_name_means_its_shape_alone(name: str) -> None:
    assert shapes_like(name) == [SHAPES[name]]
    assert shape_named(name.upper().replace("-", "_")) is SHAPES[name]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("llama3-8b", "llama-3-8b"),
        ("llama3.2:3b", "llama-3.2-3b"),
        ("Llama 3.3 70B", "llama-3.3-70b"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("Meta-Llama-3.1-8B-Instruct-GGUF", "llama-3.1-8b"),
        ("DeepSeek-R1-Distill-Llama-8B", "llama-3.1-8b"),
        ("deepseek-ai/DeepSeek-R1", "deepseek-v3"),
        ("Qwen2.5 7B", "qwen2.5-7b"),
        ("Qwen2.5-Coder-7B-Instruct", "qwen2.5-7b"),
        ("qwen3-30b", "qwen3-30b-a3b"),
        ("google/gemma-3-27b-it", "gemma-3-27b"),
        ("phi4", "phi-4"),
        ("microsoft/Phi-3-mini-4k-instruct", "phi-3-mini"),
        ("mixtral", "mixtral-8x7b"),
        ("Mistral-7B-v0.1", "mistral-7b"),
        ("Mistral-7B-Instruct-v0.3", "mistral-7b-v0.3"),
        ("mistral-small", "mistral-small-24b"),
        ("Mistral-Small-3.2-24B-Instruct-2506", "mistral-small-24b"),
        ("GLM-4-9B-0414", "glm-4-9b"),
    ],
)
def test_near_misses_are_understood(said: str, meant: str) -> None:
    assert named(said) is SHAPES[meant]


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("llama-8b", "did you mean llama-3-8b or llama-3.1-8b?"),
        ("gpt-oss", "did you mean gpt-oss-20b or gpt-oss-120b?"),
        ("llama31-8b", "did you mean llama-3.1-8b?"),
        # other tensors than those of the names that are nearest
        ("qwen3-3b", "did you mean qwen3-"),
        ("Llama-3.2-11B-Vision", "did you mean llama-3.2-1b, "),
        ("Phi-3-mini-128k-instruct", "did you mean phi-3-mini"),
        ("gpt-6", f"or one of {known_names()}"),
        ("-", "or one of "),
    ],
)
def test_what_is_not_clear_is_asked_about(said: str, hint: str) -> None:
    with pytest.raises(UnknownShape) as caught:
        named(said)
    assert hint in caught.value.hint


@pytest.mark.parametrize("text", ["./llama-3.1-8b", "a/b/llama-3.1-8b", "org/model", "gemma.gguf"])
def test_a_path_is_no_name(text: str) -> None:
    assert named(text) == Path(text)


def test_all_names_are_said_in_few_words() -> None:
    told = known_names()
    assert "gemma-3-270m/1b/4b/12b/27b" in told
    found = set()
    for part in told.split(", "):
        first, *others = part.split("/")
        family = first[: first.rindex("-") + 1]
        found |= {first, *(family + size for size in others)}
    assert found == set(SHAPES)
