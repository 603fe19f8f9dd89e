"""The plan, held to what real llama-quantize did (golden/quantize)."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ggufscope import GGUFFile
from ggufscope.blocks.layouts import LAYOUTS, ForeignType, layout_named
from ggufscope.container.tensor_info import TensorInfo, padded
from ggufscope.container.values import Value
from ggufscope.errors import (
    AlreadyQuantized,
    BadPruning,
    HeadsUnknown,
    ImportanceNeeded,
    LayerUnknown,
    NoFallback,
    NotConvertible,
    RecipeError,
    TypeDoesNotFit,
)
from ggufscope.recipes.metadata import overridden, parse_overrides
from ggufscope.recipes.mixes import MIXES
from ggufscope.recipes.options import PlanOptions, TypeRule, parse_layers
from ggufscope.recipes.plan import Plan, plan
from tests import slices
from tests.recipes.golden import by_stem, load, unfold
from tests.shapes import WHOLES, Stated

Sliced = Callable[[str], GGUFFile]

# What llama-quantize said -> what is raised here, by the plan or when it is to be carried out.
REFUSALS: dict[str, type[RecipeError]] = {
    "requires an imatrix": ImportanceNeeded,
    "requantizing from type": AlreadyQuantized,
    "no tensor type fallback": NoFallback,
    "llama-hparams.cpp": HeadsUnknown,  # it aborts
    "not divisible by block size": TypeDoesNotFit,  # it aborts
    "duplicate tensor name": BadPruning,  # it aborts
    "validation failed": TypeDoesNotFit,  # it has quantized past the end of a row
}


def _padded(made: Plan) -> int:
    """Bytes of the data section of its file."""
    return sum(padded(tensor.nbytes, 32) for tensor in made.tensors)


def refusal(said: str) -> type[RecipeError]:
    (kind,) = (kind for words, kind in REFUSALS.items() if words in said)
    return kind


def types_of(made: Plan) -> dict[str, list[str]]:
    return by_stem((tensor.name, tensor.target.name) for tensor in made.tensors)


def check(make: Callable[[], Plan], golden: Any, types: Any) -> Plan | None:
    """Hold a plan to golden data; gives it where llama-quantize went through with it."""
    if "refused" in golden:
        with pytest.raises(refusal(golden["refused"])):
            make().require_runnable()
    if types is None:
        return None
    made = make()
    assert types_of(made) == types
    if "refused" in golden:
        return None
    made.require_runnable()
    return made


@pytest.mark.parametrize("kind", [*slices.SLICES, "stories"])
def test_every_preset_on_every_slice(kind: str, sliced: Sliced) -> None:
    golden, model = load(kind), sliced(kind)
    assert set(golden["presets"]) == set(MIXES)
    headers = set()
    for preset, entry in golden["presets"].items():
        types = unfold(entry["types"], golden["always"]) if "types" in entry else None
        made = check(partial(plan, model.tensors.values(), model.metadata, preset), entry, types)
        if made is not None:
            assert [tensor.name for tensor in made.tensors] == golden["written"]
            headers.add(entry["nbytes"] - _padded(made))
    assert len(headers) == 1  # the same metadata and names in each: the rest was planned exactly


@pytest.mark.parametrize("kind", slices.SLICES)
def test_every_preset_with_an_importance_matrix(kind: str, sliced: Sliced) -> None:
    golden, model = load(kind), sliced(kind)
    options = PlanOptions(importance=True)
    headers = set()
    for preset, entry in golden["with importance"].items():
        short = entry.get("types", golden["presets"][preset].get("types"))
        types = unfold(short, golden["always"]) if short is not None else None
        make = partial(plan, model.tensors.values(), model.metadata, preset, options)
        made = check(make, entry, types)
        if made is not None:
            headers.add(entry["nbytes"] - _padded(made))
    assert len(headers) == 1


@pytest.mark.parametrize("name", WHOLES)
def test_every_preset_on_models_of_full_size(name: str) -> None:
    golden, whole = load("whole")[name], WHOLES[name]()
    for preset in MIXES:
        made = plan(whole.tensors(), whole.metadata, preset)
        assert types_of(made) == unfold(golden[preset]["types"], golden["always"]), preset
        said = f"{made.nbytes / 2**20:.2f} MiB ({made.bits_per_weight:.2f} BPW)"
        assert said == golden[preset]["quant size"], preset


def options_of(arguments: Sequence[str]) -> tuple[PlanOptions, dict[str, Value]]:
    """llama-quantize's arguments as options, and what they override in the metadata."""
    options, overrides, words = PlanOptions(), list[str](), iter(arguments)
    for word in words:
        match word:
            case "--pure":
                options = replace(options, pure=True)
            case "--leave-output-tensor":
                options = replace(options, leave_output_tensor=True)
            case "--keep-split":
                options = replace(options, keep_split=True)
            case "--allow-requantize":
                options = replace(options, allow_requantize=True)
            case "--output-tensor-type":
                options = replace(options, output_tensor_type=layout_named(next(words)))
            case "--token-embedding-type":
                options = replace(options, token_embedding_type=layout_named(next(words)))
            case "--tensor-type":
                rules = (*options.tensor_types, TypeRule.parse(next(words)))
                options = replace(options, tensor_types=rules)
            case "--prune-layers":
                options = replace(options, prune_layers=parse_layers(next(words)))
            case "--override-kv":
                overrides.append(next(words))
            case _:
                raise AssertionError(word)
    return options, parse_overrides(overrides)


