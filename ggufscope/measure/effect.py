"""What quantizing did to a model, on one scale for every type.

Two numbers say it: the mean KL divergence of the next-token distributions over the prompt, and the
attention that moved, the mean total variation of all heads' rows. The more severe of the two is the
level. Models differ in how much of the one goes with the other: the divergence of a small model
hardly moves, and a deep one may attend elsewhere and say the same.

Where the limits come from. llama.cpp publishes mean divergences against FP16
(``tools/quantize/README.md``, ``tools/perplexity/README.md``). Llama 3 8B: Q8_0 0.0014,
Q6_K 0.0055, Q5_K_M 0.0108, Q4_K_M 0.0313, Q4_0 0.0719, Q3_K_M 0.102, Q3_K_S 0.228, Q2_K 0.445,
IQ2_XXS 0.81, IQ1_S 2.2. Llama 2 7B: Q8_0 0.0004, Q6_K 0.0021, Q4_K_M 0.0127, Q2_K 0.109. The
divergences of the sample are a hundredth of these. So the limits of the attention are set by how
much of it moved there, on prompts of 7 to 64 tokens: Q8_0 0.10 to 0.18%, Q6_K 0.3 to 0.6%, Q5_K 0.8
to 1.2%, Q4_K 1.4 to 2.5%, Q4_0 1.6 to 3.0%, Q3_K 2.8 to 5.3%, Q2_K 6.0 to 10.8%.
Random weights, which tests use, amplify: of a model of 32 layers Q8_0 moves 5.0%, at 0.011 nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import inf, isnan
from typing import Final


class Level(StrEnum):
    """How large an effect is, the smallest first."""

    NEGLIGIBLE = "negligible"
    """Nothing to speak of: as far as two programs may differ."""
    SMALL = "small"
    VISIBLE = "visible"
    BROKEN = "broken"

    @property
    def rank(self) -> int:
        """0 for the smallest."""
        return list(Level).index(self)


LIMITS: Final[dict[Level, tuple[float, float]]] = {
    Level.NEGLIGIBLE: (0.01, 0.01),
    Level.SMALL: (0.05, 0.03),
    Level.VISIBLE: (0.5, 0.2),
    Level.BROKEN: (inf, inf),
}
"""Level -> what the KL divergence (nats) and the total variation (0 to 1) stay below."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a candidate did to the model."""

    level: Level
    decided_by: str
    """The metric of the higher level: ``kl_divergence`` or ``total_variation``."""
    kl_divergence: float
    """Nats a token, mean over the prompt."""
    total_variation: float
    """Share of the attention that moved, mean over all heads and tokens."""
    tokens: int
    """Tokens that it was measured over: the fewer, the less the divergence says."""

    @property
    def is_number(self) -> bool:
        """Whether the model computes numbers at all: of what overflows nothing can be said."""
        return not isnan(self.kl_divergence + self.total_variation)

    @property
    def severity(self) -> tuple[int, float]:
        """To order effects by: the level, and how far within it the nearer of its limits is."""
        level = Level.VISIBLE if self.level is Level.BROKEN else self.level
        kl, moved = LIMITS[level]
        used = max(self.kl_divergence / kl, self.total_variation / moved)
        return self.level.rank, used if self.is_number else inf


def effect_of(kl_divergence: float, total_variation: float, tokens: int) -> Effect:
    """Return the level of two numbers. One that is no number is beyond all limits."""
    by_kl = _level(kl_divergence, 0)
    by_attention = _level(total_variation, 1)
    name = "total_variation" if by_attention.rank > by_kl.rank else "kl_divergence"
    level = max(by_kl, by_attention, key=lambda each: each.rank)
    return Effect(level, name, kl_divergence, total_variation, tokens)


def _level(number: float, which: int) -> Level:
    return next((level for level in Level if number < LIMITS[level][which]), Level.BROKEN)
