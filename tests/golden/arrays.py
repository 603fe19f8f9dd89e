"""Golden arrays: read, held to new ones, and the files of the sample that they are made from."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from ggufscope.recipes.apply import quantize_model
from ggufscope.recipes.options import PlanOptions
from tests.golden.command import HERE, SAMPLE, Outcome
from tests.recipes.golden import load

Arrays = dict[str, Any]
"""Name -> array."""
TOLERANCE = 1e-4
"""As far as a llama.cpp whose kernels add up in another order may be: logits reach 10, the tests
that read these files allow as much."""


def stored(path: Path) -> Arrays:
    """Return the arrays of a file, in its order."""
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def array_outcome(name: str, made: Arrays, folder: Path | None) -> Outcome:
    """Write the arrays, or hold them to the ones here: the same names, order, shapes, values."""
    if folder:
        (folder / name).parent.mkdir(exist_ok=True)
        np.savez_compressed(folder / name, **made)
        return Outcome(name, True, "written")
    mine = stored(HERE / name)
    if list(mine) != list(made) or any(mine[k].shape != made[k].shape for k in mine):
        return Outcome(name, False, f"OTHER NAMES OR SHAPES: {sorted(mine)}, {sorted(made)}")
    furthest = max(
        float(np.abs(mine[key].astype(np.float64) - made[key]).max(initial=0)) for key in mine
    )
    if furthest == 0:
        return Outcome(name, True)
    words = f"differs by up to {furthest:.1e}"
    return Outcome(name, furthest <= TOLERANCE, words if furthest <= TOLERANCE else words.upper())


def quantized(models: Path, preset: str, then: str | None = None) -> Path:
    """Write the sample in a preset, and once more in another: llama-quantize's own bytes.

    `quantize/stories.json` has the digest of what llama-quantize wrote for the first.
    """
    path = models / f"{preset}.gguf"
    if not path.exists():
        quantize_model(SAMPLE, {path: preset})
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        assert found == load("stories")["presets"][preset]["sha256"], preset
    if then is None:
        return path
    again = models / f"{preset}-{then}.gguf"
    quantize_model(path, {again: then}, options=PlanOptions(allow_requantize=True))
    return again
