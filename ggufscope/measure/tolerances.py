"""How far from the reference a well-made quantization may be, by type.

For attention, heads and layers: three times the worst that any head, layer or prompt showed when
the sample was quantized to the type: "The cat sat on the mat", and the eight windows of its
held-out stories at 8, 24 and 64 tokens. For the KL divergence: about twice what llama.cpp publishes
for Llama 3 8B (``tools/perplexity/README.md``); the sample's is a hundredth of that.
``tests/measure/test_tolerances.py`` measures again, the README shows the figures. The sample has
four layers: what a deeper model may lose is for its user to say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final

from ggufscope.blocks.layouts import LAYOUTS


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that each metric may be."""

    total_variation: float
    """Of a head, mean over its rows."""
    head_output_error: float
    layer_output_error: float
    kl_divergence: float
    """Nats, mean over the prompt."""


EXACT: Final = Limits(1e-5, 1e-5, 1e-5, 1e-7)
"""For float32: rounding in another order, no more."""

LIMITS: Final[dict[str, Limits]] = {
    "F16": Limits(0.003, 0.011, 0.005, 1e-4),
    "BF16": Limits(0.003, 0.011, 0.005, 1e-4),
    "Q8_0": Limits(0.008, 0.045, 0.014, 0.003),
    "Q6_K": Limits(0.027, 0.14, 0.045, 0.011),
    "Q5_K": Limits(0.055, 0.26, 0.085, 0.025),
    "Q5_1": Limits(0.06, 0.26, 0.09, 0.03),
    "Q5_0": Limits(0.07, 0.3, 0.11, 0.04),
    "Q4_K": Limits(0.13, 0.5, 0.17, 0.09),
    "Q4_1": Limits(0.13, 0.6, 0.18, 0.15),
    "Q4_0": Limits(0.14, 0.6, 0.2, 0.15),
    "IQ4_NL": Limits(0.12, 0.5, 0.18, 0.09),
    "IQ4_XS": Limits(0.12, 0.5, 0.18, 0.09),
    "NVFP4": Limits(0.15, 0.65, 0.25, 0.15),
    "MXFP4": Limits(0.2, 0.7, 0.42, 0.2),
    "Q3_K": Limits(0.24, 1.2, 0.36, 0.5),
    "Q2_K": Limits(0.45, 2.2, 0.8, 0.9),
}
"""By type. One that is not here gets those of the measured type with the next fewer bits; below
two and a half bits those of Q2_K, which hardly anything made without training keeps to."""


def limits_of_type(type_: str) -> Limits:
    """Return the limits of one type."""
    if type_ in LIMITS:
        return LIMITS[type_]
    bits = LAYOUTS[type_].bits_per_weight
    if bits >= LAYOUTS["F32"].bits_per_weight:
        return EXACT
    below = [other for other in LIMITS if LAYOUTS[other].bits_per_weight <= bits]
    return LIMITS[max(below, key=lambda other: LAYOUTS[other].bits_per_weight, default="Q2_K")]


def default_tolerances(types: Iterable[str]) -> dict[str, float]:
    """Return the limits of what is made of several types: of each metric the widest."""
    found = asdict(EXACT)
    for type_ in types:
        for metric, limit in asdict(limits_of_type(type_)).items():
            found[metric] = max(found[metric], limit)
    return found
