from __future__ import annotations

from pathlib import Path

import gguf
import pytest

from ggufscope.model.families import FAMILIES, OTHER_GRAPHS, window_of
from ggufscope.model.file_types import FILE_TYPES, file_type_name
from ggufscope.model.hparams import read_hparams

GOLDEN = Path(__file__).parent.parent / "golden"
_ROPE = {"interleaved": "NORM", "half-split": "NEOX", "none": "NONE"}


def _architectures() -> dict[str, str]:
    lines = (GOLDEN / "architectures.txt").read_text().splitlines()
    return dict(line.split() for line in lines)


def test_every_architecture_here_is_one_that_llama_cpp_loads() -> None:
    assert set(FAMILIES) <= set(_architectures())
    assert set(OTHER_GRAPHS) <= set(_architectures())
    assert not set(FAMILIES) & set(OTHER_GRAPHS)
    assert len(FAMILIES) > 100


@pytest.mark.parametrize("name", FAMILIES)
def test_each_rotates_as_llama_cpp_has_it(name: str) -> None:
    kinds = _architectures()[name].split("/")
    rope = FAMILIES[name].rope
    assert (_ROPE[rope] in kinds) if rope in _ROPE else "MROPE" in kinds[0]


def test_file_types_are_those_of_gguf_py() -> None:
    theirs = {
        kind.value: kind.name.removeprefix("MOSTLY_").removeprefix("ALL_")
        for kind in gguf.LlamaFileType
        if kind.value < 1024
    }
    # gguf-py lags behind llama.h: what it knows is the same.
    assert {number: FILE_TYPES[number] for number in theirs} == theirs
    assert file_type_name(15) == "Q4_K_M"
    assert file_type_name(1024 + 15) == "Q4_K_M"
    assert file_type_name(777) == "file type 777"
    assert file_type_name(None) is None


def _windows(architecture: str, layers: int, **keys: object) -> list[int | None]:
    metadata: dict[str, object] = {
        "general.architecture": architecture,
        f"{architecture}.block_count": layers,
    }
    metadata |= {f"{architecture}.attention.{key}": value for key, value in keys.items()}
    hparams = read_hparams(metadata)
    return [window_of(FAMILIES[architecture], hparams, layer) for layer in range(layers)]


@pytest.mark.parametrize(
    ("architecture", "layers", "keys", "windows"),
    [
        ("llama", 4, {"sliding_window": 8}, [None] * 4),
        ("gemma2", 4, {}, [4096, None, 4096, None]),
        ("gemma2", 4, {"sliding_window": 8}, [8, None, 8, None]),
        ("gemma3", 7, {"sliding_window": 8}, [8, 8, 8, 8, 8, None, 8]),
        ("gemma3", 7, {}, [None] * 7),
        ("gemma3", 4, {"sliding_window": 8, "sliding_window_pattern": 2}, [8, None, 8, None]),
        ("cohere2moe", 5, {"sliding_window": 8}, [None, 8, 8, 8, None]),
        ("gpt-oss", 2, {"sliding_window": 0}, [None, None]),
        ("exaone4", 4, {}, [None] * 4),
        ("gemma4", 3, {"sliding_window": 8}, [None] * 3),
    ],
)
def test_windows(
    architecture: str, layers: int, keys: dict[str, object], windows: list[int | None]
) -> None:
    assert _windows(architecture, layers, **keys) == windows
