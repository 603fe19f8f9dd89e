"""Recurrent layers: which they are, and what of a sequence they keep instead of keys and values.

A state has one size however long the text is. Follows ``n_embd_r`` and ``n_embd_s`` of llama.cpp's
``llama-hparams.cpp`` and what the files of ``src/models`` say of ``is_recr``.
"""

from __future__ import annotations

from typing import Final

from ggufscope.errors import NotDerivable
from ggufscope.model.hparams import HParams

RECURRENT: Final = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
"""Architectures without attention."""

INTERVALS: Final = {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4, "minimax-01": 8}
"""Architectures of whose layers one in so many attends, where the file does not say."""

_BY_HEADS: Final = frozenset(
    ["jamba", "granitehybrid", "lfm2", "lfm2moe", "plamo2", "kimi-linear", "kimi-k3", "bailingmoe3"]
)
_BOTH: Final = "falcon-h1"
_SEPARATE: Final = frozenset({"nemotron_h", "nemotron_h_moe"})

HYBRID: Final = _BY_HEADS | _SEPARATE | INTERVALS.keys() | {_BOTH}
"""Architectures in which some layers attend and others keep a state."""

# Those that know groups; what a file of another says of them is not read.
_GROUPED: Final = {
    "mamba2",
    "granitehybrid",
    "plamo2",
    "qwen3next",
    "qwen35",
    "qwen35moe",
    _BOTH,
} | _SEPARATE


def keeps_state(hparams: HParams, layer: int) -> bool:
    """Whether a layer keeps a state."""
    architecture = hparams.architecture
    if architecture in RECURRENT or architecture == _BOTH:
        return True
    if architecture not in HYBRID or layer >= hparams.block_count - hparams.nextn_predict_layers:
        return False
    if architecture in INTERVALS:
        if hparams.recurrent_layers is not None:
            return bool(hparams.recurrent_layers[layer])
        interval = hparams.full_attention_interval or INTERVALS[architecture]
        return (layer + 1) % interval != 0
    without_heads = not hparams.head_count_kv or not hparams.head_count_kv[layer]
    return without_heads and not (architecture in _SEPARATE and _feed_forward(hparams, layer))


def attends(hparams: HParams, layer: int) -> bool:
    """Whether a layer keeps keys and values."""
    architecture = hparams.architecture
    if architecture in RECURRENT:
        return False
    if architecture in _SEPARATE and _feed_forward(hparams, layer):
        return False
    return architecture == _BOTH or not keeps_state(hparams, layer)


def state_elements(hparams: HParams) -> tuple[int, int]:
    """Return how many numbers a layer keeps of a sequence: (inputs of its convolution, state).

    Raises ``NotDerivable`` where the metadata leaves out what they are made of.
    """
    if hparams.wkv_head_size:
        width = _needed(hparams, hparams.embedding_length, "embedding_length")
        return hparams.token_shift_count * width, width * hparams.wkv_head_size
    if hparams.shortconv_l_cache:
        width = _needed(hparams, hparams.embedding_length, "embedding_length")
        return width * (hparams.shortconv_l_cache - 1), 0
    taps = max(hparams.ssm_conv_kernel - 1, 0)
    if hparams.kda_head_dim:
        heads = _heads(hparams)
        inner = heads * hparams.kda_head_dim
        return 3 * (taps or 3) * inner, inner * hparams.kda_head_dim
    if hparams.architecture == "minimax-01":
        size = _needed(hparams, hparams.key_length, "attention.key_length")
        return 0, size * size * _heads(hparams)
    inner = _needed(hparams, hparams.ssm_inner_size, "ssm.inner_size")
    state = _needed(hparams, hparams.ssm_state_size, "ssm.state_size")
    _needed(hparams, hparams.ssm_conv_kernel, "ssm.conv_kernel")
    groups = hparams.ssm_group_count if hparams.architecture in _GROUPED else 0
    return taps * (inner + 2 * groups * state), state * inner


def _heads(hparams: HParams) -> int:
    return _needed(
        hparams, hparams.head_count[0] if hparams.head_count else None, "attention.head_count"
    )


def _feed_forward(hparams: HParams, layer: int) -> bool:
    return bool(hparams.feed_forward_length and hparams.feed_forward_length[layer])


def _needed(hparams: HParams, number: int | None, key: str) -> int:
    if not number:
        raise NotDerivable(
            f"key '{hparams.architecture}.{key}' is missing or 0, and the state of its layers is "
            "made of it",
            hint="the metadata is incomplete: llama.cpp could not run this model either",
        )
    return number
