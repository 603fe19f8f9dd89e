"""Every family, held to real llama.cpp and to a float64 pass written apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ggufscope.arrays import Floats
from ggufscope.blocks.codec import dequantize, quantize
from ggufscope.container.file import open_gguf
from ggufscope.forward.families import GRAPHS
from ggufscope.forward.trace import Trace
from ggufscope.forward.transformer import Transformer
from ggufscope.recipes.apply import quantize_model
from tests.forward.golden import golden, golden_of_ids, largest_difference
from tests.forward.reference import Reference
from tests.forward.running import of_next, running
from tests.models.families import GELU, IDS, SMALL

Arrays = dict[str, npt.NDArray[np.float32]]


def test_every_family_has_a_model_to_be_held_to() -> None:
    assert {small.architecture for small in SMALL.values()} == set(GRAPHS)


@pytest.mark.parametrize("name", SMALL)
def test_logits_and_attention_agree_with_llama_cpp_and_with_float64(
    name: str, tmp_path: Path
) -> None:
    trace = Trace({"kq_soft_max", "result_output"})
    with running(tmp_path, name) as model:
        logits = model.run(IDS, trace=trace)
    assert logits is trace["result_output"]
    theirs = golden(name)
    assert trace.keys() == theirs.keys()
    # ggml looks GELU up in a table of half floats; here it is computed
    assert largest_difference(trace, theirs) < (2e-2 if name in GELU else 1e-4)
    apart = Reference(SMALL[name]).run(IDS)  # which has more quantities
    assert largest_difference(trace, {key: apart[key] for key in trace}) < 1e-4


def of_sample(type_: str, sample: Path, tmp_path: Path) -> tuple[Arrays, Arrays]:
    """Ours and llama.cpp's, of the sample in a type."""
    path = tmp_path / "model.gguf"
    quantize_model(sample, {path: type_})
    ids, theirs = golden_of_ids(f"stories-{type_}")
    trace = Trace({"kq_soft_max", "result_output"})
    with open_gguf(path) as file:
        Transformer.of(file).run(ids, trace=trace)
    assert trace.keys() == theirs.keys()
    return dict(trace), theirs


def test_the_sample_agrees_with_llama_cpp(sample: Path, tmp_path: Path) -> None:
    ours, theirs = of_sample("F32", sample, tmp_path)
    assert largest_difference(ours, theirs) < 1e-4


@pytest.mark.parametrize("type_", ["Q8_0", "Q4_K_M"])
def test_quantized_the_sample_is_near_llama_cpp(type_: str, sample: Path, tmp_path: Path) -> None:
    """Which rounds activations to Q8 beside quantized weights: its attention is not exact."""
    ours, theirs = of_sample(type_, sample, tmp_path)
    rows = []
    for key in ours.keys() - {"result_output"}:
        seen = 1 + np.arange(ours[key].shape[1])
        rows.append((np.abs(ours[key] - theirs[key]).sum(axis=-1) / seen).ravel())
    every = np.concatenate(rows)
    assert np.median(every) < 1e-3
    assert np.quantile(every, 0.99) < 1e-2


def test_rounding_activations_is_all_that_sets_them_apart(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rounded(_: Trace, tensor: str, x: Floats, expert: int | None = None) -> Floats:
        return dequantize(quantize(x, "Q8_0"), "Q8_0")

    monkeypatch.setattr(Trace, "enter", rounded)
    ours, theirs = of_sample("Q8_0", sample, tmp_path)
    gaps = np.stack(
        [np.abs(ours[key] - theirs[key]) for key in map("kq_soft_max-{}".format, range(4))]
    )
    assert gaps[0].max() < 1e-5
    # Further on, a number halfway between two levels goes the other way, and moves what follows it.
    # Where, depends on the order of sums. Without the rounding only the first token agrees.
    by_token = gaps.max(axis=(0, 1, 3))
    assert by_token[:5].max() < 1e-5
    assert by_token.max() < 1e-2


def test_it_predicts_as_well_as_pytorch_says(sample: Path) -> None:
    """The mean loss of each held-out window, to five digits of what training wrote down."""
    held_out = json.loads(sample.with_name("heldout.json").read_text())
    with open_gguf(sample) as file:
        model = Transformer.of(file)
        for window, loss in zip(held_out["windows"], held_out["window_loss"], strict=True):
            assert -of_next(model.run(window), window).mean() == pytest.approx(loss, abs=5e-6)
