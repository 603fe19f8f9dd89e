"""Every family that runs can be compared, and its candidates are what a file of them would be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ggufscope.container.file import open_gguf
from ggufscope.measure.candidates import of_cache, of_file, of_types
from ggufscope.measure.compare import compare
from ggufscope.recipes.apply import quantize_model
from ggufscope.recipes.options import PlanOptions
from tests.models.families import IDS, SMALL, WIDE, write


@pytest.mark.parametrize("name", SMALL)
def test_memory_and_file_agree_in_every_family(name: str, tmp_path: Path) -> None:
    source = write(tmp_path / "model.gguf", SMALL[name])
    target = tmp_path / "q8.gguf"
    quantize_model(source, {target: "Q8_0"}, options=PlanOptions(pure=True))
    with open_gguf(source) as file, open_gguf(target) as other:
        runs = [*of_types(file, ["Q8_0"]), of_file(file, other)]
        memory, written = compare(file, IDS, runs).candidates
        tensors = {*file.tensors}
    assert memory.layers == written.layers
    assert memory.kl_divergence == written.kl_divergence
    assert memory.tensors == written.tensors
    assert written.verdict.making is not None
    assert written.verdict.making.identical == written.verdict.making.tensors == len(tensors)
    assert any(head.total_variation > 0 for head in memory.heads)
    assert all(np.isfinite(head.output_error) for head in memory.heads)
    # Random routers are undecided: some tokens go to other experts.
    assert memory.mean_kl_divergence < (0.1 if "exps" in str(memory.tensors) else 0.01)


def test_a_cache_of_turned_heads_is_compared_in_its_own_directions(tmp_path: Path) -> None:
    """Heads of 64 are turned before they are stored: what they hand on is turned back."""
    source = write(tmp_path / "model.gguf", WIDE)
    with open_gguf(source) as file:
        keys, values, both = compare(file, IDS, of_cache("q8_0", "q8_0")).candidates
    for candidate in (keys, values, both):
        assert all(head.output_cosine > 0.999 for head in candidate.heads)
    assert all(head.output_error > 1e-5 for head in values.layers[0].heads)