def as_quantized(kind: str, preset: str, model: GGUFFile) -> list[Stated]:
    """The tensors of a slice that llama-quantize made into another preset before."""
    golden = load(kind)
    left = unfold(golden["presets"][preset]["types"], golden["always"])
    types = {}
    for name in golden["written"]:
        (stem,) = by_stem([(name, "")])
        types[name] = LAYOUTS[left[stem].pop(0)]
    return [Stated(name, model.tensors[name].shape, types[name]) for name in model.tensors]


@pytest.mark.parametrize(
    "case", load("options"), ids=lambda case: " ".join([case["model"], *case["arguments"]])
)
def test_every_option(case: Any, sliced: Sliced) -> None:
    kind, _, before = case["model"].partition("@")
    model = sliced(kind)
    tensors = as_quantized(kind, before, model) if before else list(model.tensors.values())
    options, overrides = options_of(case["arguments"])
    metadata = overridden(model.metadata, overrides)
    check(
        lambda: plan(tensors, metadata, case["preset"], options),
        case,
        unfold(case["types"]) if "types" in case else None,
    )


@pytest.mark.parametrize("kind", [*slices.SLICES, "stories"])
def test_the_golden_data_is_about_these_very_bytes(
    kind: str, sliced: Sliced, tmp_path: Path
) -> None:
    golden = load(kind)
    raw = sliced(kind).path.read_bytes()
    assert hashlib.sha256(raw).hexdigest() == golden["source"]["sha256"]
    assert len(raw) == golden["source"]["nbytes"]
    if kind in slices.SLICES:
        made = slices.write_importance(tmp_path / "made.imatrix", kind)
        assert hashlib.sha256(made.read_bytes()).hexdigest() == golden["importance"]["sha256"]


def test_the_order_of_the_source_does_not_matter_unless_it_is_to_be_kept(sliced: Sliced) -> None:
    model = sliced("llama-mha")
    shuffled = list(model.tensors.values())
    random.Random(1).shuffle(shuffled)
    assert plan(shuffled, model.metadata, "Q4_K_M") == plan(
        model.tensors.values(), model.metadata, "Q4_K_M"
    )
    kept = plan(shuffled, model.metadata, "Q4_K_M", PlanOptions(keep_split=True))
    assert [tensor.name for tensor in kept.tensors] == [tensor.name for tensor in shuffled]


def test_every_tensor_has_a_reason(sliced: Sliced) -> None:
    model = sliced("llama-ragged")
    made = plan(model.tensors.values(), model.metadata, "Q4_K_M")
    rules = {tensor.name: tensor.rule for tensor in made.tensors}
    assert rules["output_norm.weight"] == "kept: one row only"
    assert rules["blk.0.attn_q.weight"] == (
        "Q4_K_M: attn_q, the main type; Q4_K takes blocks of 256, rows of 288 do not divide"
    )
    fell = {tensor.name: (tensor.fallback_from, tensor.target.name) for tensor in made.fallbacks}
    assert fell["blk.0.ffn_up.weight"] == (LAYOUTS["Q4_K"], "Q5_0")
    assert fell["blk.2.ffn_down.weight"] == (LAYOUTS["Q6_K"], "F16")
    assert rules["blk.2.ffn_down.weight"] == (
        "Q4_K_M: ffn_down, in the first or last eighth, or every third between; "
        "Q6_K takes blocks of 256, rows of 272 do not divide"
    )


