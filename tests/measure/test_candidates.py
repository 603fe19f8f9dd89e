"""Candidates: which tensors get which type, and that memory and file give the same to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ggufscope.blocks.layouts import LAYOUTS
from ggufscope.container.file import open_gguf
from ggufscope.errors import (
    DifferentModels,
    GGUFScopeError,
    ImportanceNeeded,
    NotInModel,
    UnknownPreset,
    UnknownType,
)
from ggufscope.measure import candidates
from ggufscope.measure.compare import compare
from ggufscope.measure.comparison import CandidateDifference
from ggufscope.model.roles import role_of
from ggufscope.recipes.apply import quantize_model
from ggufscope.recipes.options import PlanOptions
from tests.measure.altered import altered

IDS = [0, 896, 317, 260, 462, 451, 285]


def _numbers(candidate: CandidateDifference) -> Any:
    """All that was measured; not the name, and not how many tensors are of which type."""
    return (
        candidate.layers,
        candidate.other_tensors,
        candidate.kl_divergence,
        candidate.top1_agreement,
        candidate.perplexity,
        candidate.bits_per_weight,
    )


@pytest.mark.parametrize(
    ("name", "pure"),
    [("Q8_0", True), ("Q4_K", True), ("Q2_K", True), ("Q6_K", True), ("Q4_K_M", False)],
)
def test_memory_and_file_agree_to_the_bit(
    name: str, pure: bool, sample: Path, tmp_path: Path
) -> None:
    target = tmp_path / "made.gguf"
    quantize_model(sample, {target: name}, options=PlanOptions(pure=pure))
    kept: dict[tuple[int, int], Any] = {}
    with open_gguf(sample) as file, open_gguf(target) as other:
        make = candidates.of_types if pure else candidates.of_recipes
        runs = [*make(file, [name]), candidates.of_file(file, other)]
        memory, written = compare(
            file, IDS, runs, keep=lambda run, layer, maps: kept.__setitem__((run, layer), maps)
        ).candidates
    assert _numbers(memory) == _numbers(written)
    assert memory.verdict.effect == written.verdict.effect
    assert memory.verdict.making is None
    assert written.verdict.making is not None
    assert written.verdict.making.identical == written.verdict.making.tensors == 39
    for layer in range(4):
        assert kept[1, layer].tobytes() == kept[2, layer].tobytes()


def test_a_type_is_that_of_every_matrix_that_llama_quantize_would_take(sample: Path) -> None:
    with open_gguf(sample) as file:
        (found,) = candidates.of_types(file, ["q4_k"])
        matrices = {name for name, tensor in file.tensors.items() if len(tensor.shape) == 2}
    assert found.name == "Q4_K"
    assert set(found.types) == matrices
    assert set(found.types.values()) == {"Q4_K"}


@pytest.mark.parametrize(
    ("part", "groups"), [("attention", {"attention"}), ("ffn", {"feed-forward"})]
)
def test_a_part_is_no_more_than_that(part: Any, groups: set[str], sample: Path) -> None:
    with open_gguf(sample) as file:
        (found,) = candidates.of_types(file, ["Q2_K"], part)
        difference = compare(file, IDS, [found]).candidates[0]
    assert {role_of(name).group for name in found.types} == groups
    assert {tensor.name for tensor in difference.tensors} == set(found.types)
    assert difference.name == f"Q2_K ({part})"
    assert difference.weight_error.relative > 0.1
    assert not difference.other_tensors
    if part == "ffn":  # the first layer's attention comes before any feed-forward
        assert all(head.total_variation == 0 for head in difference.layers[0].heads)


def test_a_name_is_a_type_or_a_preset(sample: Path) -> None:
    with open_gguf(sample) as file:
        assert candidates.of_name(file, "q4_k") == candidates.of_types(file, ["Q4_K"])[0]
        assert candidates.of_name(file, "Q4_K_M") == candidates.of_recipes(file, ["Q4_K_M"])[0]
        by_name = compare(file, IDS, ["Q8_0"])
        assert by_name == compare(file, IDS, candidates.of_types(file, ["Q8_0"]))
        with pytest.raises(UnknownPreset):
            candidates.of_name(file, "Q9")


def test_rows_that_do_not_divide_fall_back(make: Any) -> None:
    with open_gguf(make("llama-gqa")) as file:  # rows of 32 and 48
        (found,) = candidates.of_types(file, ["Q4_K"])
    assert set(found.types.values()) <= {"Q5_0", "F16"}
    assert found.types["blk.0.attn_q.weight"] == "Q5_0"


def test_every_type_that_can_be_made_can_be_asked_for(sample: Path) -> None:
    with open_gguf(sample) as file:
        for name in ("NVFP4", "MXFP4", "TQ1_0", "IQ4_XS", "BF16", "Q5_1"):
            (found,) = candidates.of_types(file, [name])
            assert set(found.types.values()) == {LAYOUTS[name].name}
        assert candidates.of_types(file, ["F16"])[0].types == {}


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (("of_types", "Q4_K_M"), UnknownType),
        (("of_types", "Q9_9"), UnknownType),
        (("of_types", "Q8_K"), GGUFScopeError),
        (("of_types", "IQ2_XXS"), ImportanceNeeded),
        (("of_recipes", "Q9_K_XL"), UnknownPreset),
        (("of_recipes", "IQ1_S"), ImportanceNeeded),
    ],
)
def test_what_cannot_be_made_is_refused(
    asked: tuple[str, str], error: type[GGUFScopeError], sample: Path
) -> None:
    with open_gguf(sample) as file, pytest.raises(error) as caught:
        getattr(candidates, asked[0])(file, [asked[1]])
    assert caught.value.hint


def test_a_mixture_asked_for_as_a_type_is_told_apart(sample: Path) -> None:
    with open_gguf(sample) as file, pytest.raises(UnknownType) as caught:
        candidates.of_types(file, ["Q4_K_M"])
    assert "--recipe Q4_K_M" in caught.value.hint


def test_the_cache_alone_keys_and_values_apart(sample: Path) -> None:
    with open_gguf(sample) as file:
        keys, values, both = compare(file, IDS, candidates.of_cache("q4_0", "q8_0")).candidates
    assert [each.name for each in (keys, values, both)] == ["K Q4_0", "V Q8_0", "KV Q4_0/Q8_0"]
    assert all(not each.tensors for each in (keys, values, both))
    # Values do not touch the attention of their own layer; keys do.
    assert all(head.total_variation == 0 for head in values.layers[0].heads)
    assert any(head.output_error > 0 for head in values.layers[0].heads)
    assert any(head.total_variation > 0 for head in keys.layers[0].heads)
    assert both.layers[0].heads[0].total_variation == keys.layers[0].heads[0].total_variation


def test_a_cache_of_plain_float32_changes_nothing(sample: Path) -> None:
    with open_gguf(sample) as file:
        (same,) = compare(file, IDS, [candidates.of_cache("F32", "F32")[0]]).candidates
    assert {head.largest_difference for head in same.heads} == {0}
    assert set(same.kl_divergence) == {0}
    assert same.verdict.accepted


def test_layers_and_heads_that_there_are_not() -> None:
    candidates.require_layer(4, [8] * 4, 3, 7)
    for place in ((4, None), (-1, None), (None, 8), (0, 8), (0, -1), (99, None)):
        with pytest.raises(NotInModel) as caught:
            candidates.require_layer(4, [8] * 4, *place)
        assert "0 to " in caught.value.hint


def test_another_model_is_not_compared(sample: Path, make: Any, tmp_path: Path) -> None:
    with open_gguf(sample) as file:
        with (
            open_gguf(make("llama-gqa")) as other,
            pytest.raises(DifferentModels, match=r"block count is 3, not 4"),
        ):
            candidates.of_file(file, other)
        with (
            open_gguf(make("gemma2")) as other,
            pytest.raises(DifferentModels, match=r"architecture is gemma2, not llama"),
        ):
            candidates.of_file(file, other)
        same = altered(file, tmp_path / "same.gguf", {})
        with open_gguf(same) as other:
            assert candidates.of_file(file, other).name == "same.gguf"


def test_another_vocabulary_or_shape_is_another_model(make: Any, tmp_path: Path) -> None:
    from tests.models import makers

    def written(name: str, **changes: Any) -> Path:
        recipe = makers.RECIPES["llama-gqa"]()
        recipe.metadata["tokenizer.ggml.tokens"] = changes.get("tokens", ["a", "b"])
        recipe.shapes |= changes.get("shapes", {})
        return makers.write_recipe(tmp_path / name, recipe)

    with open_gguf(written("one.gguf")) as file:
        for name, changes, said in (
            ("tokens.gguf", {"tokens": ["a", "c"]}, "vocabulary is as many others, not 2 tokens"),
            ("longer.gguf", {"tokens": ["a", "b", "c"]}, "vocabulary is 3 tokens, not 2 tokens"),
            ("shape.gguf", {"shapes": {"blk.1.ffn_up.weight": (48, 33)}}, "blk.1.ffn_up.weight"),
            ("more.gguf", {"shapes": {"blk.1.attn_q.bias": (32,)}}, "absent"),
        ):
            with (
                open_gguf(written(name, **changes)) as other,
                pytest.raises(DifferentModels, match=said),
            ):
                candidates.of_file(file, other)


def test_what_a_converter_left_out_does_not_matter(sample: Path, tmp_path: Path) -> None:
    from tests.models import makers

    full, sparse = makers.RECIPES["llama-gqa"](), makers.RECIPES["llama-gqa"]()
    del sparse.hparams["context_length"], sparse.hparams["rope.dimension_count"]
    sparse.metadata["general.name"] = "another name"
    with (
        open_gguf(makers.write_recipe(tmp_path / "full.gguf", full)) as file,
        open_gguf(makers.write_recipe(tmp_path / "sparse.gguf", sparse)) as other,
    ):
        found = compare(file, [1, 2, 3], [candidates.of_file(file, other)]).candidates[0]
    assert found.tensors == ()
    assert found.verdict.accepted


def test_one_reading_serves_all(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tensor of the file is dequantized once, however many candidates there are."""
    from ggufscope.forward import weights

    read: list[tuple[str, int]] = []
    blocks = weights._StoredMatrix.blocks

    def counted(self: Any, start: int, stop: int) -> Any:
        read.append((self.name, start))
        return blocks(self, start, stop)

    monkeypatch.setattr(weights._StoredMatrix, "blocks", counted)
    with open_gguf(sample) as file:
        compare(file, IDS, candidates.of_types(file, ["Q8_0", "Q4_K", "Q2_K"]))
    matrices = [place for place in read if ".attn_" in place[0] or ".ffn_" in place[0]]
    matrices = [place for place in matrices if "norm" not in place[0]]
    assert len(matrices) == len(set(matrices)) > 20


