"""The keys that each architecture needs, held to what real llama.cpp refuses to miss."""

from __future__ import annotations

import re
from pathlib import Path

import gguf
import numpy as np

from ggufscope.model.required_keys import KNOWN, missing_keys
from tests.llama_loads import answers_to
from tests.models.makers import add_pair

REALS = ("epsilon", "clamp_kqv", "logit_scale", "group_scale")
ARRAYS = {"rope.dimension_sections": [1, 1, 1, 1], "attention.sliding_window_pattern": [True]}
IN_WORDS = frozenset({"attention.head_count", "cohere2moe.attention.layer_norm_epsilon"})
"""What llama.cpp misses in other words, or by a tensor that has another shape then."""
IN_SOME_FILES = {"deepseek2": ["attention.q_lora_rank"], "mistral4": ["attention.q_lora_rank"]}
"""What it asks for of some sizes of a model."""


def value_of(name: str) -> object:
    if name.endswith(REALS):
        return 1e-5
    return ARRAYS.get(name, name == "use_parallel_residual" or 1)


def bare(path: Path, architecture: str, keys: list[str]) -> Path:
    """A file of one tensor with these keys, and no vocabulary."""
    writer = gguf.GGUFWriter(path, architecture)
    for key in keys:
        add_pair(writer, key, value_of(key.partition(".")[2]))
    writer.add_tensor("token_embd.weight", np.ones((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def lacking(said: str) -> str | None:
    """The key that llama.cpp misses."""
    found = re.search(r"key not found in model: (\S+)", said)
    return found[1] if found else None


def test_what_is_said_to_be_missing_llama_cpp_misses(tmp_path: Path) -> None:
    asked: list[tuple[str, list[str]]] = []
    for architecture in sorted(KNOWN):
        needed = missing_keys({}, architecture)
        for key in needed:
            if IN_WORDS.isdisjoint({key, key.partition(".")[2]}):
                others = ["block_count", *IN_SOME_FILES.get(architecture, [])]
                given = [f"{architecture}.{name}" for name in others]
                asked.append((key, [*given, *(each for each in needed if each != key)]))
    paths = [
        bare(tmp_path / f"{n}.gguf", key.partition(".")[0], keys)
        for n, (key, keys) in enumerate(asked)
    ]
    wrong = {
        key: lacking(said) or said[-300:]
        for (key, _), (_, said) in zip(asked, answers_to(paths), strict=True)
        if lacking(said) != key
    }
    assert wrong == {}