def test_a_plan_adds_up(sliced: Sliced) -> None:
    model = sliced("stories")
    made = plan(model.tensors.values(), model.metadata, "q4_k")
    assert (made.preset, made.file_type, made.block_count) == ("Q4_K_M", 15, None)
    assert made.source_nbytes == sum(tensor.nbytes for tensor in model.tensors.values())
    assert made.nbytes == sum(tensor.nbytes for tensor in made.tensors)
    assert made.n_elements == sum(tensor.info.n_elements for tensor in model.tensors.values())
    assert not made.needs_importance
    assert made.tensors[0].converted
    assert not made.tensors[1].converted
    assert plan([], model.metadata, "Q8_0").bits_per_weight == 0


def test_pruning_renames_and_counts(sliced: Sliced) -> None:
    model = sliced("llama-mha")
    made = plan(model.tensors.values(), model.metadata, "Q8_0", PlanOptions(prune_layers=(0, 8)))
    assert made.block_count == 8
    assert len(made.pruned) == 2 * 9
    last = made.tensors[-1]
    assert (last.name, last.source_name) == ("blk.7.ffn_up.weight", "blk.9.ffn_up.weight")


def test_a_copy_keeps_what_the_file_says_it_is(sliced: Sliced) -> None:
    model = sliced("llama-mha")
    tensors = model.tensors.values()
    assert plan(tensors, model.metadata, "COPY").file_type == 1024 + 1  # as llama.cpp guesses
    said = {**model.metadata, "general.file_type": 7}
    assert plan(tensors, said, "COPY").file_type == 7
    k_quants = as_quantized("llama-mha", "Q4_K_M", model)
    assert plan(k_quants, model.metadata, "COPY").file_type == 1024 + 15
    unguessed = as_quantized("llama-mha", "IQ4_XS", model)
    assert plan(unguessed, model.metadata, "COPY").file_type == 1024


def test_experts_must_name_their_layer(sliced: Sliced) -> None:
    model = sliced("mixtral")
    odd = TensorInfo("blk.10.ffn_down.weight", (256, 2), LAYOUTS["F16"], 0, 1024)
    for name in ("blk.10.ffn_down.weight", "ffn_up.weight", "v.blk.0.ffn_gate.weight"):
        with pytest.raises(LayerUnknown, match=name):
            plan([replace(odd, name=name)], model.metadata, "Q4_K_M")
        plan([replace(odd, name=name)], model.metadata, "MXFP4_MOE")


def test_what_cannot_be_converted_is_refused_when_it_is_to_be_done(sliced: Sliced) -> None:
    metadata = sliced("llama-mha").metadata
    foreign = TensorInfo("a.weight", (256, 2), ForeignType("type 133", 133), 0, 1024)
    made = plan([foreign], metadata, "Q8_0")
    assert made.nbytes == 1024
    with pytest.raises(NotConvertible, match="type 133"):
        made.require_runnable()
    whole = TensorInfo("a.weight", (256, 2), LAYOUTS["I32"], 0, 2048)
    with pytest.raises(NotConvertible, match="I32 to Q8_0"):
        plan([whole], metadata, "Q8_0").require_runnable()
    rule = PlanOptions(tensor_types=(TypeRule.parse("a=q8_1"),))
    with pytest.raises(NotConvertible, match="F16 to Q8_1"):
        plan([replace(whole, type=LAYOUTS["F16"])], metadata, "Q8_0", rule).require_runnable()


def test_errors_carry_a_hint(sliced: Sliced) -> None:
    model = sliced("llama-mha")
    with pytest.raises(ImportanceNeeded) as caught:
        plan(model.tensors.values(), model.metadata, "IQ2_XXS").require_runnable()
    assert "blk.0.attn_k.weight" in caught.value.message
    assert "quantize --imatrix" in caught.value.hint
