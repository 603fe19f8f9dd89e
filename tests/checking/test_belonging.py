"""Whether a projector, an adapter or a draft model belongs to a model, and what decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from ggufscope.checking import check
from ggufscope.checking.findings import Finding, Grade
from ggufscope.errors import NotGGUF, SourceNotFound
from tests.checking.models import found_in, with_metadata
from tests.models.families import SMALL, E, F, write
from tests.models.makers import add_pair

Shapes = dict[str, tuple[int, ...]]


def other(path: Path, architecture: str, metadata: dict[str, Any], shapes: Shapes) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in metadata.items():
        add_pair(writer, key, value)
    for name, shape in shapes.items():
        writer.add_tensor(name, np.ones(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write(tmp_path / "m.gguf", SMALL["llama-gqa"])


def belongs(model: Path, path: Path) -> Finding:
    (finding,) = [each for each in found_in(model, belonging=[path]) if each.subject == "with"]
    return finding


@pytest.mark.parametrize(
    ("metadata", "shapes", "grade", "said"),
    [
        ({"clip.vision.projection_dim": E}, {}, Grade.NOTE, "clip.vision.projection_dim is 32"),
        ({"clip.audio.projection_dim": 99}, {}, Grade.ERROR, "clip.audio.projection_dim is 99"),
        ({"clip.vision.projection_dim": 7}, {"mm.2.weight": (E, 9)}, Grade.NOTE, "mm.2.weight"),
        (
            {"clip.vision.projection_dim": 8, "clip.vision.is_deepstack_layers": [True] * 3},
            {},
            Grade.NOTE,
            "projection_dim is 8",
        ),
        ({"clip.has_vision_encoder": True}, {}, Grade.WARNING, "does not say what it projects to"),
    ],
)
def test_projectors(
    metadata: dict[str, Any], shapes: Shapes, grade: Grade, said: str, model: Path, tmp_path: Path
) -> None:
    path = other(tmp_path / "mmproj.gguf", "clip", metadata, {"v.a": (2, 2)} | shapes)
    finding = belongs(model, path)
    assert (finding.grade, said in finding.what) == (grade, True)
    if grade is Grade.ERROR:
        assert "mismatch between text model (n_embd = 32) and mmproj (n_embd = 99)" in (
            finding.llama_cpp
        )


LORA = {"general.type": "adapter", "adapter.type": "lora"}
UP = "blk.0.ffn_up.weight"
FITS: Shapes = {
    f"{UP}.lora_a": (4, E),
    f"{UP}.lora_b": (F, 4),
    "token_embd.weight.lora_a": (72, 4),
    "token_embd.weight.lora_b": (E, 4),
}


@pytest.mark.parametrize(
    ("architecture", "shapes", "said", "upstream"),
    [
        ("llama", FITS, "all 2 matrices that it changes are there, and fit", ""),
        ("qwen2", FITS, "for architecture 'qwen2', and the model is 'llama'", "arch mismatch"),
        (
            "llama",
            {f"{UP}.lora_a": (4, E + 1), f"{UP}.lora_b": (F, 4)},
            "blk.0.ffn_up.weight is 48×32, and the adapter's pair is 48×4, 4×33",
            "tensor 'blk.0.ffn_up.weight' has incorrect shape (hint: maybe wrong base model?)",
        ),
        (
            "llama",
            {"blk.9.x.weight.lora_a": (4, E), "blk.9.x.weight.lora_b": (F, 4)},
            "the model has no tensor blk.9.x.weight",
            "does not exist in base model",
        ),
        ("llama", {f"{UP}.lora_a": (4, E)}, "has one half of a pair", "is missing one component"),
        ("llama", {"x": (4, 4)}, "has no tensor of a LoRA adapter", ""),
    ],
)
def test_adapters(
    architecture: str, shapes: Shapes, said: str, upstream: str, model: Path, tmp_path: Path
) -> None:
    finding = belongs(model, other(tmp_path / "lora.gguf", architecture, LORA, shapes))
    assert finding.grade is (Grade.NOTE if shapes is FITS and not upstream else Grade.ERROR)
    assert said in finding.what
    assert upstream in finding.llama_cpp


def test_an_adapter_of_another_type(model: Path, tmp_path: Path) -> None:
    metadata = LORA | {"adapter.type": "dora"}
    finding = belongs(model, other(tmp_path / "a.gguf", "llama", metadata, FITS))
    assert finding.llama_cpp == "expect adapter.type to be 'lora', but got: dora"


@pytest.mark.parametrize(
    ("change", "said", "upstream"),
    [
        ({}, "", ""),
        ({"model": "llama"}, "its tokenizer is 'llama', the model's 'gpt2'", "vocab type"),
        ({"add_bos_token": True}, "it adds BOS, unlike the model", "bos tokens must match"),
        ({"add_eos_token": True}, "it adds EOS, unlike the model", "eos tokens must match"),
        ({"tokens": [f"t{n}" for n in range(72)]}, "its token 5 is 't5'", "not compatible"),
        ({"tokens": [f"t{n}" for n in range(300)], "token_type": [1] * 300}, "it has 300", "not"),
        ({"pre": "unheard-of"}, "", ""),
    ],
)
def test_draft_models(
    change: dict[str, Any], said: str, upstream: str, model: Path, tmp_path: Path
) -> None:
    pairs = {f"tokenizer.ggml.{key}": value for key, value in change.items()}
    finding = belongs(model, with_metadata(tmp_path / "d.gguf", pairs))
    assert finding.grade is (Grade.ERROR if said else Grade.NOTE)
    assert said in finding.what
    assert upstream in finding.llama_cpp


def test_what_can_belong_to_nothing(model: Path, tmp_path: Path) -> None:
    path = other(tmp_path / "v.gguf", "llama", {"tokenizer.ggml.tokens": ["a"]}, {})
    assert "a file of the kind vocabulary" in belongs(model, path).what


def test_what_cannot_be_loaded_belongs_to_nothing(model: Path, tmp_path: Path) -> None:
    finding = belongs(model, with_metadata(tmp_path / "d.gguf", {"llama.block_count": 0}))
    assert finding.grade is Grade.ERROR
    assert finding.what.startswith("d.gguf is not sound itself: key 'llama.block_count' is 0")


def test_what_cannot_be_read_is_no_fault_of_the_model(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_work(*_: object, **__: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(check, "payload_findings", no_work)
    path = tmp_path / "v.gguf"
    path.write_bytes(b"no model")
    with pytest.raises(NotGGUF, match=r"v.gguf: this is not a GGUF file"):
        found_in(model, belonging=[path])
    with pytest.raises(SourceNotFound, match="gone"):
        found_in(model, belonging=[tmp_path / "gone.gguf"])
