"""Rotary positions: each pair of numbers of a head is rotated by an angle that grows with position.

Follows ``ggml_compute_forward_rope_flt`` and ``rope_yarn`` in ggml's ``ggml-cpu/ops.cpp``, and what
``llama-context.cpp`` makes of the scaling keys. Papers: RoFormer (arXiv 2104.09864), YaRN
(2309.00071), LongRoPE (2402.13753).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from ggufscope.arrays import Floats
from ggufscope.model.families import Rope

_BETA_FAST: Final = 32.0
_BETA_SLOW: Final = 1.0
"""Turns over the context of training: pairs that make more than the first are left alone by YaRN,
pairs that make fewer than the second are slowed down, those between a part of it."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """How the heads of a layer are rotated."""

    pairs: Rope
    """``interleaved``: neighbours are a pair (ggml: NORM); ``half-split``: i and i + n/2 (NEOX)."""
    dimensions: int
    """How many numbers of a head are rotated, from its start; the rest stay."""
    base: float = 10000.0
    scale: float = 1.0
    """Positions are multiplied by it: 1 / the scaling factor."""
    factors: Floats | None = None
    """One divisor of the angle for each pair (llama 3, LongRoPE)."""
    yarn_context: int | None = None
    """The context of training where YaRN stretches it, else None."""
    magnitude: float = 1.0
    """Cosines and sines are multiplied by it (``rope.scaling.attn_factor``)."""

    def angles(self, start: int, tokens: int) -> tuple[Floats, Floats]:
        """Cosines and sines (tokens, dimensions / 2) for positions from ``start`` on.

        The angles are products in float32, one pair after the other, as ggml forms them: far into
        a text that differs from exact angles by more than float32's own rounding.
        """
        half = self.dimensions // 2
        steps = np.empty((tokens, half), np.float32)
        steps[:, 0] = np.arange(start, start + tokens)
        steps[:, 1:] = np.float32(self.base ** (-2.0 / self.dimensions))
        theta = np.multiply.accumulate(steps, axis=1)
        if self.factors is not None:
            theta /= self.factors
        magnitude = self.magnitude
        rotated = theta * np.float32(self.scale)
        if self.yarn_context is not None:
            kept = self._kept(self.yarn_context)
            rotated = rotated * (np.float32(1) - kept) + theta * kept
            magnitude *= 1.0 + 0.1 * math.log(max(1.0, 1.0 / self.scale))
        cosines: Floats = np.cos(rotated) * np.float32(magnitude)
        sines: Floats = np.sin(rotated) * np.float32(magnitude)
        return cosines, sines

    def _kept(self, context: int) -> Floats:
        """(dimensions / 2,): how much of its own speed each pair keeps under YaRN, 1 down to 0."""

        def pair_of(turns: float) -> float:
            """Return the pair, as a real number, that makes so many turns over the context."""
            return (
                self.dimensions
                * math.log(context / (turns * 2 * math.pi))
                / (2 * math.log(self.base))
            )

        low = max(0.0, math.floor(pair_of(_BETA_FAST)))
        high = min(self.dimensions - 1.0, math.ceil(pair_of(_BETA_SLOW)))
        pairs = np.arange(self.dimensions // 2, dtype=np.float32)
        ramp = (pairs - np.float32(low)) / np.float32(max(0.001, high - low))
        kept: Floats = np.float32(1) - np.clip(ramp, 0, 1)
        return kept


def rotate(x: Floats, pairs: Rope, cosines: Floats, sines: Floats) -> Floats:
    """x (T, heads, D), cosines and sines (T, n / 2) -> x with its first n numbers rotated."""
    if pairs not in ("interleaved", "half-split"):
        raise ValueError(f"no rotation is called {pairs!r}")
    half = cosines.shape[1]
    c, s = cosines[:, None, :], sines[:, None, :]
    if pairs == "interleaved":
        first, second = slice(0, 2 * half, 2), slice(1, 2 * half, 2)
    else:
        first, second = slice(0, half), slice(half, 2 * half)
    a, b = x[..., first], x[..., second]
    rotated = x.copy()
    rotated[..., first] = a * c - b * s
    rotated[..., second] = a * s + b * c
    return rotated
