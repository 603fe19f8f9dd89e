"""The way back of every family, held to PyTorch's gradients and to finite differences."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ggufscope.arrays import Floats, Places
from ggufscope.errors import NonFiniteActivation, NoRoom, NotRunnable, TooManyTokens
from ggufscope.forward import backward, gradients, ops
from ggufscope.forward.attention import attend
from ggufscope.forward.backward import Backward, Reached
from ggufscope.forward.transformer import Transformer
from tests.forward.arrays import ArrayMatrix, Arrays
from tests.forward.reference import Reference
from tests.forward.running import running
from tests.golden.arrays import stored
from tests.golden.command import HERE
from tests.golden.make_backward import faces, labels, windows
from tests.models.families import SMALL, Small


class Labelled(Backward):
    """With the gradients of labels that are given, as PyTorch's were."""

    def at_logits(self, shares: Floats, places: Places, draw: int) -> Floats:
        dy = shares.copy()
        dy[np.arange(len(dy)), np.concatenate(labels())[places]] -= 1
        return dy


def gathered(model: Transformer, **options: Any) -> list[Reached]:
    found: list[Reached] = []
    Labelled(model, windows(), **options).run(found.append)
    return found


def of_arrays(small: Small, **changed: Any) -> Transformer:
    return Transformer(small.metadata, Arrays(small.tensors() | changed))


@pytest.mark.parametrize("name", SMALL)
def test_every_gradient_is_pytorchs(name: str, tmp_path: Path) -> None:
    golden = stored(HERE / "backward" / f"{name}.npz")
    ours: dict[str, npt.NDArray[np.float64]] = {}
    starts = np.cumsum([0, *map(len, windows())])
    with running(tmp_path, name) as model:
        output = "output.weight" if "output.weight" in model.weights else "token_embd.weight"
        for each in gathered(model):
            looked_up = each.rows is not None
            tensor = each.tensor if looked_up or each.tensor != output else "logits"
            for window, start in enumerate(starts[:-1]):
                mine = (each.tokens >= start) & (each.tokens < starts[window + 1])
                if mine.any():
                    key = f"{window}/{tensor}"
                    made = ours.setdefault(key, np.zeros(golden[key].shape))
                    places = each.tokens[mine] - start
                    at = places if each.expert is None else (places, each.expert)
                    made[at] += each.dy[mine] @ faces(each.dy.shape[1])
    assert ours.keys() == golden.keys()
    for key, theirs in golden.items():
        furthest = np.abs(ours[key] - theirs).max()
        assert furthest <= 1e-4 * np.abs(theirs).max(), key


@pytest.mark.parametrize("name", ["llama-biased", "gemma2", "gpt2", "qwen2moe"])
def test_a_step_of_a_matrix_moves_the_loss_as_its_gradient_says(name: str) -> None:
    """In float64, by the pass that is written apart: central differences, one matrix at a time."""
    small = SMALL[name]
    rng = np.random.default_rng(5)
    slopes: defaultdict[str, float] = defaultdict(float)
    steps: dict[str, Any] = {}
    for each in gathered(of_arrays(small)):
        shape = small.shapes[each.tensor]
        step = steps.setdefault(each.tensor, rng.standard_normal(shape)).reshape(
            -1, *(shape[-2:] if len(shape) > 1 else (1, shape[0]))
        )[each.expert or 0]
        moved = step[each.rows] if each.rows is not None else np.asarray(each.x) @ step.T
        slopes[each.tensor] += float((each.dy * moved).sum())
    layer = [n for n in steps if n.startswith("blk.1.") or "blk" not in n]
    for tensor in layer:
        by = 1e-6 * steps[tensor]
        lower, upper = (_loss(small, tensor, sign * by) for sign in (-1, 1))
        assert (upper - lower) / 2e-6 == pytest.approx(slopes[tensor], rel=2e-3, abs=2e-3), tensor


def _loss(small: Small, tensor: str, step: Any) -> float:
    reference = Reference(small)
    reference.w[tensor] = reference.w[tensor] + step
    total = 0.0
    for ids, wanted in zip(windows(), labels(), strict=True):
        logits = reference.run(tuple(ids))["result_output"]
        logits = logits - logits.max(axis=1, keepdims=True)
        told = logits[np.arange(len(ids)), wanted] - np.log(np.exp(logits).sum(axis=1))
        total -= float(told.sum())
    return total


