"""What the tests of IQ1, IQ2 and IQ3 quantize: weights, importances, and every way to put them."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.blocks.weights import finite_edges, importances, other_edges, random_weights
from tests.golden.command import HERE

Rows = npt.NDArray[np.float32]
TYPES = ["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"]
BY_IMPORTANCE = ["IQ1_S", "IQ2_XXS", "IQ2_XS"]
"""Those that ggml makes by importance alone."""

KINDS: dict[str, Rows | None] = {"none": None, **dict(importances(256))}
WAYS = [
    (name, kind) for name in TYPES for kind in KINDS if kind != "none" or name not in BY_IMPORTANCE
]
PLAIN = [way for way in WAYS if way[1] in ("none", "typical")]
FILE = "searched.json"


@cache
def edges() -> Rows:
    """(rows, 256): a row or two of each kind of edge data."""
    rng = np.random.default_rng(5)
    kinds = [*dict(finite_edges()).values(), *dict(other_edges()).values()]
    return np.concatenate([x[rng.integers(0, len(x), 2)] for x in kinds])


@cache
def bulk() -> Rows:
    """(700, 256): ordinary weights."""
    return random_weights(256 * 700).reshape(-1, 256)


def digest(data: Any) -> str:
    """Return the first 16 hex digits of the SHA-256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(data).tobytes()).hexdigest()[:16]


def inputs() -> dict[str, str]:
    """Return the digest of all that is quantized, and of each importance."""
    given = {"bulk": bulk(), "edges": edges(), **KINDS}
    return {name: digest(x) for name, x in given.items() if x is not None}


@cache
def golden() -> Any:
    """Return what ggml makes of it; the data must be those of which it was made."""
    found = json.loads((HERE / FILE).read_text(encoding="utf-8"))
    assert found["inputs"] == inputs(), "the data are others: python -m tests.golden.make_searched"
    return found["made"]


def rows_made(name: str, kind: str) -> npt.NDArray[np.bool_]:
    """Return which rows of the edge data ggml makes (rows,): it ends at the others."""
    made = np.ones(len(edges()), np.bool_)
    made[golden()[f"{name} {kind}"]["refused"]] = False
    return made
