"""Named shapes against models described by others, and what real llama-quantize said of those."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import pytest

from ggufscope.errors import RecipeError, UnknownShape
from ggufscope.recipes.mixes import MIXES
from ggufscope.recipes.plan import plan
from ggufscope.sizing.file_size import preset_sizes
from ggufscope.sizing.names import shape_named
from ggufscope.sizing.shapes import SHAPES
from tests.recipes import golden
from tests.recipes.test_sizes import TABLE
from tests.shapes import WHOLES

GOLDEN: Any = golden.load("shapes")

# What a converter adds to the parameters: factors of the rotation, and biases of the router.
ADDED = {"llama-3.1-8b": 64, "llama-3.1-70b": 64, "deepseek-v3": 58 * 256}


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


def test_names_are_taken_in_any_case() -> None:
    assert shape_named("Llama_3.1-8B") is SHAPES["llama-3.1-8b"]
    with pytest.raises(UnknownShape) as caught:
        shape_named("llama-5-9b")
    assert "mixtral-8x7b" in caught.value.hint
