"""The sample under each preset in real llama.cpp: it loads, tells a story, loses what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ggufscope.errors import GGUFScopeError
from ggufscope.recipes.apply import quantize_model
from ggufscope.recipes.mixes import MIXES
from tests.llama_cpp import LlamaCpp

CONTEXT = 256


def _table(sample: Path) -> dict[str, float]:
    """preset -> loss, as samples/README.md has it."""
    text = sample.with_name("README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| [\d.]+ \| [\d,]+ \| ([\d.]+) \|", text, re.MULTILINE)
    return {preset: float(loss) for preset, loss in rows}


def _runnable(sample: Path, directory: Path) -> dict[str, Path]:
    """Every preset that can be made without an importance matrix, written."""
    made = {}
    for preset in MIXES:
        target = directory / f"{preset}.gguf"
        try:
            quantize_model(sample, {target: preset})
        except GGUFScopeError:
            continue
        made[preset] = target
    return made


def measure(model: Path, held_out: Any) -> tuple[float, str]:
    """Loss on the held-out text in nats per token, and how it continues a story."""
    end = held_out["windows"][0][0]
    with LlamaCpp(model, CONTEXT) as llama_cpp:
        rows = [llama_cpp.window_losses(window, end) for window in held_out["windows"]]
        story = llama_cpp.complete(prompt="The cat", n_predict=20)["text"]
    return sum(map(sum, rows)) / held_out["predicted"], story


@pytest.mark.slow
def test_every_preset_runs_in_llama_cpp_at_the_loss_that_the_readme_says(
    sample: Path, tmp_path: Path
) -> None:
    held_out = json.loads(sample.with_name("heldout.json").read_text())
    table = _table(sample)
    made = _runnable(sample, tmp_path)
    assert set(table) == set(made)
    for preset, path in made.items():
        loss, story = measure(path, held_out)
        assert len(story.split()) > 4, preset
        # Kernels differ between processors, and low-bit models amplify that.
        assert loss == pytest.approx(table[preset], rel=0.01), preset
