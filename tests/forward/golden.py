"""What real llama.cpp computed for the models of `tests/families.py`: tests/golden/README.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.models.families import IDS

FOLDER = Path(__file__).parent.parent / "golden" / "forward"


def golden(name: str) -> dict[str, npt.NDArray[np.float32]]:
    """`result_output` (T, V) and `kq_soft_max-N` (H, T, T) of every layer."""
    ids, found = golden_of_ids(name)
    assert ids == IDS
    return found


def golden_of_ids(name: str) -> tuple[tuple[int, ...], dict[str, npt.NDArray[np.float32]]]:
    """The same, for a prompt of its own, which comes first."""
    with np.load(FOLDER / f"{name}.npz") as file:
        ids = tuple(int(token) for token in file["ids"])
        return ids, {key: file[key] for key in file.files if key != "ids"}


def largest_difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
    """The largest absolute difference over everything that llama.cpp gave; ours has all of it."""
    assert theirs
    found = [np.abs(np.asarray(ours[key], np.float64) - theirs[key]) for key in theirs]
    return max(float(difference.max()) for difference in found)
