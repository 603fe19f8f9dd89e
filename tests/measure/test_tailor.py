"""Mixes chosen by measurement: of the size asked for, better than presets, and recipes as any."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ggufscope import GGUFFile, open_gguf, read_tokenizer
from ggufscope.blocks.layouts import LAYOUTS
from ggufscope.errors import AlreadyQuantized, BadUsage
from ggufscope.forward.trace import Trace
from ggufscope.forward.transformer import Transformer
from ggufscope.measure.tailor import Tailored, Wish, tailor
from ggufscope.measure.windows import Halves, halves
from ggufscope.recipes.apply import quantize_model
from ggufscope.recipes.imatrix_file import read_imatrix, write_imatrix
from ggufscope.recipes.importance import Entry, ImportanceMatrix
from ggufscope.recipes.options import PlanOptions, TypeRule, parse_type_rules
from ggufscope.recipes.plan import plan
from ggufscope.recipes.request import Request, outlook
from ggufscope.recipes.sensitivities import Sensitivities
from ggufscope.recipes.tailoring import choices, rules_text
from tests.golden.command import HELDOUT, HERE, SAMPLE
from tests.models.families import SMALL, write

STORIES = HELDOUT.with_suffix(".txt").read_text(encoding="utf-8")


@pytest.fixture(name="file", scope="module")
def _file() -> Iterator[GGUFFile]:
    with open_gguf(SAMPLE) as file:
        yield file


@pytest.fixture(name="text", scope="module")
def _text(file: GGUFFile) -> Halves:
    encode = read_tokenizer(file.metadata).encode
    return halves(STORIES, encode, length=256, tokens=200)


@pytest.fixture(name="short", scope="module")
def _short(file: GGUFFile) -> Halves:
    return halves(STORIES, read_tokenizer(file.metadata).encode, length=256, tokens=120)


@pytest.fixture(name="known", scope="module")
def _known(file: GGUFFile, text: Halves) -> Sensitivities:
    return tailor(file, Wish(bits=4.5), text).sensitivities


def weighs(file: GGUFFile, preset: str) -> int:
    return outlook(Request(file, [preset])).targets[0].nbytes


@pytest.mark.parametrize("preset", ["Q2_K", "Q3_K_M", "Q5_K_M"])
def test_at_a_presets_own_size_the_choice_diverges_less(
    preset: str, file: GGUFFile, text: Halves, known: Sensitivities
) -> None:
    nbytes = weighs(file, preset)
    found = tailor(file, Wish(nbytes=nbytes), text, sensitivities=known)
    assert found.preset is not None
    assert (found.preset.name, found.preset.nbytes, found.kept) == (preset, nbytes, "choice")
    assert found.choice.nbytes <= nbytes < found.choice.nbytes * 1.005
    assert found.choice.divergence.nats < 0.85 * found.preset.divergence.nats
    assert found.choice.predicted == pytest.approx(found.selection.cost)
    assert found.selection.bound == found.selection.cost  # the table was exact
    gain, error = found.choice.divergence.less_than(found.preset.divergence)
    assert gain > error > 0


def test_the_choice_is_a_recipe_that_llama_quantize_takes(
    file: GGUFFile, text: Halves, known: Sensitivities, tmp_path: Path
) -> None:
    found = tailor(file, Wish(nbytes=1_800_000), text, sensitivities=known)
    rules = parse_type_rules(rules_text(found.rules))
    by_rules = PlanOptions(tensor_types=rules)
    again = plan(file.tensors.values(), file.metadata, found.choice.plan.preset, by_rules)
    assert [t.target for t in again.tensors] == [t.target for t in found.choice.plan.tensors]
    written = quantize_model(SAMPLE, {tmp_path / "m.gguf": found.choice.plan})[0]
    assert (tmp_path / "m.gguf").stat().st_size == found.choice.nbytes == written.nbytes
    assert found.choice.nbytes <= 1_800_000


def test_a_chosen_mix_is_llama_quantizes_bytes(tmp_path: Path) -> None:
    golden = json.loads((HERE / "tailored.json").read_text(encoding="utf-8"))
    rules = parse_type_rules("\n".join(golden["types"]))
    target = tmp_path / "m.gguf"
    quantize_model(SAMPLE, {target: golden["preset"]}, options=PlanOptions(tensor_types=rules))
    assert hashlib.sha256(target.read_bytes()).hexdigest() == golden["sha256"]


def test_by_bits_and_by_divergence(file: GGUFFile, short: Halves) -> None:
    by_bits = tailor(file, Wish(bits=4.25), short)
    known = by_bits.sensitivities
    assert 4.2 < by_bits.choice.plan.bits_per_weight <= 4.25
    assert by_bits.preset is not None
    assert by_bits.preset.plan.bits_per_weight <= 4.25
    by_kl = tailor(file, Wish(kl=2e-4), short, sensitivities=known)
    assert by_kl.choice.divergence.nats <= 2e-4
    smaller = tailor(file, Wish(kl=8e-4), short, sensitivities=known)
    assert smaller.choice.nbytes < by_kl.choice.nbytes
    assert smaller.choice.divergence.nats <= 8e-4


def test_what_is_set_by_hand_stays(file: GGUFFile, text: Halves, known: Sensitivities) -> None:
    options = PlanOptions(
        tensor_types=(TypeRule.parse("attn_v=q8_0"),), token_embedding_type=LAYOUTS["Q6_K"]
    )
    found = tailor(
        file, Wish(nbytes=1_900_000, options=options, floor="Q3_K"), text, sensitivities=known
    )
    types = {t.name: t.target for t in found.choice.plan.tensors}
    assert {types[f"blk.{n}.attn_v.weight"].name for n in range(4)} == {"Q8_0"}
    assert types["token_embd.weight"].name == "Q6_K"
    assert not {"token_embd.weight", "blk.0.attn_v.weight"} & found.ways.keys()
    assert "Q2_K" not in {each.name for each in types.values()}
    assert found.choice.nbytes <= 1_900_000


def test_where_the_preset_is_better_it_is_kept(
    file: GGUFFile, text: Halves, known: Sensitivities
) -> None:
    """Costs upside down: what is chosen by them is bad."""
    upside_down = {
        name: {type_: 1e-9 / cost for type_, cost in row.items()}
        for name, row in known.costs.items()
    }
    wrong = replace(known, costs=upside_down)
    found = tailor(file, Wish(nbytes=weighs(file, "Q5_K_M")), text, sensitivities=wrong)
    assert found.kept == "preset"
    assert found.preset is not None
    assert found.best is found.preset
    assert found.rules == ()
    assert found.choice.divergence.less_than(found.preset.divergence)[0] < 0


def test_errors_are_weighed_by_an_importance_matrix(file: GGUFFile, short: Halves) -> None:
    rng = np.random.default_rng(1)
    entries = {
        t.name: Entry(rng.random((1, t.shape[-1])).astype(np.float32) + 0.01, np.ones(1, int))
        for t in file.tensors.values()
        if len(t.shape) == 2 and t.name.startswith("blk")
    }
    matrix = ImportanceMatrix(Path("i.gguf"), entries, ("t",), 1, 512)
    types = ("IQ2_XXS", "IQ3_S", "Q4_K", "Q6_K")
    found = tailor(file, Wish(nbytes=1_500_000, types=types), short, imatrix=matrix)
    assert found.sensitivities.importance
    assert found.choice.plan.options.importance
    assert "IQ2_XXS" not in [way.type for way in found.ways["token_embd.weight"]]
    assert "IQ2_XXS" in [way.type for way in found.ways["blk.0.attn_q.weight"]]
    assert found.choice.nbytes <= 1_500_000
    with pytest.raises(BadUsage, match="another importance matrix"):
        tailor(file, Wish(nbytes=1_500_000), short, sensitivities=found.sensitivities)


def test_an_importance_matrix_is_made_on_the_way(
    file: GGUFFile, short: Halves, tmp_path: Path
) -> None:
    """Of the text to choose by, as an ordinary pass over it has it. Kept, it serves again."""
    path, wish = tmp_path / "i.gguf", Wish(nbytes=1_500_000, types=("IQ2_XS", "Q3_K", "Q6_K"))
    text = replace(short, name="stories.txt")
    found = tailor(file, wish, text, make_imatrix=path)
    made = found.imatrix
    assert made is not None
    assert not path.exists()
    assert (made.path, made.datasets) == (path, ("stories.txt",))

    model = Transformer.of(file)
    expected = {name: np.zeros(each.sums.shape) for name, each in made.entries.items()}
    squares = Trace((), entering=lambda name, x, _: add(expected, name, x))
    for window in text.chosen_by:
        model.run(window, trace=squares)
    assert len(expected) == 28
    for name, entry in made.entries.items():
        np.testing.assert_allclose(entry.sums, expected[name], rtol=1e-4)
        assert entry.counts.tolist() == [sum(map(len, text.chosen_by))]

    write_imatrix(made, path)
    again = tailor(file, wish, text, imatrix=read_imatrix(path), sensitivities=found.sensitivities)
    assert "IQ2_XS" in {t.target.name for t in found.choice.plan.tensors}
    assert again.choice.plan == found.choice.plan
    assert (again.choice.divergence.each == found.choice.divergence.each).all()
    with pytest.raises(BadUsage, match="an importance matrix cannot be made"):
        tailor(file, wish, text, make_imatrix=path, sensitivities=found.sensitivities)


def add(sums: dict[str, Any], name: str, x: Any) -> Any:
    """Return what the kernel of ggml multiplies with weights in halves."""
    if name in sums:
        sums[name] += np.square(x, dtype=np.float64).sum(axis=0)
    return x.astype(np.float16).astype(np.float32)


def test_experts_rows_that_do_not_divide_and_a_tied_table(tmp_path: Path) -> None:
    """Rows of 32: K-quants give way, as in llama-quantize."""
    ids = tuple(tuple(int(i) for i in np.random.default_rng(s).integers(3, 72, 20)) for s in (1, 2))
    text = Halves(ids[:1], ids[1:])
    for name in ("qwen3moe", "gemma2"):
        with open_gguf(write(tmp_path / f"{name}.gguf", SMALL[name])) as file:
            found = tailor(file, Wish(bits=10), text)
            used = {t.target.name for t in found.choice.plan.tensors if t.name in found.ways}
            assert used <= {"Q4_0", "Q5_0", "Q5_1", "Q8_0", "F16"}
            assert found.choice.plan.bits_per_weight <= 10


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish(nbytes=1000), "the smallest choice of these types has 1,2"),
        (Wish(bits=1.5), r"the smallest choice of these types has 2\.6\d bits"),
        (Wish(kl=1e-9), "no choice of these types was found that diverges by 1e-09 nats"),
        (Wish(), "one target is needed"),
        (Wish(bits=4, kl=1), "one target is needed"),
        (Wish(bits=4, types=("IQ2_XXS",)), "none of IQ2_XXS is for 'output"),
        (Wish(bits=4, types=("Q3_K",), floor="Q4_K"), "none of Q3_K is for 'output.weight' above"),
        (Wish(bits=4, options=PlanOptions(prune_layers=(1,))), "measured on the whole model"),
    ],
)
def test_what_cannot_be_had_is_said(
    wish: Wish, said: str, file: GGUFFile, text: Halves, known: Sensitivities
) -> None:
    with pytest.raises(BadUsage, match=said):
        tailor(file, wish, text, sensitivities=known)


def test_a_quantized_source_has_to_be_asked_for(tmp_path: Path, short: Halves) -> None:
    quantize_model(SAMPLE, {tmp_path / "q8.gguf": "Q8_0"})
    with open_gguf(tmp_path / "q8.gguf") as file:
        with pytest.raises(AlreadyQuantized, match="is Q8_0 already"):
            tailor(file, Wish(bits=4), short)
        found: Tailored = tailor(
            file, Wish(bits=6, options=PlanOptions(allow_requantize=True)), short
        )
        assert found.choice.plan.bits_per_weight <= 6
        ways: Any = found.ways["output.weight"]
        assert ways[-1].type == "Q8_0"
        assert ways[-1].cost == 0  # as it is


def test_the_types_of_a_tensor_are_those_that_it_can_have(file: GGUFFile) -> None:
    base = plan(file.tensors.values(), file.metadata, "Q4_K_M")
    every = choices(base, ("Q8_0", "Q4_K", "IQ2_XXS", "F16"))
    assert set(every) == {t.name for t in base.tensors if t.converted}
    assert every["output.weight"] == ("Q4_K", "Q8_0", "F16")
    assert choices(base, ("Q2_K", "Q6_K"), "Q4_K")["output.weight"] == ("Q6_K",)
    weighed = frozenset({"blk.0.attn_q.weight"})
    with_one = choices(base, ("Q4_K", "IQ2_XXS"), None, weighed)
    assert with_one["blk.0.attn_q.weight"] == ("IQ2_XXS", "Q4_K")
    assert with_one["blk.1.attn_q.weight"] == ("Q4_K",)