def test_what_enters_a_matrix_comes_with_the_gradient() -> None:
    small = SMALL["llama-gqa"]
    model = of_arrays(small)
    x = model.embed(windows()[0])
    normed = ops.rms_norm(x, small.tensors()["blk.0.attn_norm.weight"], 1e-5)
    found = {e.tensor: e for e in gathered(model) if e.tokens[0] == 0}
    for part in "qkv":
        given = found[f"blk.0.attn_{part}.weight"].x
        assert given is not None
        np.testing.assert_allclose(given, normed, rtol=1e-6)
    names = {name for name in small.shapes if len(small.shapes[name]) > 1}
    assert found.keys() == names


def test_a_seed_draws_the_same_again() -> None:
    model = of_arrays(SMALL["llama-gqa"])

    def drawn(seed: int, draws: int = 1) -> list[Floats]:
        found: list[Reached] = []
        Backward(model, windows(), seed=seed, draws=draws).run(found.append)
        return [each.dy for each in found]

    assert all(np.array_equal(a, b) for a, b in zip(drawn(1), drawn(1), strict=True))
    assert not np.array_equal(drawn(1)[0], drawn(2)[0])
    assert len(drawn(1, draws=3)) == 3 * len(drawn(1))


def test_products_at_the_logits_average_to_the_fisher_information() -> None:
    """As those of -log p(y) do, over labels drawn from p."""
    row = np.array([0.2, 0.0, 0.5, 0.299, 0.001], np.float32)
    back = Backward(of_arrays(SMALL["llama-gqa"]), windows())
    dy = back.at_logits(np.tile(row, (40_000, 1)), np.arange(40_000), 0).astype(np.float64)
    np.testing.assert_allclose(dy.mean(axis=0), 0, atol=0.01)
    fisher = np.diag(row) - np.outer(row, row)
    np.testing.assert_allclose(dy.T @ dy / len(dy), fisher, atol=0.004)
    sure = back.at_logits(np.eye(5, dtype=np.float32), np.arange(5), 0)
    assert not sure.any()  # nothing is learnt where there is no doubt


def test_over_many_draws_the_mean_gradient_is_nothing() -> None:
    model = of_arrays(SMALL["llama-mqa"])
    total: defaultdict[str, Any] = defaultdict(float)
    spread: defaultdict[str, Any] = defaultdict(float)

    def add(each: Reached) -> None:
        key = f"{each.tensor} {each.rows is None} {each.tokens[0]}"
        total[key] += each.dy
        spread[key] += each.dy**2

    Backward(model, [windows()[0]], draws=100, seed=4).run(add)
    for key, dy in total.items():  # of 100 draws, in units of its own standard error
        error = np.abs(dy).max() / np.sqrt(spread[key].max())
        assert error < 6, key


def test_each_layer_is_let_go_before_the_next_is_read() -> None:
    model = of_arrays(SMALL["llama-gqa"])
    held: list[set[str]] = []
    steps: list[int] = []
    back = Backward(model, windows())
    back.run(
        lambda each: None,
        after=lambda weights: held.append(set(weights._held)),
        progress=steps.append,
    )
    layers = [{name.split(".")[1] for name in names if name.startswith("blk")} for names in held]
    assert layers == [set(), {"2"}, {"1"}, {"0"}, set()]
    assert steps == list(range(1, back.steps + 1))


