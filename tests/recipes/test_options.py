from __future__ import annotations

import gguf
import pytest

from ggufscope.errors import BadPruning, BadTypeRule, HyperparameterError, UnknownPreset
from ggufscope.model.file_types import FILE_TYPES
from ggufscope.recipes.mixes import ALIASES, MIXES, mix_named
from ggufscope.recipes.options import TypeRule, parse_layers, parse_type_rules
from ggufscope.recipes.order import pruned_names, written_order
from ggufscope.recipes.traits import traits_of
from tests.shapes import WHOLES


def test_a_type_rule_is_a_name_in_lower_case_and_a_type() -> None:
    rule = TypeRule.parse(r"BLK\.[0-3]\.ffn_DOWN=Q6_k")
    assert rule.type.name == "Q6_K"
    assert rule.names("blk.3.ffn_down.weight")
    assert not rule.names("blk.4.ffn_down.weight")


@pytest.mark.parametrize("text", ["ffn_down", "=q8_0", "ffn_down=", "ffn_down=q9", "(=q8_0", ""])
def test_a_type_rule_that_makes_no_sense(text: str) -> None:
    with pytest.raises(BadTypeRule):
        TypeRule.parse(text)


def test_rules_in_a_file() -> None:
    rules = parse_type_rules("ffn_down=q8_0\n  attn_v=q6_k\tattn_k=f16\n")
    assert [rule.type.name for rule in rules] == ["Q8_0", "Q6_K", "F16"]


def test_layers_to_prune() -> None:
    assert parse_layers("7,3,3,12") == (3, 7, 12)
    for text in ("", "a", "1,,2", "-1"):
        with pytest.raises(BadPruning):
            parse_layers(text)


def test_presets_go_by_name_alias_and_number() -> None:
    assert {mix_named(text).name for text in ("Q4_K_M", "q4_k_m", "Q4_K", "15")} == {"Q4_K_M"}
    assert mix_named("0").name == "F32"
    assert set(ALIASES.values()) < set(MIXES)
    for text in ("Q4_K_XL", "", "4", "39", "NVFP4"):  # llama-quantize has no preset for NVFP4
        with pytest.raises(UnknownPreset):
            mix_named(text)


def test_file_types_have_the_numbers_of_the_gguf_package() -> None:
    theirs = {int(number): number.name for number in gguf.LlamaFileType}
    for mix in MIXES.values():
        if mix.file_type is not None and mix.file_type in theirs:
            assert theirs[mix.file_type].split("_", 1)[1] == mix.name
    assert {mix.file_type for mix in MIXES.values()} - {None} == set(FILE_TYPES) - {39}


def test_tensors_are_written_by_layer_then_as_bytes() -> None:
    names = [
        "blk.10.a",
        "blk.2.b",
        "blk.2.a",
        "token_embd.weight",
        "enc.blk.0.a",
        "blk.x",
        "é",
        "z",
    ]
    assert written_order(names) == [
        "blk.x",
        "enc.blk.0.a",
        "token_embd.weight",
        "z",
        "é",
        "blk.2.a",
        "blk.2.b",
        "blk.10.a",
    ]


def test_pruning_renumbers() -> None:
    names = ["a", *(f"blk.{n}.w" for n in range(6))]
    kept, left = pruned_names(names, (2, 4))
    assert kept == {"a": "a", "blk.0.w": "blk.0.w", "blk.1.w": "blk.1.w"} | {
        "blk.3.w": "blk.2.w",
        "blk.5.w": "blk.3.w",
    }
    assert left == 4
    assert pruned_names(names, ())[1] is None


@pytest.mark.parametrize(
    ("name", "seventy_b"),
    [("Llama-3-70B", True), ("Llama-65B", False), ("Qwen2-72B", True), ("Mixtral-8x7B", False)],
)
def test_who_is_70b(name: str, seventy_b: bool) -> None:
    assert traits_of(WHOLES[name]().metadata).seventy_b is seventy_b


def test_the_router_of_graniteswitch_is_a_layer() -> None:
    base = {"block_count": 40, "attention.head_count": 32}
    metadata = {f"graniteswitch.{key}": value for key, value in base.items()}
    assert traits_of({"general.architecture": "graniteswitch", **metadata}).layers == 41


def test_a_model_without_metadata_cannot_be_planned() -> None:
    with pytest.raises(HyperparameterError):
        traits_of({})
