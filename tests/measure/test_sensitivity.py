"""What types cost, by the gradient: held to the formula, and to the divergence that is measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ggufscope import open_gguf, read_tokenizer
from ggufscope.blocks.codec import dequantize, quantize
from ggufscope.errors import BadUsage, NonFiniteActivation, TooFewTokens
from ggufscope.forward.backward import Backward, Reached
from ggufscope.forward.transformer import Transformer
from ggufscope.forward.weights import PlannedWeights
from ggufscope.measure import sensitivity
from ggufscope.measure.metrics.distributions import kl_divergence
from ggufscope.measure.sensitivity import Meter, measure, require_fits
from ggufscope.measure.trial import divergences
from ggufscope.measure.windows import halves, windows
from ggufscope.recipes.sensitivities import (
    Sensitivities,
    from_json,
    read_sensitivities,
    to_json,
)
from tests.forward.arrays import Arrays
from tests.golden.make_backward import windows as ids_of
from tests.models.families import SMALL, Small

TYPES = ("Q4_0", "Q8_0")
STORIES = Path(__file__).parent.parent.parent / "samples" / "heldout.txt"


def of_arrays(small: Small, **changed: Any) -> Transformer:
    return Transformer(small.metadata, Arrays(small.tensors() | changed))


def matrices(small: Small) -> dict[str, tuple[str, ...]]:
    return {
        name: TYPES
        for name, shape in small.shapes.items()
        if len(shape) > 1 and shape[-1] % 32 == 0 and "gate_inp" not in name
    }


def by_formula(
    small: Small, draws: int, seed: int, importance: dict[str, Any] | None = None
) -> dict[str, dict[str, float]]:
    """1/2 of the mean of (g . d)^2, one matrix and one window after the other."""
    tensors, found = small.tensors(), {n: dict.fromkeys(TYPES, 0.0) for n in matrices(small)}
    tokens = sum(map(len, ids_of()))

    def add(each: Reached) -> None:
        if each.tensor not in found:
            return
        shape = tensors[each.tensor].shape
        exact = tensors[each.tensor].reshape(-1, *shape[-2:])[each.expert or 0]
        rows = (importance or {}).get(each.tensor)
        for type_ in TYPES:
            weighed = None if rows is None else rows[each.expert or 0]
            made = dequantize(quantize(exact, type_, importance=weighed), type_)
            error = (made - exact).astype(np.float64)
            d = error[each.rows] if each.rows is not None else np.asarray(each.x) @ error.T
            found[each.tensor][type_] += float(((each.dy * d).sum(axis=1) ** 2).sum()) / (
                2 * tokens * draws
            )

    Backward(of_arrays(small), ids_of(), draws=draws, seed=seed).run(add)
    return found


@pytest.mark.parametrize("name", ["llama-mqa", "qwen2moe", "gpt2"])
def test_costs_are_those_of_the_formula(name: str) -> None:
    """A tied table has both of its costs, a stack those of all experts that were reached."""
    small = SMALL[name]
    rng = np.random.default_rng(3)
    importance = {
        tensor: rng.random((small.shapes[tensor][0], 32)).astype(np.float32)
        for tensor in matrices(small)
        if "exps" in tensor
    }
    found = measure(
        of_arrays(small), ids_of(), matrices(small), draws=2, seed=5, importance=lambda: importance
    )
    expected = by_formula(small, 2, 5, importance)
    assert found.costs.keys() == expected.keys()
    for tensor, row in expected.items():
        assert found.costs[tensor] == pytest.approx(row, rel=1e-3), tensor


def test_of_a_large_vocabulary_some_tokens_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    small = SMALL["llama-gqa"]
    every = measure(of_arrays(small), ids_of(), {"output.weight": TYPES}, draws=40)
    monkeypatch.setattr(sensitivity, "_GRADIENTS", 72 * 40 * 5)
    some = measure(of_arrays(small), ids_of(), {"output.weight": TYPES}, draws=40)
    for type_ in TYPES:
        ratio = some.costs["output.weight"][type_] / every.costs["output.weight"][type_]
        assert 0.6 < ratio < 1.6
        assert ratio != 1


def test_an_expert_that_no_token_chose_is_counted() -> None:
    """A router of zeros: every token goes to the first two of four."""
    small = SMALL["mixtral"]
    changed = {"blk.1.ffn_gate_inp.weight": np.zeros((4, 32), np.float32)}
    found = measure(of_arrays(small, **changed), ids_of(), matrices(small))
    assert found.unreached["blk.1.ffn_up_exps.weight"] == 2
    assert all(cost > 0 for cost in found.costs["blk.1.ffn_up_exps.weight"].values())


def test_the_type_that_it_has_costs_nothing(sample: Path) -> None:
    with open_gguf(sample) as file:
        found = measure(Transformer.of(file), [[0, 5, 9]], {"output.weight": ("F16", "Q2_K")})
    assert found.costs["output.weight"]["F16"] == 0
    assert found.costs["output.weight"]["Q2_K"] > 0


def test_a_gradient_that_overflows_is_said() -> None:
    model = of_arrays(SMALL["llama-gqa"])
    meter = Meter(model, {"output.weight": TYPES}, tokens=1, draws=1)
    x, dy = np.ones((1, 32), np.float32), np.full((1, 72), np.inf, np.float32)
    with np.errstate(invalid="ignore"):
        meter.tell(Reached("output.weight", np.zeros(1, np.intp), x, None, dy, None, 0))
    with pytest.raises(NonFiniteActivation, match=r"gradient at 'output\.weight' overflows"):
        meter.after(model.weights)


@pytest.fixture(name="stories", scope="module")
def _stories() -> list[tuple[int, ...]]:
    with open_gguf(STORIES.parent / "stories-f16.gguf") as file:
        encode = read_tokenizer(file.metadata).encode
    return list(windows(STORIES.read_text(), encode, 256))[:6]


def test_what_is_predicted_is_what_is_measured(
    sample: Path, stories: list[tuple[int, ...]]
) -> None:
    """Single changes, drawn from all: the logarithms correlate. All at once: within a factor."""
    types = ("Q2_K", "Q3_K", "Q4_K", "Q6_K")
    with open_gguf(sample) as file:
        model = Transformer.of(file)
        free = {t.name: types for t in file.tensors.values() if len(t.shape) > 1}
        found = measure(model, stories, free, draws=6)
        every = [(name, type_) for name in free for type_ in types]
        drawn = np.random.default_rng(1).choice(len(every), 16, replace=False)
        changes = [dict([every[at]]) for at in sorted(drawn)]
        changes += [dict.fromkeys(free, type_) for type_ in types[::2]]
        views = [PlannedWeights(model.weights, change) for change in changes]
        measured = np.array([each.nats for each in divergences(model, views, stories)])
    predicted = np.array(
        [sum(found.costs[name][type_] for name, type_ in change.items()) for change in changes]
    )
    single = np.log(predicted[:16]), np.log(measured[:16])
    assert np.corrcoef(*single)[0, 1] > 0.97
    assert 0.7 < np.median(predicted[:16] / measured[:16]) < 1.4
    assert ((predicted / measured)[16:] > 1 / 1.5).all()
    assert ((predicted / measured)[16:] < 1.5).all()


def test_errors_of_keys_add_up_over_their_outputs(
    sample: Path, stories: list[tuple[int, ...]]
) -> None:
    """The sum of squares alone, without the products between outputs, is less than half of it."""
    with open_gguf(sample) as file:
        model = Transformer.of(file)
        keys = {f"blk.{layer}.attn_k.weight": ("Q2_K",) for layer in range(model.n_layers)}
        found = measure(model, stories, keys, draws=4)
        view = PlannedWeights(model.weights, dict.fromkeys(keys, "Q2_K"))
        measured = divergences(model, [view], stories)[0].nats
    predicted = sum(row["Q2_K"] for row in found.costs.values())
    assert 0.7 < predicted / measured < 1.4


def test_divergence_is_that_of_the_formula() -> None:
    rng = np.random.default_rng(1)
    p, q = (rng.standard_normal((5, 9)).astype(np.float32) * 4 for _ in "pq")
    p[0, :3] = -np.inf
    q[1] = p[1]
    p[2], q[2] = 0, np.float32(1e30)
    p[3], q[3] = 3e4 * np.eye(9, dtype=np.float32)[2], 0
    wide = [np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True)) for x in (p, q)]
    a, b = (each / each.sum(axis=1, keepdims=True) for each in wide)
    with np.errstate(all="ignore"):
        expected = np.where(a > 0, a * (np.log(a) - np.log(b)), 0).sum(axis=1)
    np.testing.assert_allclose(kl_divergence(p, q), expected, rtol=1e-9, atol=1e-12)


def test_windows_begin_where_texts_begin() -> None:
    def encode(text: str) -> list[int]:
        return [0, *(ord(letter) for letter in text)]

    paragraphs = ["a" * 12, "b" * 9, "c" * 40, "d" * 12]
    found = list(windows("\n\n".join(paragraphs) + "\n", encode, 30))
    assert found == [
        tuple(encode("a" * 12 + "\n\n" + "b" * 9)),
        tuple(encode("c" * 40))[:30],
        tuple(encode("d" * 12)),
    ]
    lines = list(windows("\n".join(paragraphs), encode, 30))
    assert [window[1] for window in lines] == [*map(ord, "abcd")]
    assert all(window[0] == 0 for window in lines)
    assert list(windows("one\ntwo\n", encode, 30)) == []
    both = halves("\n".join(paragraphs), encode, length=30, tokens=20)
    assert [window[1] for window in both.chosen_by] == [ord("a")]  # 7 tokens are left, no window
    assert [len(window) for window in both.verified_with] == [10, 10]
    for text in ("", "\n\n", "a" * 100, "short"):
        with pytest.raises(TooFewTokens, match="too short"):
            halves(text, encode, length=30, tokens=20)


KNOWN = Sensitivities("m", "t", 9, 1, 2, 0, "", {"a": {"Q4_K": 0.5, "Q8_0": 0}}, {"b": 2})


def test_what_was_measured_is_read_again(tmp_path: Path) -> None:
    assert from_json(json.dumps(to_json(KNOWN)), "it") == KNOWN
    (tmp_path / "s.json").write_text(KNOWN.as_text())
    assert read_sensitivities(tmp_path / "s.json") == KNOWN


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": "other/1"}, "not of schema"),
        ({"tokens": "9"}, "tokens is of another type"),
        ({"tokens": True}, "tokens is of another type"),
        ({"more": 1}, "'more' is missing or unknown"),
        ({"costs": {"a": 1}}, "costs are no numbers"),
        ({"costs": {"a": {"Q4_K": "x"}}}, "costs are no numbers"),
        ({"costs": {"a": {"Q4_K": 10**400}}}, "'Q4_K' costs 'a' 1000"),
        ({"costs": {"a": {"Q4_K": 1.7e308}}}, "'Q4_K' costs 'a' 1.7e"),
        ({"costs": {"a": {"Q9": 1.0}}}, "'Q9' is no type"),
        ({"costs": {"a": {"Q4_K": -1.0}}}, "costs 'a' -1.0 nats"),
        ({"costs": {"a": {"Q4_K": float("nan")}}}, "costs 'a' nan nats"),
        ({"unreached": []}, "unreached is no count"),
    ],
)
def test_what_is_no_measurement_is_refused(change: dict[str, Any], said: str) -> None:
    text = json.dumps(to_json(KNOWN) | change)
    with pytest.raises(BadUsage, match=said):
        from_json(text, "it")
    for broken in ("{", "[" * 10_000, "null", "3"):
        with pytest.raises(BadUsage, match="it has no sensitivities"):
            from_json(broken, "it")


def test_what_was_measured_of_something_else_is_refused() -> None:
    small = SMALL["llama-gqa"]
    model = of_arrays(small)
    types = {"output.weight": TYPES}
    found = measure(model, ids_of(), types)
    require_fits(found, model.weights, ids_of(), types, {})
    other = of_arrays(SMALL["llama-mha"]).weights
    weighed = {"output.weight": np.ones((1, 32), np.float32)}
    for arguments, said in (
        ((other, ids_of(), types, {}), "another model"),
        ((model.weights, ids_of()[:1], types, {}), "another text"),
        ((model.weights, ids_of(), types, weighed), "another importance matrix"),
        ((model.weights, ids_of(), {"output.weight": ("Q5_0",)}, {}), "what Q5_0 costs"),
        ((model.weights, ids_of(), {"blk.0.attn_q.weight": TYPES}, {}), "what Q4_0 costs"),
    ):
        with pytest.raises(BadUsage, match=said):
            require_fits(found, *arguments)
