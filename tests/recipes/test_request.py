"""The one road of quantizing: the library and the command plan, name and write alike."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ggufscope import errors, plan, quantize_model
from ggufscope.blocks.layouts import LAYOUTS
from ggufscope.container.file import open_gguf
from ggufscope.container.header import Metadata
from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Value
from ggufscope.container.writer import GGUFWriter, TensorSpec
from ggufscope.recipes.apply import run
from ggufscope.recipes.metadata import overridden, parse_overrides
from ggufscope.recipes.mixes import mix_named
from ggufscope.recipes.options import PlanOptions, TypeRule
from ggufscope.recipes.request import Request, prepare
from tests.recipes import golden
from tests.slices import write_slice

OVERRIDDEN = [case for case in golden.load("options") if "--override-kv" in case["arguments"]]


@pytest.mark.parametrize("case", OVERRIDDEN, ids=lambda case: case["arguments"][-1])
def test_what_is_overridden_changes_types_as_in_llama_quantize(case: Any, tmp_path: Path) -> None:
    source = write_slice(tmp_path / "source.gguf", case["model"])
    target = tmp_path / "out.gguf"
    overrides = parse_overrides(case["arguments"][1::2])
    quantize_model(source, {target: case["preset"]}, overrides=overrides)
    assert hashlib.sha256(target.read_bytes()).hexdigest() == case["sha256"]


def _metadata(**pairs: int | float | str) -> dict[str, Value]:
    types = {int: ValueType.UINT16, float: ValueType.FLOAT64, str: ValueType.STRING}
    return {key: Value.of(types[type(data)], data) for key, data in pairs.items()}


@pytest.mark.parametrize(
    ("override", "counts"),
    [
        ("number=int:4", True),
        ("number=float:4", False),
        ("number=str:4", False),
        ("text=str:b", True),
        ("text=int:1", False),
        ("real=float:0.5", True),
        ("new=int:4", True),
        ("new=str:4", False),
        ("x.attention.head_count_kv=int:4", False),
    ],
)
def test_an_override_counts_where_it_is_of_the_kind_that_is_there(
    override: str, counts: bool
) -> None:
    source = Metadata(_metadata(number=1, text="a", real=1.5))
    ((key, value),) = parse_overrides([override]).items()
    found = overridden(source, {key: value})
    assert found.get(key) == (value.data if counts else source.get(key))
    assert [*source] == ["number", "text", "real"]


def test_pruned_layers_are_counted_under_the_architecture_that_is_written(
    sample: Path, tmp_path: Path
) -> None:
    """llama-quantize names the key after the architecture that it was told to read."""
    overrides = parse_overrides(["general.architecture=str:qwen2", "qwen2.block_count=int:8"])
    request = Request(
        sample,
        {tmp_path / "out.gguf": "Q8_0"},
        options=PlanOptions(prune_layers=(1,)),
        overrides=overrides,
    )
    (target,) = prepare(request).targets
    written = target.files[0].metadata
    layers = open_gguf(sample).metadata["llama.block_count"]
    assert written["qwen2.block_count"].data == layers - 1
    assert written["llama.block_count"].data == layers


def test_nothing_is_touched_before_the_run(sample: Path, tmp_path: Path) -> None:
    source = tmp_path / "model-f16.gguf"
    source.write_bytes(sample.read_bytes())
    prepared = prepare(Request(source, ["Q8_0", "q4_k"], directory=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["model-f16.gguf"]
    named = [file.path.name for file in prepared.files]
    assert named == ["model-Q8_0.gguf", "model-Q4_K_M.gguf"]
    results = run(prepared)
    for target, result in zip(prepared.targets, results, strict=True):
        assert result.plan is target.plan
        assert result.nbytes == target.nbytes
        assert [path.stat().st_size for path in result.paths] == [f.nbytes for f in target.files]
    with pytest.raises(errors.TargetExists):
        run(prepared)


def test_targets_are_named_after_the_source(sample: Path, tmp_path: Path) -> None:
    source = tmp_path / "model.gguf"
    source.write_bytes(sample.read_bytes())
    (result,) = quantize_model(source, ["Q8_0"])
    assert result.paths == (tmp_path / "model-Q8_0.gguf",)
    with pytest.raises(errors.BadUsage, match="two of the types give one target"):
        quantize_model(source, ["Q8_0", "q8_0"])


def test_a_plan_that_cannot_be_run_can_be_read(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "out.gguf").write_bytes(b"there")
    for preset, kind in (
        ("IQ2_XS", errors.ImportanceNeeded),
        ("Q8_0", errors.TargetExists),
    ):
        prepared = prepare(Request(sample, {tmp_path / "out.gguf": preset}))
        assert prepared.targets[0].nbytes > 1000
        with pytest.raises(kind):
            prepared.require_runnable()


def test_what_is_odd_about_the_source_is_said(sample: Path, tmp_path: Path) -> None:
    source = tmp_path / "long.gguf"
    source.write_bytes(sample.read_bytes() + b"more")
    said: list[str] = []
    prepare(Request(source, ["Q8_0"]), said.append)
    assert said == [f"{source}: 4 bytes after the last tensor belong to none"]


def test_an_error_names_the_source(sample: Path) -> None:
    with pytest.raises(errors.HyperparameterError, match=str(sample)):
        prepare(Request(sample, ["Q8_0"], overrides=parse_overrides(["llama.block_count=int:999"])))


@pytest.mark.parametrize("make", [list, tuple, np.array, lambda numbers: np.array(numbers, "u1")])
def test_a_number_for_each_layer_may_be_a_plain_list(make: Any, sample: Path) -> None:
    with open_gguf(sample) as file:
        tensors, plain = file.tensors.values(), dict(file.metadata)
        layers = plain["llama.block_count"]
        heads: Sequence[int] = make([plain["llama.attention.head_count_kv"]] * layers)
        listed = {**plain, "llama.attention.head_count_kv": heads}
        assert plan(tensors, listed, "Q2_K") == plan(tensors, plain, "Q2_K")
        wrongs: list[Any] = [
            [1.5] * layers,
            ["a"] * layers,
            [[1] * 10**6] * layers,
            [1] * 10**6,
            {},
        ]
        for wrong in wrongs:
            with pytest.raises(errors.HyperparameterError) as caught:
                plan(tensors, {**listed, "llama.attention.head_count_kv": wrong}, "Q2_K")
            assert len(str(caught.value)) < 200


@pytest.mark.parametrize("ask", [mix_named, TypeRule.parse, lambda text: parse_overrides([text])])
def test_long_values_are_not_printed_in_full(ask: Callable[[str], object]) -> None:
    with pytest.raises(errors.RecipeError) as caught:
        ask("x" * 10**6)
    assert len(caught.value.message) < 200


def test_one_preset_needs_no_list(sample: Path) -> None:
    (target,) = prepare(Request(sample, "Q8_0")).targets
    assert target.paths == (sample.with_name("stories-Q8_0.gguf"),)


def test_weights_that_ggml_ends_at_are_named(tmp_path: Path) -> None:
    name, x = "blk.0.ffn_up.weight", np.ones((300, 256), np.float32)
    x[270, 5:7] = 1e30, 2e29
    source, target = tmp_path / "huge.gguf", tmp_path / "out.gguf"
    with GGUFWriter(
        source,
        {
            "general.architecture": Value.of(ValueType.STRING, "none"),
            "none.block_count": Value.of(ValueType.UINT32, 1),
        },
        [TensorSpec(name, x.shape, LAYOUTS["F32"])],
    ) as writer:
        writer.write(name, x)
    options = PlanOptions(tensor_types=(TypeRule.parse("ffn_up=iq3_s"),))
    with pytest.raises(errors.UnmakeableBlock, match=f"'{name}', row 270, as IQ3_S: squares"):
        quantize_model(source, {target: "Q8_0"}, options=options)
    assert not target.exists()
