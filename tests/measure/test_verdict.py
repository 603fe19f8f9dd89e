"""Verdicts and tolerances: by hand."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from ggufscope.errors import BadUsage
from ggufscope.measure.differences import HeadDifference, LayerDifference, Prediction
from ggufscope.measure.effect import Level, effect_of
from ggufscope.measure.making import Fault, Making
from ggufscope.measure.verdict import METRICS, Reading, judge, parse_tolerances


def _head(layer: int, head: int, **numbers: float) -> HeadDifference:
    fields: dict[str, Any] = dict.fromkeys(HeadDifference.__dataclass_fields__, 0.0)
    return HeadDifference(**{**fields, **numbers, "layer": layer, "head": head})


def _layer(layer: int, heads: list[HeadDifference], error: float = 0.0) -> LayerDifference:
    return LayerDifference(layer, tuple(heads), 1.0, error, ())


_SAME = Prediction((0.0, 0.0), 1.0, 2.0)


def test_all_within() -> None:
    layers = [_layer(0, [_head(0, 0, total_variation=0.1), _head(0, 1, total_variation=0.05)])]
    verdict = judge(layers, _SAME, {"total_variation": 0.1})
    assert verdict.accepted
    assert verdict.first is None
    assert verdict.heads_out == 0
    assert verdict.worst == Reading("total_variation", 0.1, 0.1, 0, 0)


def test_the_first_layer_out_of_tolerance_is_named_and_the_furthest_one_too() -> None:
    layers = [
        _layer(0, [_head(0, 0, total_variation=0.05), _head(0, 1)]),
        _layer(1, [_head(1, 0, total_variation=0.2), _head(1, 1, total_variation=0.3)]),
        _layer(2, [_head(2, 0, total_variation=0.9), _head(2, 1)]),
    ]
    verdict = judge(layers, _SAME, {"total_variation": 0.1})
    assert verdict.first == Reading("total_variation", 0.3, 0.1, 1, 1)
    assert verdict.worst == Reading("total_variation", 0.9, 0.1, 2, 0)
    assert verdict.heads_out == 3


def test_a_head_explains_the_output_of_its_layer() -> None:
    layers = [_layer(0, [_head(0, 0, output_error=0.3)], error=9.0)]
    limits = {"head_output_error": 0.2, "layer_output_error": 0.1}
    verdict = judge(layers, _SAME, limits)
    assert verdict.first == Reading("head_output_error", 0.3, 0.2, 0, 0)
    assert verdict.worst == Reading("layer_output_error", 9.0, 0.1, 0)


def test_the_whole_model_may_be_what_is_out() -> None:
    model = Prediction((0.1, 0.5), 0.5, None)
    limits = {"kl_divergence": 0.2, "top1_agreement": 0.9, "total_variation": 0.1}
    verdict = judge([_layer(0, [_head(0, 0)])], model, limits)
    assert not verdict.accepted
    assert verdict.first == verdict.worst
    assert verdict.worst is not None
    assert verdict.worst.metric == "top1_agreement"  # five times its tolerance
    assert verdict.worst.used == pytest.approx(5)
    assert judge(
        [_layer(0, [_head(0, 0)])], model, {"top1_agreement": 0.5, "kl_divergence": 0.31}
    ).accepted


def test_no_tolerance_no_objection() -> None:
    verdict = judge([_layer(0, [_head(0, 0, total_variation=1)])], _SAME, {})
    assert verdict.accepted
    assert verdict.worst is None


def test_a_tolerance_of_nothing_lets_nothing_pass() -> None:
    layers = [_layer(0, [_head(0, 0), _head(0, 1, total_variation=1e-9)])]
    verdict = judge(layers, _SAME, {"total_variation": 0})
    assert verdict.heads_out == 1
    assert verdict.worst is not None
    assert verdict.worst.used == inf
    assert Reading("total_variation", 0, 0).used == 0


def test_what_is_not_a_number_is_out() -> None:
    layers = [_layer(0, [_head(0, 0, total_variation=0.5), _head(0, 1, total_variation=nan)])]
    verdict = judge(layers, _SAME, {"total_variation": 1.0})
    assert not verdict.accepted
    assert verdict.worst is not None
    assert verdict.worst.head == 1


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_can_be_limited(metric: str) -> None:
    far = dict.fromkeys(("total_variation", "largest_difference", "jensen_shannon"), 1.0)
    heads = [_head(0, 0, **far, top_changed=1.0, output_error=1.0)]
    model = Prediction((1.0,), 0.0, None)
    layers = [_layer(0, heads, error=1.0)]
    assert not judge(layers, model, {metric: 0.5}).accepted
    assert judge([_layer(0, [_head(0, 0)])], _SAME, {metric: 0.5}).accepted


def test_tolerances_as_they_are_typed() -> None:
    assert parse_tolerances([]) == {}
    assert parse_tolerances(["0.05"]) == {"total_variation": 0.05}
    assert parse_tolerances(["kl_divergence=2", "top1_agreement=1"]) == {
        "kl_divergence": 2.0,
        "top1_agreement": 1.0,
    }


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "nan", "nonsense=1", "total_variation=1.5", "kl_divergence=", "1e"]
)
def test_what_is_no_tolerance(text: str) -> None:
    with pytest.raises(BadUsage) as caught:
        parse_tolerances([text])
    assert caught.value.hint


@pytest.mark.parametrize(
    ("kl", "moved", "level", "decided_by"),
    [
        (0.0014, 0.001, Level.NEGLIGIBLE, "kl_divergence"),  # Q8_0 of Llama 3 8B
        (0.0313, 0.0, Level.SMALL, "kl_divergence"),  # Q4_K_M
        (0.445, 0.0, Level.VISIBLE, "kl_divergence"),  # Q2_K
        (2.2, 0.0, Level.BROKEN, "kl_divergence"),  # IQ1_S
        (0.001, 0.0122, Level.SMALL, "total_variation"),  # Q4_K of the sample
        (0.019, 0.0514, Level.VISIBLE, "total_variation"),  # Q2_K
        (0.0, 0.2, Level.BROKEN, "total_variation"),
        (0.1, 0.1, Level.VISIBLE, "kl_divergence"),
        (nan, 0.0, Level.BROKEN, "kl_divergence"),
        (0.0, nan, Level.BROKEN, "total_variation"),
        (inf, 0.0, Level.BROKEN, "kl_divergence"),
    ],
)
def test_the_more_severe_of_two_numbers_is_the_level(
    kl: float, moved: float, level: Level, decided_by: str
) -> None:
    effect = effect_of(kl, moved, 7)
    assert (effect.level, effect.decided_by, effect.tokens) == (level, decided_by, 7)


def _making(*faults: Fault, tensors: int = 3) -> Making:
    return Making(tensors, 0, (), 1.0, faults)


def test_what_will_do() -> None:
    layers = [_layer(0, [_head(0, 0, total_variation=0.02)])]
    fault = Fault("blk.0.attn_q.weight", "Q4_K", 0, 3, "head 3", "scaled", "", 0.2, 0.07, 1.2)
    small = judge(layers, _SAME, {})
    assert (small.effect.level, small.accepted, small.well_made) == (Level.SMALL, True, None)
    assert judge(layers, _SAME, {}, Level.SMALL).accepted
    assert not judge(layers, _SAME, {}, Level.NEGLIGIBLE).accepted
    assert judge(layers, _SAME, {}, making=_making()).accepted
    assert not judge(layers, _SAME, {}, making=_making(fault)).accepted
    nothing = judge(layers, _SAME, {}, making=_making(tensors=0))
    assert (nothing.well_made, nothing.accepted) == (None, True)
    assert not judge(layers, Prediction((nan,), 1.0, None), {}).accepted


def test_effects_are_ordered_by_level_and_then_by_their_numbers() -> None:
    pairs = [
        *((0.0, 0.0), (0.001, 0.0024), (0.0, 0.0045), (0.006, 0.001)),  # negligible
        *((0.0, 0.0101), (0.049, 0.0), (0.1, 0.04), (0.6, 0.1), (0.1, 0.9), (nan, 0.0)),
    ]
    effects = [effect_of(*pair, tokens=7) for pair in pairs]
    turned = effects[::-1]
    assert sorted(turned, key=lambda each: each.severity) == effects
