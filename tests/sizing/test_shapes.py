"""Named shapes against models described by others, and what real llama-quantize said of those."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ggufscope.container.file import open_gguf
from ggufscope.errors import RecipeError, SourceNotFound
from ggufscope.recipes.mixes import MIXES
from ggufscope.recipes.plan import plan
from ggufscope.sizing.file_size import preset_sizes
from ggufscope.sizing.shapes import SHAPES
from tests.recipes import golden
from tests.recipes.test_sizes import TABLE
from tests.shapes import WHOLES, Whole, write_hollow

GOLDEN: Any = golden.load("shapes")

# What a converter adds to the parameters: factors of the rotation, and biases of the router.
ADDED = {
    "llama-3.1-8b": 64,
    "llama-3.1-70b": 64,
    "llama-3.1-405b": 64,
    "llama-3.2-1b": 32,
    "llama-3.2-3b": 64,
    "llama-3.3-70b": 64,
    "deepseek-v3": 58 * 256,
}


def test_every_shape_has_golden_figures() -> None:
    assert set(SHAPES) == set(GOLDEN)


@pytest.mark.parametrize("name", SHAPES)
def test_parameters_are_those_of_the_model_itself(name: str) -> None:
    shape, real = SHAPES[name], GOLDEN[name]
    assert shape.architecture == real["architecture"]
    assert len(shape.tensors) == real["tensors"]
    assert shape.n_elements == real["elements"]
    assert shape.n_elements - ADDED.get(name, 0) == real["parameters"]


@pytest.mark.parametrize("name", SHAPES)
def test_every_preset_is_what_llama_quantize_says(name: str) -> None:
    shape, real = SHAPES[name], GOLDEN[name]["presets"]
    assert set(real) == set(MIXES)
    for preset, expected in real.items():
        if "refused" in expected:
            with pytest.raises(RecipeError, match="no fallback"):
                plan(shape.tensors, shape.metadata, preset)
            continue
        made = plan(shape.tensors, shape.metadata, preset)
        types = [(tensor.name, tensor.target.name) for tensor in made.tensors]
        listed = "".join(f"{tensor} {type_}\n" for tensor, type_ in types)
        assert dict(Counter(type_ for _, type_ in types)) == expected["types"], preset
        assert hashlib.sha256(listed.encode()).hexdigest()[:16] == expected["digest"], preset
        assert made.nbytes == expected["nbytes"], preset
        said = f"{made.nbytes / 2**20:.2f} MiB ({made.bits_per_weight:.2f} BPW)"
        assert said == expected["quant size"], preset


@pytest.mark.parametrize("row", TABLE.split("\n")[1:-1], ids=lambda row: row.split()[0])
def test_the_44_figures_that_were_found_before(row: str) -> None:
    preset, *figures = row.replace("/", " ").split()
    names = ("llama-2-7b", "mistral-7b", "llama-3.1-8b", "qwen2.5-7b")
    for name, gib, bits in zip(names, figures[::2], figures[1::2], strict=True):
        shape = SHAPES[name]
        (size,) = preset_sizes(shape.tensors, shape.metadata, [preset]).sizes
        assert f"{size.nbytes / 2**30:.3f}" == gib, name
        assert f"{size.bits_per_weight:.4f}" == bits, name


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("llama-2-7b", "Llama-2-7B"),
        ("mistral-7b", "Mistral-7B"),
        ("llama-3.1-8b", "Llama-3.1-8B"),
        ("llama-3.1-70b", "Llama-3-70B"),
        ("qwen2.5-7b", "Qwen2.5-7B"),
        ("mixtral-8x7b", "Mixtral-8x7B"),
    ],
)
def test_tensors_are_those_of_the_shapes_that_tests_have_of_their_own(
    name: str, whole: str
) -> None:
    named = {t.name: (t.shape, t.type.name) for t in SHAPES[name].tensors}
    assert named == {t.name: (t.shape, t.type.name) for t in WHOLES[whole]().tensors()}


def test_a_file_that_stores_the_copy_is_as_much_larger_as_is_said() -> None:
    for name, said in (("qwen3-0.6b", 156), ("qwen3-1.7b", 311)):
        shape = SHAPES[name]
        assert f"{said} M weights more" in shape.assumes
        hparams = shape.hparams
        assert round(hparams["vocab_size"] * hparams["embedding_length"] / 1e6) == said


def test_a_shape_is_what_a_header_would_say(tmp_path: Path) -> None:
    """The `gguf` package writes a file of these tensors and keys, and it reads the same."""
    shape = SHAPES["smollm2-135m"]
    tensors = {tensor.name: tensor.shape for tensor in shape.tensors}
    whole = Whole(shape.architecture, dict(shape.hparams), tensors)
    path = write_hollow(tmp_path / "hollow.gguf", whole, {"general.name": shape.name})
    mine = shape.as_file()
    with open_gguf(path) as written:
        assert dict(mine.metadata) == dict(written.metadata)
        infos = [tensor.info for tensor in mine.tensors.values()]
        assert infos == [tensor.info for tensor in written.tensors.values()]
        assert mine.nbytes == written.nbytes - written.header.data_offset
        assert (mine.warnings(), written.no_file) == ([], None)
    with pytest.raises(SourceNotFound, match="no weights here"):
        mine.tensor("token_embd.weight").data()
