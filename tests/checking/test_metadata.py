"""Metadata that contradict themselves or the tensors; real llama.cpp is asked about each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ggufscope.checking.findings import Grade
from tests.checking.models import changed, checked, found_in, the_one, with_metadata
from tests.llama_loads import loads
from tests.models.families import SMALL, write

LIES: list[tuple[dict[str, Any], str, str, str]] = [
    ({"attention__head_count_kv": 3}, "llama-gqa", "3 key/value heads", ""),
    ({"rope__dimension_count": 4}, "llama-gqa", "4 dimensions of a head of 8", "invalid n_rot"),
    ({"rope__dimension_count": 32}, "qwen2", "32 dimensions of a head", ""),
    ({"expert_used_count": 0}, "mixtral", "0 of 4 experts", "GGML_ASSERT(n_expert_used_max > 0)"),
    ({"expert_used_count": 9}, "mixtral", "9 of 4 experts", "GGML_ASSERT("),
    ({"rope__freq_base": -5.0}, "llama-gqa", "rope.freq_base' is -5", ""),
    ({"rope__freq_base": float("nan")}, "llama-gqa", "rope.freq_base' is nan", ""),
    ({"rope__scaling__type": "linaer"}, "llama-gqa", "rope.scaling.type' is 'linaer'", ""),
    ({"block_count": 2}, "llama-gqa", "there are tensors of layer 2", "wrong number of tensors"),
    ({"context_length": None}, "llama-gqa", "context_length' is missing", "key not found in model"),
    ({"embedding_length": "x"}, "llama-gqa", "embedding_length' is 'x'", ""),
]
REFUSED = [lie for lie in LIES if lie[3] and not lie[3].startswith("GGML_ASSERT")]
"""What it refuses in words; at the others it stops, or goes on."""


@pytest.mark.parametrize(("change", "kind", "said", "upstream"), LIES)
def test_each_lie_is_named(
    change: dict[str, Any], kind: str, said: str, upstream: str, tmp_path: Path
) -> None:
    found = found_in(changed(tmp_path / "m.gguf", kind=kind, **change))
    (finding,) = [each for each in found if each.subject == "metadata"]
    assert finding.grade is Grade.ERROR
    assert said in finding.what
    assert upstream in finding.llama_cpp


def test_llama_cpp_refuses_what_it_is_said_to_refuse_and_loads_the_others(tmp_path: Path) -> None:
    lies = [
        changed(tmp_path / f"lie{n}.gguf", kind=kind, **change)
        for n, (change, kind, *_) in enumerate(REFUSED)
    ]
    sound = [write(tmp_path / f"{kind}.gguf", small) for kind, small in SMALL.items()]
    assert loads([*lies, *sound]) == [False] * len(lies) + [True] * len(sound)
    assert {checked(path).verdict for path in sound} == {"sound"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"attention__layer_norm_rms_epsilon": 0.5}, "rms_epsilon' is 0.5"),
        ({"context_length": 0}, "context_length' is 0"),
    ],
)
def test_what_is_odd_is_a_warning(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    finding = the_one(changed(tmp_path / "m.gguf", **change), "metadata")
    assert (finding.grade, said in finding.what) == (Grade.WARNING, True)


def test_tensors_that_are_missing_misshapen_or_left_over(tmp_path: Path) -> None:
    tensors = SMALL["llama-gqa"].tensors()
    del tensors["blk.1.attn_k.weight"]
    tensors["blk.1.attn_q.weight"] = np.ascontiguousarray(tensors["blk.1.attn_q.weight"][:32])
    tensors["v.blk.0.attn_q.weight"] = np.ones((4, 4), np.float32)
    tensors["blk.0.attn_new.weight"] = np.ones((4, 4), np.float32)
    path = changed(tmp_path / "m.gguf", tensors)
    found = [each for each in found_in(path) if each.subject == "tensors"]
    assert [(each.tensor, each.grade.value) for each in found] == [
        ("blk.1.attn_k.weight", "error"),
        ("blk.1.attn_q.weight", "error"),
        ("v.blk.0.attn_q.weight", "error"),
        ("blk.0.attn_new.weight", "warning"),
    ]
    missing, shape, tower, strange = (each.llama_cpp for each in found)
    assert missing == "tensor 'blk.1.attn_k.weight' not found"
    assert shape.startswith("tensor 'blk.1.attn_q.weight' has wrong shape; expected")
    assert tower == "wrong number of tensors; expected 31, got 30"
    assert strange == "wrong number of tensors; expected 31, got 30"
    only = SMALL["llama-gqa"].tensors() | {"blk.0.attn_new.weight": np.ones((4, 4), np.float32)}
    rotated = SMALL["llama-gqa"].tensors() | {"blk.0.attn_rot_embd.weight": np.ones(4, np.float32)}
    ranked = SMALL["qwen3"].tensors() | {"cls.output.weight": np.ones((1, 32), np.float32)}
    paths = [
        changed(tmp_path / "n.gguf", only),
        changed(tmp_path / "o.gguf", rotated),
        changed(tmp_path / "q.gguf", ranked, kind="qwen3"),
    ]
    assert loads(paths) == [False, False, True]
    assert [checked(path).clean for path in paths] == [False, False, True]


def test_architectures_of_others(tmp_path: Path) -> None:
    for name, grade, words in (
        ("gptoss", Grade.ERROR, "Ollama's own engine"),
        ("flux-capacitor", Grade.NOTE, "not known to this program"),
    ):
        path = with_metadata(tmp_path / f"{name}.gguf", {"general.architecture": name})
        finding = the_one(path, "metadata")
        assert finding.grade is grade
        assert words in finding.what
        assert finding.llama_cpp == f"unknown model architecture: '{name}'"


def test_keys_of_an_architecture_that_does_not_run_here_are_needed_too(tmp_path: Path) -> None:
    path = with_metadata(tmp_path / "m.gguf", {"general.architecture": "mamba"})
    made = checked(path)
    missing = {each.key for each in made.findings if each.grade is Grade.ERROR}
    assert {"mamba.context_length", "mamba.ssm.conv_kernel", "mamba.ssm.inner_size"} <= missing
    assert any("'mamba.block_count' is missing" in each.what for each in made.findings)
    assert made.outcome == "not sound"
    assert loads([path]) == [False]


def test_what_is_not_judged_is_not_among_what_was_looked_at(tmp_path: Path) -> None:
    path = changed(tmp_path / "m.gguf")
    assert {"metadata", "tensors", "recipe"} <= {*checked(path).looked_at}
    path.write_bytes(path.read_bytes().replace(b"llama", b"arcee"))
    made = checked(path)
    assert "metadata" in made.looked_at
    assert "tensors" not in made.looked_at
    assert the_one(path, "tensors").grade is Grade.NOTE
    assert made.verdict == "sound: 1 note"
    path = with_metadata(tmp_path / "n.gguf", {"general.architecture": "flux-capacitor"})
    assert {"metadata", "tensors", "recipe"}.isdisjoint(checked(path).looked_at)


def test_a_layer_that_is_not_there_where_no_table_knows_more(tmp_path: Path) -> None:
    tensors = SMALL["llama-gqa"].tensors()
    tensors = {name: w for name, w in tensors.items() if not name.startswith("blk.1.")}
    path = changed(tmp_path / "m.gguf", tensors)
    path.write_bytes(path.read_bytes().replace(b"llama", b"arcee"))
    finding = the_one(path, "metadata")
    assert finding.what == "layer 1 has no tensor, of 3 layers"
    assert loads([path]) == [False]


def test_an_embedding_without_a_row_for_each_token(tmp_path: Path) -> None:
    tensors = SMALL["llama-gqa"].tensors()
    for name in ("token_embd.weight", "output.weight"):
        tensors[name] = np.ascontiguousarray(tensors[name][:60])
    path = changed(tmp_path / "m.gguf", tensors)
    assert {each.tensor for each in found_in(path)} == {"token_embd.weight", "output.weight"}
    path.write_bytes(path.read_bytes().replace(b"llama", b"arcee"))
    assert the_one(path, "metadata").what == (
        "token_embd.weight has 60 rows, and the vocabulary 72 tokens"
    )
    assert loads([path]) == [False]


@pytest.mark.parametrize(("version", "grade"), [(1, Grade.ERROR), (3, Grade.WARNING), (2, None)])
def test_versions_of_quantization(version: int, grade: Grade | None, tmp_path: Path) -> None:
    from ggufscope.recipes.apply import quantize_model
    from ggufscope.recipes.metadata import parse_overrides

    source, target = write(tmp_path / "m.gguf", SMALL["llama-gqa"]), tmp_path / "q.gguf"
    overrides = parse_overrides([f"general.quantization_version=int:{version}"])
    quantize_model(source, {target: "Q8_0"}, overrides=overrides)
    found = [each for each in found_in(target) if each.subject == "structure"]
    assert [each.grade for each in found] == ([grade] if grade else [])
