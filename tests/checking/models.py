"""Small sound models, and what is wrong with them after something was changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from ggufscope.checking.check import CheckOptions, check
from ggufscope.checking.findings import Checked, Finding
from tests.models.families import SMALL, Tensors, write
from tests.models.makers import add_pair

KIND = "llama-gqa"


def changed(path: Path, tensors: Tensors | None = None, kind: str = KIND, **hparams: Any) -> Path:
    """A sound model with some hyperparameters otherwise, ``__`` for a dot; None takes one away."""
    small = SMALL[kind]
    own = {key.replace("__", "."): value for key, value in hparams.items()}
    kept = {key: value for key, value in (small.hparams | own).items() if value is not None}
    return write(path, replace(small, hparams=kept), tensors)


def with_metadata(path: Path, metadata: Mapping[str, Any], kind: str = KIND) -> Path:
    """A sound model with other metadata; None takes a key away."""
    small = SMALL[kind]
    letters = [chr(code) for code in range(ord("!"), ord("!") + 67)]
    pairs = small.metadata | {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": ["<s>", "</s>", "\u0120", "\u010a", *letters, '!"'],
        "tokenizer.ggml.token_type": [3, 3] + [1] * 70,
        "tokenizer.ggml.merges": ['! "'],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        **metadata,
    }
    architecture = pairs.pop("general.architecture")
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in pairs.items():
        if value is not None:
            add_pair(writer, key, value)
    for name, weights in small.tensors().items():
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def found_in(path: Path, **options: Any) -> list[Finding]:
    """What a check finds."""
    return [*checked(path, **options).findings]


def checked(path: Path, **options: Any) -> Checked:
    """The check of a model."""
    return check(path, CheckOptions(**options))


def the_one(path: Path, subject: str, **options: Any) -> Finding:
    """The only finding there is about a subject."""
    (finding,) = [each for each in found_in(path, **options) if each.subject == subject]
    assert finding.meaning
    assert finding.advice
    return finding


def large(seed: int = 1, rows: int = 64, row: int = 1024) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Weights of a matrix that takes many pages."""
    return np.random.default_rng(seed).standard_normal((rows, row), np.float32)