def test_no_more_than_a_layer_is_held(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the file stores it, where windows come back to it; and each candidate's blocks of it."""
    from ggufscope.forward.held import LayerWeights
    from ggufscope.forward.remembered import RememberedWeights

    held: dict[type, list[int]] = {LayerWeights: [], RememberedWeights: []}

    def count(view: Any) -> None:
        release = view.release

        def counted(self: Any) -> None:
            held[view].append(self.nbytes)
            release(self)

        monkeypatch.setattr(view, "release", counted)

    count(LayerWeights)
    count(RememberedWeights)
    with open_gguf(sample) as file:
        compare(file, IDS, ["Q8_0"], context=4)
        layer = [t for t in file.tensors.values() if t.name.startswith("blk.0.")]
        weights = sum(tensor.info.n_elements for tensor in layer)
        stored = sum(tensor.nbytes for tensor in layer)
        once = [max(sizes[1:5]) for sizes in held.values()]
        compare(file, IDS, ["Q8_0"])
    assert len(held[LayerWeights]) == 2 * (4 + 2)  # the embeddings, each layer, the output
    assert stored / 2 < once[0] <= stored
    assert weights < once[1] < 1.1 * weights  # 34 bytes for 32
    assert max(held[LayerWeights][6:]) < stored / 100  # a single window takes all at once
    assert max(held[RememberedWeights][7:11]) == once[1]