def test_a_family_that_does_more_than_is_known_here_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its layer, made again, comes out otherwise: no gradient is better than a wrong one."""
    monkeypatch.setattr(ops, "silu", lambda x: x)
    model = of_arrays(SMALL["llama-gqa"])
    there = model.layer

    def layer(*args: Any, **options: Any) -> Floats:
        with monkeypatch.context() as patch:
            patch.setattr(ops, "silu", lambda x: x * ops.sigmoid(x))
            return there(*args, **options)

    monkeypatch.setattr(model, "layer", layer)
    with pytest.raises(NotRunnable, match="layer 2 has no way back"):
        Backward(model, windows()).run(lambda each: None)


def test_room_for_what_enters_the_layers_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backward, "_KEPT", 0)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(NoRoom, match="room for 1,000 bytes, and what leaves a layer takes 9,216"):
        Backward(of_arrays(SMALL["llama-gqa"]), windows()).run(lambda each: None)


def test_it_is_the_same_from_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[int, list[Reached]] = {}
    for room in (1 << 20, 0):
        monkeypatch.setattr(backward, "_KEPT", room)
        found[room] = []
        Backward(of_arrays(SMALL["llama-gqa"]), windows(), draws=2).run(found[room].append)
    for one, other in zip(found[1 << 20], found[0], strict=True):
        assert (one.tensor, one.draw) == (other.tensor, other.draw)
        assert (one.dy == other.dy).all()


def test_what_cannot_be_scored_is_said() -> None:
    small = SMALL["llama-gqa"]
    huge = np.full_like(small.tensors()["output.weight"], 3e38)
    with pytest.raises(NonFiniteActivation, match="logits overflow"):
        Backward(of_arrays(small, **{"output.weight": huge}), windows()).run(lambda each: None)
    with pytest.raises(TooManyTokens):
        Backward(of_arrays(small), [[1] * 65])


EDGES: dict[str, list[float]] = {
    "zeros": [0, 0, 0, 0],
    "negative zero": [-0.0, 0.0, -0.0, 0.0],
    "constant": [7, 7, 7, 7],
    "denormals": [1e-42, -1e-42, 3e-45, 0],
    "huge": [1e9, -3e9, 2e9, 1e8],
    "one outlier": [1e-3, -1e-3, 3e4, 2e-3],
    "plain": [0.5, -1.25, 2.0, 0.125],
}


@pytest.mark.parametrize("edge", EDGES)
def test_the_slopes_hold_at_the_edges(edge: str) -> None:
    x = np.array([EDGES[edge]], np.float32)
    wide = x.astype(np.float64)
    dy, weight = np.array([[1, -2, 0.5, 3]], np.float32), np.array([1, -2, 0.5, 3], np.float32)
    sigmoid = 1 / (1 + np.exp(-np.clip(wide, -700, 700)))
    np.testing.assert_allclose(
        gradients.silu(x), sigmoid * (1 + wide * (1 - sigmoid)), rtol=1e-4, atol=1e-6
    )
    bent = np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3))
    rise = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * wide**2)
    expected = 0.5 * (1 + bent) + 0.5 * wide * (1 - bent**2) * rise
    np.testing.assert_allclose(gradients.gelu(x), expected, rtol=1e-4, atol=1e-6)
    scaled, r = dy * weight, 1 / np.sqrt((wide**2).mean() + 1e-5)
    expected = r * scaled - wide * r**3 * (scaled * wide).mean()
    found = gradients.rms_norm(dy, x, weight, 1e-5)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(r * scaled).max())
    centred = wide - wide.mean()
    r = 1 / np.sqrt((centred**2).mean() + 1e-5)
    expected = r * scaled - centred * r**3 * (scaled * centred).mean()
    found = gradients.layer_norm(dy, x, weight, 1e-5)
    expected = expected - expected.mean()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(r * scaled).max())


def test_the_way_back_through_attention_by_finite_differences() -> None:
    rng = np.random.default_rng(2)
    q, k, v, dy = (rng.standard_normal(s).astype(np.float32) for s in _SIZES)
    options: dict[str, Any] = {"window": 3, "cap": 2.0}
    parts = gradients.attend(dy, q, k, v, scale=0.5, **options)

    def score(*given: Floats) -> float:
        scaled = given[0] * np.float32(0.5)
        out = attend(scaled, given[1], given[2], scale=1.0, **options).out
        return float((out.astype(np.float64) * dy.reshape(out.shape)).sum())

    for which, found in enumerate(parts):
        step = rng.standard_normal(found.shape).astype(np.float32) * np.float32(1e-2)
        moved = [
            [a + sign * step if n == which else a for n, a in enumerate((q, k, v))]
            for sign in (1, -1)
        ]
        slope = (score(*moved[0]) - score(*moved[1])) / 2
        assert slope == pytest.approx(float((found * step).sum()), rel=5e-3)


_SIZES = ((6, 4, 8), (6, 2, 8), (6, 2, 5), (6, 4, 5))


def test_a_product_is_taken_back_tile_by_tile() -> None:
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((700, 1500)).astype(np.float32)
    dy = rng.standard_normal((3, 700)).astype(np.float32)
    matrix = ArrayMatrix("m", weights)
    np.testing.assert_allclose(gradients.linear(dy, matrix), dy @ weights, rtol=1e-3, atol=1e-3)
    part = gradients.linear(dy[:, :50], matrix, rows=(100, 150))
    np.testing.assert_allclose(part, dy[:, :50] @ weights[100:150], rtol=1e-3, atol=1e-3)
