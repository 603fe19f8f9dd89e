from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ggufscope.model.hparams import read_hparams
from ggufscope.recipes.mixes import MIXES
from ggufscope.sizing.budget import Range, run_memory
from ggufscope.sizing.file_size import PresetSizes, preset_sizes, why_set_aside
from ggufscope.sizing.fitting import Fit, fit, fit_table, longest_context
from ggufscope.sizing.offload import split_at_most, split_table
from ggufscope.sizing.overview import Question, overview_of_shape
from ggufscope.sizing.settings import RunSettings
from ggufscope.sizing.shapes import SHAPES

GIB = 1 << 30
SHAPE = SHAPES["llama-3.1-8b"]
HPARAMS = read_hparams(SHAPE.metadata)
RUN = RunSettings(4096)


@pytest.fixture(scope="module")
def sizes() -> PresetSizes:
    return preset_sizes(SHAPE.tensors, SHAPE.metadata)


def test_every_preset_is_sized_the_largest_first(sizes: PresetSizes) -> None:
    assert {size.preset for size in sizes.sizes} == MIXES.keys() - {"COPY"}
    weights = [size.nbytes for size in sizes.sizes]
    assert weights == sorted(weights, reverse=True)


def test_fits_counts_the_upper_end() -> None:
    assert fit(Range(5, 8), 8) is Fit.YES
    assert fit(Range(5, 9), 8) is Fit.TIGHT
    assert fit(Range(9, 9), 8) is Fit.NO


@given(st.integers(1, 10**6), st.integers(0, 10**6))
@example(300, 280)
@example(256, 255)
def test_the_longest_context_is_the_longest(most: int, limit: int) -> None:
    found = longest_context(lambda context: context <= limit, most)
    assert found == (most if most <= limit else limit // 256 * 256)


def test_the_table_answers_as_each_run_would(sizes: PresetSizes) -> None:
    table = fit_table(sizes.sizes, HPARAMS, RUN, [4096, 16384], 8 * GIB)
    for row in table.rows:
        for context, need in zip((4096, 16384), row.needs, strict=True):
            run = run_memory(HPARAMS, replace(RUN, context=context))
            weights, cache = row.size.nbytes, run.cache.nbytes
            assert need.high == weights + cache + run.logits + run.compute.high
        if row.longest:
            run = run_memory(HPARAMS, replace(RUN, context=row.longest))
            longer = run_memory(HPARAMS, replace(RUN, context=row.longest + 256))
            assert run.with_weights(row.size.nbytes).high <= 8 * GIB
            assert longer.with_weights(row.size.nbytes).high > 8 * GIB
    best = [table.best(column) for column in (0, 1)]
    assert [row.size.preset if row else None for row in best] == ["Q6_K", "Q5_K_M"]
    roomiest = table.roomiest()
    assert roomiest is not None
    assert (roomiest.size.preset, roomiest.longest) == ("Q6_K", 11776)


def test_what_leaves_room_is_worth_making(sizes: PresetSizes) -> None:
    table = fit_table(sizes.sizes, HPARAMS, RUN, [4096], 25 * GIB // 4)
    longest = {row.size.preset: row.longest for row in table.rows}
    assert longest["Q5_1"] > 0
    assert longest["Q6_K"] == 0
    roomiest = table.roomiest()
    assert roomiest is not None
    assert roomiest.size.preset == "Q5_K_M"


def test_what_is_not_worth_making_is_not_proposed(sizes: PresetSizes) -> None:
    proposed = {size.preset for size in sizes.sizes if size.proposed}
    assert proposed.isdisjoint({"F32", "BF16"})  # of F16 weights: larger, or as large
    assert proposed.isdisjoint({"Q5_1", "TQ2_0", "Q1_0", "MXFP4_MOE", "IQ2_XS", "Q2_K_S"})
    assert {"F16", "Q8_0", "Q4_K_M", "IQ4_XS", "Q2_K"} <= proposed
    assert not why_set_aside("MXFP4_MOE", "gpt-oss")


@pytest.mark.parametrize(
    ("target", "nearest", "larger"),
    [
        ({"target_nbytes": 4 * GIB}, "Q3_K_M", "Q3_K_L"),
        ({"target_bits": 4.5}, "IQ4_XS", "Q4_K_S"),
        ({"target_bits": 64.0}, "F16", None),
        ({"target_bits": 1.0}, None, "Q2_K"),
    ],
)
def test_a_target_takes_the_preset_nearest_below(
    target: dict[str, Any], nearest: str | None, larger: str | None
) -> None:
    overview = overview_of_shape(SHAPE, Question(**target))
    ((_, found),) = overview.targets
    assert (found.nearest.preset if found.nearest else None) == nearest
    assert (found.next_larger.preset if found.next_larger else None) == larger
    assert overview.nothing_fits == (nearest is None)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "qwen3-0.6b", "deepseek-v3", "gemma-3-4b"])
def test_a_split_loses_nothing(name: str) -> None:
    """Weights and cache are on one side or the other; a tied embedding is on both."""
    shape = SHAPES[name]
    hparams = read_hparams(shape.metadata)
    run = run_memory(hparams, RUN)
    made = preset_sizes(shape.tensors, shape.metadata, ["Q4_K_M"])
    whole = made["Q4_K_M"].nbytes + run.cache.nbytes
    tied = not any(tensor.name == "output.weight" for tensor in shape.tensors)
    copy = next(t.nbytes for t in made["Q4_K_M"].plan.tensors if t.name == "token_embd.weight")
    seen = set()
    for vram in (0, GIB // 2, 2 * GIB, 16 * GIB, 1 << 50):
        (row,) = split_table(made.sizes, hparams, RUN, vram, None).rows
        split = row.split
        seen.add(split.gpu_layers)
        assert split.vram.high <= vram
        there = split.vram.high - (run.compute.high if split.gpu_layers else 0)
        here = split.ram.low - run.logits
        looked_up = 4 * 512 * (hparams.embedding_length or 0)
        here -= looked_up if split.gpu_layers == split.layers else run.compute.low
        assert there + here == whole + (copy if tied and split.gpu_layers else 0)
    assert {0, hparams.block_count + 1} <= seen


@pytest.mark.parametrize("count", [1, 2, 5, 33])
def test_the_output_goes_first_and_then_layers_from_the_end(count: int, sizes: PresetSizes) -> None:
    tensors = sizes["Q4_K_M"].plan.tensors
    run = run_memory(HPARAMS, RUN)
    ends = ("output.weight", "output_norm.weight", "rope_freqs.weight")
    layers = range(33 - count, 32)
    there = sum(tensor.nbytes for tensor in tensors if tensor.name in ends)
    there += sum(t.nbytes for n in layers for t in tensors if t.name.startswith(f"blk.{n}."))
    there += sum(part.nbytes for part in run.cache.parts if part.layer in layers)
    enough = run.compute.high + there
    split = split_at_most(tensors, HPARAMS, run, enough)
    assert (split.gpu_layers, split.vram.high) == (count, enough)
    assert split_at_most(tensors, HPARAMS, run, enough - 1).gpu_layers == count - 1


def test_ram_that_is_too_small_is_said_to_be(sizes: PresetSizes) -> None:
    rows = split_table(sizes.sizes, HPARAMS, RUN, 2 * GIB, 4 * GIB).rows
    fitting = {row.size.preset: row.fits for row in rows}
    assert fitting["F16"] is Fit.NO
    assert fitting["Q4_K_M"] is Fit.YES
