"""The few facts about a model that recipes go by.

Follows ``load_hparams`` in llama.cpp's ``llama-model.cpp`` and the ``type`` that the files of
``src/models`` give a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ggufscope.model.hparams import read_hparams
from ggufscope.model.keys import architecture_of


@dataclass(frozen=True, slots=True)
class Traits:
    """What of a model's metadata decides types."""

    architecture: str
    layers: int
    """All of them, those that predict further tokens included."""
    query_group: int | None
    """Query heads to a key/value head, by layer 0 alone; 0 where that layer has no
    key/value heads, None where the model has no layers."""
    experts: int
    seventy_b: bool


# Layers at which llama.cpp calls a model of this architecture 70B. llama's needs GQA as well.
_SEVENTY_B: Final = {
    "llama": 80,
    "llama-embed": 80,
    "qwen2": 80,
    "deci": 80,
    "olmo": 80,
    "jais2": 68,
}


def traits_of(metadata: Mapping[str, Any]) -> Traits:
    """Read the traits of a model; raises ``HyperparameterError``."""
    if architecture_of(metadata) == "clip":  # an image encoder: llama.cpp reads none of its keys
        return Traits("clip", 0, None, 0, False)
    hparams = read_hparams(metadata)
    heads = hparams.head_count[0] if hparams.head_count else 0
    shared = hparams.head_count_kv[0] if hparams.head_count_kv else 0
    architecture, experts = hparams.architecture, hparams.expert_count or 0
    own_layers = hparams.block_count - hparams.nextn_predict_layers
    seventy_b = _SEVENTY_B.get(architecture) == own_layers
    if architecture.startswith("llama"):
        seventy_b = seventy_b and heads != shared and experts != 8
    # graniteswitch gets a layer more, for its router, in place of those for further tokens.
    layers = own_layers + 1 if architecture == "graniteswitch" else hparams.block_count
    return Traits(architecture, layers, heads // shared if shared else 0, experts, seventy_b)
