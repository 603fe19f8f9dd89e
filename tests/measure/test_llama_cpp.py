"""Candidates made in memory, held to llama.cpp running what the real llama-quantize wrote.

The numbers of the golden runs are taken with SciPy, not with this project's metrics.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import log_softmax, rel_entr

from ggufscope.container.file import open_gguf
from ggufscope.measure.candidates import of_recipes
from ggufscope.measure.compare import compare
from ggufscope.measure.comparison import CandidateDifference, Comparison
from tests.measure.golden import LAYERS, PRESETS, attention, golden

Doubles = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def ours(sample: Path) -> tuple[Comparison, dict[int, Doubles]]:
    """The comparison, and attention (L, H, T, T) of the reference (0) and each preset."""
    kept: dict[int, list[npt.NDArray[Any]]] = {}
    with open_gguf(sample) as file:
        comparison = compare(
            file,
            golden("reference")["ids"].tolist(),
            of_recipes(file, PRESETS),
            keep=lambda run, layer, maps: kept.setdefault(run, []).append(maps),
        )
    return comparison, {run: np.stack(maps).astype(np.float64) for run, maps in kept.items()}


def test_the_reference_is_llama_cpps_float32(ours: tuple[Comparison, dict[int, Doubles]]) -> None:
    theirs = golden("reference")
    assert np.abs(ours[1][0] - attention(theirs)).max() < 2e-5
    losses = -log_softmax(theirs["result_output"].astype(np.float64), axis=1)
    mean = losses[np.arange(len(losses) - 1), theirs["ids"][1:]].mean()
    assert ours[0].perplexity == pytest.approx(float(np.exp(mean)), rel=1e-5)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_candidate_is_the_quantized_file_dequantized(
    preset: str, ours: tuple[Comparison, dict[int, Doubles]]
) -> None:
    number = 1 + PRESETS.index(preset)
    candidate = ours[0].candidates[number - 1]
    p, q = attention(golden("reference")), attention(golden(f"{preset}-F32"))
    assert np.abs(ours[1][number] - q).max() < 2e-5
    _attention_agrees(candidate, p, q)
    _predictions_agree(candidate, preset)


def _attention_agrees(candidate: CandidateDifference, p: Doubles, q: Doubles) -> None:
    tokens = p.shape[-1]
    theirs = {
        "largest_difference": np.abs(p - q).max(axis=(2, 3)),
        "mean_difference": np.abs(p - q).sum(axis=(2, 3)) / (tokens * (tokens + 1) / 2),
        "total_variation": np.abs(p - q).sum(axis=3).mean(axis=2) / 2,
        "jensen_shannon": (jensenshannon(p, q, base=2, axis=3) ** 2).mean(axis=2),
        "entropy_shift": (rel_entr(p, 1) - rel_entr(q, 1)).sum(axis=3).mean(axis=2) / np.log(2),
        "top_changed": (p.argmax(axis=3) != q.argmax(axis=3)).mean(axis=2),
    }
    for name, numbers in theirs.items():
        mine = [[getattr(head, name) for head in layer.heads] for layer in candidate.layers]
        np.testing.assert_allclose(mine, numbers, atol=2e-5, err_msg=name)


def _predictions_agree(candidate: CandidateDifference, preset: str) -> None:
    run = golden(f"{preset}-F32")
    p, q = (
        log_softmax(each["result_output"].astype(np.float64), axis=1)
        for each in (golden("reference"), run)
    )
    divergence = rel_entr(np.exp(p), np.exp(q)).sum(axis=1)
    np.testing.assert_allclose(candidate.kl_divergence, divergence, rtol=1e-3, atol=1e-7)
    assert candidate.top1_agreement == (p.argmax(axis=1) == q.argmax(axis=1)).mean()
    loss = -q[np.arange(len(q) - 1), run["ids"][1:]].mean()
    assert candidate.perplexity == pytest.approx(float(np.exp(loss)), rel=1e-5)


@pytest.mark.parametrize("preset", PRESETS)
def test_llama_cpp_on_the_quantized_file_itself_is_as_near_as_its_rounding_lets_it(
    preset: str, ours: tuple[Comparison, dict[int, Doubles]]
) -> None:
    """With quantized weights llama.cpp rounds activations to eight bits, too.

    That moves its attention by 2e-4 in the median and up to 6e-2: between its own two runs, and so
    between its run and ours.
    """
    number = 1 + PRESETS.index(preset)
    candidate = ours[0].candidates[number - 1]
    run = golden(preset)
    q = attention(run)
    seen = np.tri(q.shape[-1], dtype=bool)
    gaps = np.abs(ours[1][number] - q)[:, :, seen]
    assert np.median(gaps) < 1e-3
    assert np.quantile(gaps, 0.95) < 1e-2
    its_own = np.abs(attention(golden(f"{preset}-F32")) - q)[:, :, seen]
    np.testing.assert_allclose(gaps, its_own, atol=2e-5)
    p = attention(golden("reference"))
    theirs = np.abs(p - q).sum(axis=3).mean(axis=2) / 2
    mine = [[head.total_variation for head in layer.heads] for layer in candidate.layers]
    assert np.abs(np.array(mine) - theirs).max() < 1e-2
    logs = [
        log_softmax(each["result_output"].astype(np.float64), axis=1)
        for each in (golden("reference"), run, golden(f"{preset}-F32"))
    ]
    divergence, between = (
        rel_entr(np.exp(logs[n]), np.exp(logs[1])).sum(axis=1).mean() for n in (0, 2)
    )
    assert between < 1e-4  # of its own two runs
    # Small divergences are squares of distances: no further apart than its own two runs are.
    assert abs(candidate.mean_kl_divergence**0.5 - divergence**0.5) < between**0.5
    agreement = (logs[0].argmax(axis=1) == logs[1].argmax(axis=1)).mean()
    assert candidate.top1_agreement == pytest.approx(agreement, abs=2 / len(logs[0]))


def test_the_golden_runs_differ_as_their_types_do() -> None:
    p = attention(golden("reference"))
    gaps = [np.abs(attention(golden(preset)) - p).mean() for preset in PRESETS]
    assert gaps == sorted(gaps)
    assert gaps[0] * 5 < gaps[2]
    assert len(p) == LAYERS
