"""Faults put into a model on purpose: what tolerances say of them, and in which layer and head.

Whether the weights are well made is said apart from it, in ``test_making.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ggufscope.container.file import GGUFFile, open_gguf
from ggufscope.measure.candidates import of_file
from ggufscope.measure.compare import compare
from ggufscope.measure.comparison import CandidateDifference
from ggufscope.recipes.apply import quantize_model
from tests.measure.altered import Change, Weights, altered, head_rows, twice

IDS = [0, 896, 317, 260, 462, 451, 285, 635, 351, 259, 582, 14]

TOLERANCES = {
    "total_variation": 0.008,
    "head_output_error": 0.045,
    "layer_output_error": 0.014,
    "kl_divergence": 0.003,
}
"""Three times what Q8_0 does to the sample."""


@pytest.fixture(scope="module")
def quantized(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "q8.gguf"
    quantize_model(sample, {path: "Q8_0"})
    return path


def _against(file: GGUFFile, other: Path) -> CandidateDifference:
    with open_gguf(other) as opened:
        return compare(file, IDS, [of_file(file, opened)], tolerances=TOLERANCES).candidates[0]


def _swap(rows: slice) -> Change:
    def change(weights: Weights) -> Weights:
        weights[rows] = weights[rows][::-1].copy()
        return weights

    return change


def _scale(rows: slice, factor: float) -> Change:
    def change(weights: Weights) -> Weights:
        weights[rows] *= np.float32(factor)
        return weights

    return change


# What is changed, and the layer and heads that the verdict may name for it: query head 5 alone,
# or the four query heads that share key head 1.
FAULTS: list[Any] = [
    pytest.param({"blk.2.attn_q.weight": _swap(head_rows(5))}, 2, {5}, id="rows swapped"),
    pytest.param(
        {"blk.1.attn_v.weight": _scale(head_rows(1), 1.25)}, 1, {4, 5, 6, 7}, id="W_V scaled"
    ),
    pytest.param(
        {"blk.3.attn_q.weight": twice(head_rows(2), "Q2_K")}, 3, {2}, id="requantized twice"
    ),
    pytest.param(
        {"blk.0.attn_k.weight": _swap(head_rows(0))}, 0, {0, 1, 2, 3}, id="rows of a key head"
    ),
]


@pytest.mark.parametrize("form", ["as F16", "as Q8_0"])
def test_without_a_fault_it_is_accepted(form: str, sample: Path, quantized: Path) -> None:
    with open_gguf(sample) as file:
        assert _against(file, sample if form == "as F16" else quantized).verdict.accepted


@pytest.mark.parametrize(("changes", "layer", "heads"), FAULTS)
@pytest.mark.parametrize("form", ["as F16", "as Q8_0"])
def test_a_fault_is_caught_where_it_is(
    changes: dict[str, Change],
    layer: int,
    heads: set[int],
    form: str,
    sample: Path,
    quantized: Path,
    tmp_path: Path,
) -> None:
    source = sample if form == "as F16" else quantized
    with open_gguf(sample) as file, open_gguf(source) as before:
        found = _against(file, altered(before, tmp_path / "fault.gguf", changes))
    verdict = found.verdict
    assert not verdict.accepted
    assert verdict.first is not None
    assert verdict.first.layer == layer
    assert verdict.first.head in heads
    assert {head.head for head in found.layers[layer].heads if _far(head)} <= heads
    worst_weight = max(found.tensors, key=lambda tensor: tensor.error.relative)
    assert worst_weight.name in changes


def _far(head: Any) -> bool:
    return bool(head.total_variation > 0.02 or head.output_error > 0.1)


def test_a_scaled_value_matrix_leaves_the_rows_alone_and_the_direction_too(
    sample: Path, tmp_path: Path
) -> None:
    changes = {"blk.1.attn_v.weight": _scale(slice(None), 1.25)}
    with open_gguf(sample) as file:
        found = _against(file, altered(file, tmp_path / "fault.gguf", changes))
    for head in found.layers[1].heads:
        assert head.total_variation == 0
        assert head.output_error == pytest.approx(0.25, abs=1e-3)
        assert head.output_cosine == pytest.approx(1, abs=1e-6)
    assert found.verdict.first is not None
    assert found.verdict.first.metric == "head_output_error"
    assert found.layers[0].output_error == 0


def test_a_whole_model_quantized_twice_does_not_pass_for_what_it_says_it_is(
    sample: Path, tmp_path: Path
) -> None:
    from ggufscope.recipes.options import PlanOptions

    once, again = tmp_path / "q4.gguf", tmp_path / "q8.gguf"
    quantize_model(sample, {once: "Q4_K_S"})
    quantize_model(once, {again: "Q8_0"}, options=PlanOptions(allow_requantize=True))
    with open_gguf(sample) as file:
        found = _against(file, again)
    assert found.types["Q8_0"] > 20
    assert not found.verdict.accepted
    assert found.verdict.first is not None
    assert found.verdict.first.layer == 0
    assert found.verdict.heads_out > 16


def test_a_fault_in_the_feed_forward_is_one_of_its_layer(sample: Path, tmp_path: Path) -> None:
    changes = {"blk.2.ffn_down.weight": _scale(slice(None), 1.5)}
    with open_gguf(sample) as file:
        found = _against(file, altered(file, tmp_path / "fault.gguf", changes))
    assert found.verdict.first is not None
    assert (found.verdict.first.layer, found.verdict.first.head) == (2, None)
    assert found.verdict.first.metric == "layer_output_error"


def test_a_fault_in_the_output_is_one_of_the_model(sample: Path, tmp_path: Path) -> None:
    changes = {"output.weight": _swap(slice(0, 1024))}
    with open_gguf(sample) as file:
        found = _against(file, altered(file, tmp_path / "fault.gguf", changes))
    assert found.verdict.first is not None
    assert (found.verdict.first.layer, found.verdict.first.metric) == (None, "kl_divergence")
    assert found.verdict.heads_out == 0
