"""What a file is called against what it is, and its types written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from ggufscope.checking.findings import Grade
from ggufscope.container.file import open_gguf
from ggufscope.recipes.apply import quantize_model
from ggufscope.recipes.metadata import parse_overrides
from ggufscope.recipes.options import PlanOptions, parse_type_rules
from tests.checking.models import checked, the_one

MADE = ["F16", "BF16", "Q8_0", "Q4_0", "Q2_K", "Q4_K_M", "Q5_K_S", "IQ4_XS", "MXFP4_MOE", "TQ2_0"]


@pytest.fixture(scope="module")
def made(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("made")
    targets = {folder / f"{preset}.gguf": preset for preset in MADE}
    quantize_model(sample, targets)
    return {preset: path for path, preset in targets.items()}


@pytest.mark.parametrize("preset", MADE)
def test_the_sample_and_what_quantizing_makes_of_it_are_sound(
    preset: str, made: dict[str, Path]
) -> None:
    found = checked(made[preset])
    assert (found.verdict, found.recipe, found.findings) == ("sound", preset, ())


def test_a_few_types_by_hand_are_a_note(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    options = PlanOptions(tensor_types=parse_type_rules("attn_output=q8_0"))
    quantize_model(sample, {path: "Q4_K_M"}, options=options)
    finding = the_one(path, "recipe")
    assert finding.grade is Grade.NOTE
    assert finding.what == (
        "called Q4_K_M, is Q4_K_M but for 4 of 30 matrices, the first 'blk.0.attn_output.weight' "
        "(Q8_0)"
    )
    assert checked(path).recipe == "Q4_K_M but for 4 tensors"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (7, "called Q8_0; 30 of 30 matrices have other types"),
        (18, "matrices have other types, the first 'output.weight' (Q6_K): it is Q4_K_M"),
    ],
)
def test_a_file_that_is_called_another_is_a_warning(
    number: int, words: str, sample: Path, tmp_path: Path
) -> None:
    path = tmp_path / "m.gguf"
    overrides = parse_overrides([f"general.file_type=int:{number}"])
    quantize_model(sample, {path: "Q4_K_M"}, overrides=overrides)
    finding = the_one(path, "recipe")
    assert finding.grade is Grade.WARNING
    assert words.split(",")[0] in finding.what
    assert finding.what.endswith(": it is Q4_K_M")


def test_a_mixture_of_about_the_size_of_its_name_is_a_note(sample: Path, tmp_path: Path) -> None:
    """As the mixes are that this program chooses, and those of others with types by hand."""
    path, plain = tmp_path / "m.gguf", tmp_path / "plain.gguf"
    quantize_model(sample, {plain: "Q4_K_S"})
    options = PlanOptions(tensor_types=parse_type_rules("attn=q5_k ffn_down=q3_k ffn_up=q5_k"))
    quantize_model(sample, {path: "Q4_K_S"}, options=options)
    finding = the_one(path, "recipe")
    assert finding.grade is Grade.NOTE
    assert finding.what.startswith("called Q4_K_S; 20 of 30 matrices have other types")
    assert finding.what.endswith(": it is a mixture of its own")
    with open_gguf(path) as mixed, open_gguf(plain) as usual:
        sizes = [
            sum(t.nbytes for t in file.tensors.values() if len(t.shape) > 1)
            for file in (mixed, usual)
        ]
    more = round(100 * (sizes[0] / sizes[1] - 1))
    assert f"its matrices take {more} % more than those of Q4_K_S" in finding.meaning
    assert checked(path).verdict == "sound: 1 note"


def test_a_mixture_of_another_size_than_its_name_says_is_a_warning(
    sample: Path, tmp_path: Path
) -> None:
    path = tmp_path / "m.gguf"
    options = PlanOptions(tensor_types=parse_type_rules("ffn=q8_0"))
    quantize_model(sample, {path: "Q4_K_M"}, options=options)
    finding = the_one(path, "recipe")
    assert finding.grade is Grade.WARNING
    assert finding.meaning.startswith("the name tells the wrong size and quality: its matrices")


def test_a_number_that_is_no_recipe_is_a_note(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    quantize_model(sample, {path: "Q8_0"}, overrides=parse_overrides(["general.file_type=int:999"]))
    assert "999, a recipe that this program does not know" in the_one(path, "recipe").what
    assert checked(path).recipe == "Q8_0"


@pytest.mark.parametrize("preset", ["Q4_K_M", "Q2_K", "IQ4_XS"])
def test_types_written_down_give_these_types_again(
    preset: str, made: dict[str, Path], sample: Path, tmp_path: Path
) -> None:
    rules = parse_type_rules(checked(made[preset]).type_rules)
    path = tmp_path / "again.gguf"
    quantize_model(sample, {path: "Q8_0"}, options=PlanOptions(tensor_types=rules))
    with open_gguf(made[preset]) as first, open_gguf(path) as second:
        types = [{n: t.type.name for n, t in file.tensors.items()} for file in (first, second)]
    assert types[0] == types[1]
