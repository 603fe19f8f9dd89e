"""A model that is not whole, through every command, at 80 columns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ggufscope import errors, prepare
from ggufscope.container.file import open_gguf
from ggufscope.recipes.apply import quantize_model
from ggufscope.recipes.metadata import parse_overrides
from ggufscope.recipes.request import Request
from tests import slices
from tests.container.test_unfinished import cut_off
from tests.models.families import SMALL, write
from tests.program import inside, refused

FLAWS = (
    "the model is not whole: blk.1.attn_k.weight is missing; blk.2.ffn_up.weight is missing; "
    "blk.1.attn_q.weight has shape 32×32, 64×32 is needed"
)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """A model without two of its tensors, and with half of another."""
    small = SMALL["llama-gqa"]
    tensors = small.tensors()
    del tensors["blk.2.ffn_up.weight"], tensors["blk.1.attn_k.weight"]
    tensors["blk.1.attn_q.weight"] = np.ascontiguousarray(tensors["blk.1.attn_q.weight"][:32])
    return write(tmp_path / "part.gguf", small, tensors)


@pytest.mark.parametrize("command", ["list", "size"])
def test_list_and_size_warn(command: str, part: Path) -> None:
    done = inside(command, part)
    assert done.returncode == 0
    assert done.stderr == f"warning: {part}: {FLAWS}. llama.cpp will not load this file\n"
    assert max(map(len, done.stdout.splitlines())) <= 80
    told = json.loads(inside(command, part, "--json").stdout)
    assert told["warnings"] == [f"{part}: {FLAWS}. llama.cpp will not load this file"]


@pytest.mark.parametrize("options", [(), ("--dry-run",), ("--force",), ("--json",)])
def test_quantize_refuses(options: tuple[str, ...], part: Path, tmp_path: Path) -> None:
    done = inside("quantize", part, tmp_path / "out.gguf", "Q8_0", *options)
    refused(done, f"error: {part}: {FLAWS}")
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["part.gguf"]


def test_so_does_the_library(part: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.NotWhole, match=r"blk\.1\.attn_k\.weight is missing") as caught:
        quantize_model(part, {tmp_path / "out.gguf": "Q8_0"}, overwrite=True)
    assert str(part) in caught.value.message
    assert "llama.cpp would not load it either" in caught.value.hint
    with pytest.raises(errors.NotWhole):
        prepare(Request(part, ["Q8_0"]))


def test_a_slice_of_a_model_is_quantized_and_warned_of(tmp_path: Path) -> None:
    path = slices.write_slice(tmp_path / "slice.gguf", "llama-mha")
    done = inside("quantize", path, tmp_path / "out.gguf", "Q8_0")
    assert done.returncode == 0
    assert done.stderr.startswith(f"warning: {path}: the model is not whole: blk.0.attn_k.weight")
    assert done.stderr.endswith("llama.cpp will not load what is made of it\n")


@pytest.mark.parametrize("command", ["attention", "compare-attention"])
def test_a_pass_names_the_first(command: str, part: Path) -> None:
    refused(inside(command, part), str(part), "tensor 'blk.1.attn_k.weight' is missing")


def test_metadata_may_be_put_right(tmp_path: Path) -> None:
    """A model that lost layers, and whose count of them was left as it was."""
    small = SMALL["llama-gqa"]
    tensors = {name: x for name, x in small.tensors().items() if not name.startswith("blk.2.")}
    source = write(tmp_path / "m.gguf", small, tensors)
    request = Request(source, {tmp_path / "out.gguf": "Q8_0"})
    with pytest.raises(errors.NotWhole, match=r"blk\.2\.attn_norm\.weight is missing"):
        prepare(request)
    quantize_model(
        source,
        {tmp_path / "out.gguf": "Q8_0"},
        overrides=parse_overrides(["llama.block_count=int:2"]),
    )
    assert "llama" in inside("list", tmp_path / "out.gguf").stdout
    assert inside("list", tmp_path / "out.gguf").stderr == ""


@pytest.mark.parametrize("pruned", ["0", "0,2"])
def test_pruned_layers_leave_a_whole_model(pruned: str, tmp_path: Path) -> None:
    source = write(tmp_path / "m.gguf", SMALL["qwen3"])
    target = tmp_path / "out.gguf"
    assert inside("quantize", "--prune-layers", pruned, source, target, "F16").returncode == 0
    assert inside("list", target).stderr == ""


@pytest.mark.parametrize(
    "words",
    [
        ("quantize", "{}", "{}.out", "Q8_0"),
        ("quantize", "{}", "{}.out", "Q8_0", "--force"),
        ("attention", "{}"),
        ("attention", "{}", "--verify"),
        ("compare-attention", "{}", "--types", "Q8_0"),
        ("compare-attention", "{sample}", "--against", "{}"),
    ],
    ids=" ".join,
)
def test_zeros_from_one_tensor_on_are_named(
    words: tuple[str, ...], sample: Path, tmp_path: Path
) -> None:
    with open_gguf(sample) as file:
        names = list(file.tensors)
    path = cut_off(sample, tmp_path / "m.gguf", names[20])
    left = len(names) - 20
    done = inside(
        *(word.replace("{sample}", str(sample)).replace("{}", str(path)) for word in words)
    )
    said = f"{path}: every tensor from {names[20]!r} on is zero, {left} of {len(names)}: "
    refused(done, said + "an unfinished download?")
    assert "download it again" in done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["m.gguf"]
