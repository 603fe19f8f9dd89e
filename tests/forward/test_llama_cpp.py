"""Next-token probabilities held to real llama.cpp in the test run itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ggufscope.container.file import open_gguf
from ggufscope.forward.transformer import Transformer
from ggufscope.recipes.apply import quantize_model
from tests.forward.running import of_next
from tests.llama_cpp import LlamaCpp
from tests.models.families import GELU, IDS, SMALL, write

END = 1
"""The end of text in the vocabulary of the small models; no token of the prompt."""
CONTEXT = 64

# One of each architecture, and mixtral; the golden files have them all.
ONE_OF_EACH = sorted({small.architecture: name for name, small in SMALL.items()}.values())


def of_llama_cpp(path: Path, ids: list[int], end: int) -> npt.NDArray[np.float64]:
    with LlamaCpp(path, max(CONTEXT, len(ids))) as running:
        return -np.array(running.losses(ids[:1], ids[1:], end))


def of_ours(path: Path, ids: list[int]) -> npt.NDArray[np.float64]:
    with open_gguf(path) as file:
        return of_next(Transformer.of(file).run(ids), ids)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_each_next_token_is_as_likely_as_in_llama_cpp(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"{name}.gguf", SMALL[name])
    ids = list(IDS)
    difference = np.abs(of_ours(path, ids) - of_llama_cpp(path, ids, END)).max()
    assert difference < (2e-2 if name in GELU else 1e-4)


@pytest.mark.parametrize(
    ("preset", "tolerance"), [("F32", 1e-4), ("COPY", 2e-3), ("Q8_0", 0.05), ("Q4_K_M", 0.2)]
)
def test_the_sample_and_what_quantizing_makes_of_it(
    preset: str, tolerance: float, sample: Path, tmp_path: Path
) -> None:
    """llama.cpp rounds activations to halves for F16 weights, to Q8 for quantized ones."""
    ids = json.loads(sample.with_name("heldout.json").read_text())["windows"][0][:36]
    path = tmp_path / "model.gguf"
    quantize_model(sample, {path: preset})
    difference = np.abs(of_ours(path, ids) - of_llama_cpp(path, ids, 0))
    assert difference.max() < tolerance
    assert np.median(difference) < 1e-4
