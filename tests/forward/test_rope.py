"""Rotated positions: by hand, against complex numbers, and what makes them positions at all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ggufscope.forward.rope import Rotation, rotate
from ggufscope.forward.transformer import Transformer
from ggufscope.model.families import Rope
from tests.forward.arrays import Arrays
from tests.models.families import SMALL

Floats = npt.NDArray[np.float32]
BOTH: tuple[Rope, ...] = ("interleaved", "half-split")


def turned(x: Floats, rotation: Rotation, start: int = 0) -> Floats:
    return rotate(x, rotation.pairs, *rotation.angles(start, len(x)))


def pair_up(x: Floats, pairs: Rope) -> npt.NDArray[np.complex128]:
    """(..., D) -> each pair as a complex number."""
    half = x.shape[-1] // 2
    a, b = (
        (x[..., 0::2], x[..., 1::2]) if pairs == "interleaved" else (x[..., :half], x[..., half:])
    )
    found: npt.NDArray[np.complex128] = a.astype(np.float64) + 1j * b.astype(np.float64)
    return found


def test_a_quarter_turn_by_hand() -> None:
    x = np.array([[[1, 2, 3, 4]]], np.float32)
    zero, one = np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32)
    # (a, b) -> (-b, a)
    assert rotate(x, "interleaved", zero, one).tolist() == [[[-2, 1, -4, 3]]]
    assert rotate(x, "half-split", zero, one).tolist() == [[[-3, -4, 1, 2]]]
    with pytest.raises(ValueError, match="sections"):
        rotate(x, "sections", zero, one)


@pytest.mark.parametrize("pairs", BOTH)
def test_each_pair_turns_at_its_own_speed(pairs: Rope) -> None:
    x = np.random.default_rng(1).standard_normal((9, 3, 8)).astype(np.float32)
    speeds = 100.0 ** (-np.arange(4) / 4)
    turns = np.exp(1j * np.outer(np.arange(5, 14), speeds))[:, None]
    got = turned(x, Rotation(pairs, 8, base=100.0), start=5)
    np.testing.assert_allclose(pair_up(got, pairs), pair_up(x, pairs) * turns, atol=1e-5)


@pytest.mark.parametrize("pairs", BOTH)
def test_only_the_distance_counts(pairs: Rope) -> None:
    rng = np.random.default_rng(2)
    q, k = (rng.standard_normal((1, 1, 16)).astype(np.float32) for _ in range(2))
    rotation = Rotation(pairs, 16)
    products = [
        float(np.vdot(turned(q, rotation, at + 7), turned(k, rotation, at))) for at in (0, 3, 90)
    ]
    np.testing.assert_allclose(products, products[0], atol=1e-4)


@pytest.mark.parametrize("pairs", BOTH)
def test_the_rest_of_a_head_stays(pairs: Rope) -> None:
    x = np.random.default_rng(3).standard_normal((4, 2, 10)).astype(np.float32)
    got = turned(x, Rotation(pairs, 6))
    assert np.array_equal(got[..., 6:], x[..., 6:])
    assert np.array_equal(
        got[..., :6], turned(np.ascontiguousarray(x[..., :6]), Rotation(pairs, 6))
    )
    assert np.array_equal(got[0], x[0])  # position 0 does not turn


def test_linear_scaling_slows_positions_down() -> None:
    plain = Rotation("half-split", 8).angles(0, 13)
    slow = Rotation("half-split", 8, scale=0.25).angles(0, 52)
    for one, other in zip(plain, slow, strict=True):
        np.testing.assert_allclose(other[::4], one, atol=1e-6)


def test_factors_divide_angles_and_magnitude_scales() -> None:
    factors = np.array([1, 2, 4, 8], np.float32)
    cosines, sines = Rotation("half-split", 8, base=10.0, factors=factors, magnitude=1.5).angles(
        3, 1
    )
    angles = 3 * 10.0 ** (-np.arange(4) / 4) / factors
    np.testing.assert_allclose(cosines[0], 1.5 * np.cos(angles), atol=1e-6)
    np.testing.assert_allclose(sines[0], 1.5 * np.sin(angles), atol=1e-6)


def test_yarn_leaves_fast_pairs_alone_and_slows_slow_ones() -> None:
    rotation = Rotation("half-split", 128, base=10000.0, scale=1 / 8, yarn_context=4096)
    cosines, sines = rotation.angles(1, 1)
    speeds = 10000.0 ** (-np.arange(64) / 64)
    got = np.arctan2(sines[0], cosines[0])
    # The paper's figures for this shape: pairs up to 20 are kept, from 46 on all is interpolated.
    np.testing.assert_allclose(got[:21], speeds[:21], rtol=1e-5)
    np.testing.assert_allclose(got[46:], speeds[46:] / 8, rtol=1e-5)
    assert (got[21:46] < speeds[21:46]).all()
    assert (got[21:46] > speeds[21:46] / 8).all()
    np.testing.assert_allclose(np.hypot(cosines, sines), 1 + 0.1 * np.log(8), rtol=1e-6)


@pytest.mark.parametrize(
    ("context", "which"), [(None, "long"), (64, "long"), (17, "long"), (16, "short"), (8, "short")]
)
def test_long_rope_goes_by_the_context_the_model_is_set_up_for(
    context: int | None, which: str
) -> None:
    small = SMALL["phi3-long"]
    arrays = small.tensors()
    model = Transformer(small.metadata, Arrays(arrays), context=context)
    rotation = model.block(0).rotation
    assert rotation is not None
    assert rotation.factors is not None
    assert np.array_equal(rotation.factors, arrays[f"rope_factors_{which}.weight"])
    assert rotation.magnitude == pytest.approx(1.19)


def _rotations(name: str, **hparams: object) -> list[Rotation | None]:
    small = SMALL[name]
    own = {f"{small.architecture}.{key.replace('__', '.')}": v for key, v in hparams.items()}
    model = Transformer(small.metadata | own, Arrays(small.tensors()))
    return [model.block(layer).rotation for layer in range(model.n_layers)]


def test_windowed_layers_of_gemma3_turn_as_short_texts_do() -> None:
    found = [r and (r.base, r.scale) for r in _rotations("gemma3")]
    assert found == [(10000.0, 1.0)] * 5 + [(5000.0, 0.25)] + [(10000.0, 1.0)]
    said = [r and r.base for r in _rotations("gemma3", rope__freq_base_swa=77.0)]
    assert said == [77.0] * 5 + [5000.0] + [77.0]
    assert [r and r.base for r in _rotations("gemma2")] == [500.0] * 3


def test_scaling_may_be_switched_off() -> None:
    scaled = _rotations("llama-linear")[0]
    off = _rotations("llama-linear", rope__scaling__type="none")[0]
    assert scaled is not None
    assert off is not None
    assert scaled.scale == pytest.approx(1 / 3)
    assert off.scale == 1.0
    assert _rotations("gpt2") == [None] * 3


def test_an_old_file_says_it_under_another_name() -> None:
    old = _rotations("llama-mha", rope__scale_linear=8.0)[0]
    both = _rotations("llama-linear", rope__scale_linear=8.0)[0]
    assert old is not None
    assert both is not None
    assert old.scale == 0.125
    assert both.scale == pytest.approx(1 / 3)


def test_far_positions_turn_as_ggml_forms_them() -> None:
    """float32 products, pair after pair: the last one of a head is off by far more than an ulp."""
    rotation = Rotation("half-split", 128, base=10000.0)
    cosines, _ = rotation.angles(4000, 1)
    theta = np.float32(4000)
    step = np.float32(10000.0 ** (-2 / 128))
    for pair in range(64):
        assert cosines[0, pair] == np.cos(theta)
        theta = np.float32(theta * step)
