"""What real llama.cpp computed for quantizations of the sample: tests/golden/README.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

FOLDER = Path(__file__).parent.parent / "golden" / "compare"
PRESETS = ("Q8_0", "Q4_K_M", "Q2_K")
LAYERS = 4


def golden(name: str) -> dict[str, npt.NDArray[np.float32]]:
    """`ids` (T,), `result_output` (T, V) and `kq_soft_max-N` (H, T, T) of every layer."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


def attention(run: dict[str, npt.NDArray[np.float32]]) -> npt.NDArray[np.float64]:
    """(L, H, T, T)."""
    return np.stack([run[f"kq_soft_max-{layer}"] for layer in range(LAYERS)]).astype(np.float64)
