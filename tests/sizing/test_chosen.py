"""The best mix for a size or a memory, by costs that were kept: no model is run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ggufscope import GGUFFile, RunSettings, memory_of, open_gguf
from ggufscope.blocks.layouts import LAYOUTS
from ggufscope.errors import BadUsage
from ggufscope.recipes.apply import quantize_model
from ggufscope.recipes.sensitivities import Sensitivities, model_digest
from ggufscope.sizing.chosen import best_mixes
from tests.golden.command import SAMPLE

TYPES = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0")


@pytest.fixture(name="file", scope="module")
def _file() -> Iterator[GGUFFile]:
    with open_gguf(SAMPLE) as file:
        yield file


def costing(file: GGUFFile, dear: str = "attn_k") -> Sensitivities:
    """Costs that fall fourfold with each bit, a hundred times as high for some tensors."""
    tensors = file.tensors.values()
    costs = {
        t.name: {
            type_: (100 if dear in t.name else 1) * 1e-3 * 4 ** -LAYOUTS[type_].bits_per_weight
            for type_ in TYPES
        }
        for t in tensors
        if len(t.shape) > 1
    }
    model = model_digest((t.name, t.type.name, t.shape) for t in tensors)
    return Sensitivities(model, "t", 9, 1, 2, 0, "", costs, {})


def test_a_mix_has_the_size_that_is_foretold(file: GGUFFile, tmp_path: Path) -> None:
    known = costing(file)
    (by_size, by_bits) = best_mixes(file, known, nbytes=1_800_000, bits=4.5)
    assert by_size.mix is not None
    assert 1_795_000 < by_size.mix.nbytes <= 1_800_000
    types = {t.name: t.target.name for t in by_size.mix.plan.tensors if t.converted}
    kept = types.items() & {(n, t) for n, row in known.costs.items() for t in row}
    assert by_size.mix.predicted == pytest.approx(sum(known.costs[n][t] for n, t in kept))
    bits = {name: LAYOUTS[type_].bits_per_weight for name, type_ in types.items()}
    assert min(bits[f"blk.{n}.attn_k.weight"] for n in range(4)) >= max(
        bits[f"blk.{n}.ffn_up.weight"] for n in range(4)
    )
    assert by_size.preset is not None
    assert by_size.preset.preset == "Q3_K_S"
    assert by_size.predicted is not None
    assert by_size.predicted > by_size.mix.predicted
    assert by_bits.mix is not None
    assert 4.48 < by_bits.mix.plan.bits_per_weight <= 4.5
    quantize_model(SAMPLE, {tmp_path / "m.gguf": by_size.mix.plan})
    assert (tmp_path / "m.gguf").stat().st_size == by_size.mix.nbytes


def test_a_mix_fits_in_a_memory_with_its_cache(file: GGUFFile) -> None:
    run = memory_of(file.metadata, RunSettings(128))
    (room, none) = best_mixes(file, costing(file), memories=(5_000_000, 3_000_000), runs=[run])
    assert room.mix is not None
    assert 4_980_000 < run.with_weights(room.mix.plan.nbytes).high <= 5_000_000
    assert room.aim.context == 128
    assert (none.mix, none.preset, none.predicted) == (None, None, None)
    assert run.with_weights(none.least).high > 3_000_000


def test_where_nothing_is_asked_each_preset_has_its_mix(file: GGUFFile) -> None:
    found = best_mixes(file, costing(file))
    assert [each.aim.preset for each in found][:2] == ["Q8_0", "Q6_K"]
    for each in found:
        assert each.mix is not None
        assert each.preset is not None
        assert each.preset.preset == each.aim.preset
        assert each.mix.nbytes <= each.preset.weighs
        assert each.mix.predicted <= (each.predicted or 0)


def test_a_measurement_with_a_matrix_makes_files_that_name_one(file: GGUFFile) -> None:
    plain = costing(file)
    weighed = replace(plain, importance="i")
    (one,), (other,) = (best_mixes(file, each, nbytes=2_000_000) for each in (plain, weighed))
    assert one.mix is not None
    assert other.mix is not None
    assert other.mix.plan.options.importance
    assert other.mix.nbytes - other.mix.plan.nbytes > one.mix.nbytes - one.mix.plan.nbytes


def test_what_was_measured_of_something_else_is_refused(file: GGUFFile) -> None:
    known = costing(file)
    with pytest.raises(BadUsage, match="of another model"):
        best_mixes(file, replace(known, model="other"))
    lacking = {name: row for name, row in known.costs.items() if "attn_v" not in name}
    with pytest.raises(BadUsage, match=r"what 'blk\.0\.attn_v\.weight' costs"):
        best_mixes(file, replace(known, costs=lacking))
