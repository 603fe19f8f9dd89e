"""Architectures: what sets one apart from another when its tensors are much the same.

A GGUF file names its architecture; the graph itself is in llama.cpp's ``src/models``. What a
listing has to know of it is little: how positions enter, which activation the feed-forward uses,
which layers look through a sliding window, and whether the layer is built in the usual order.
An architecture that is missing here, or is in ``OTHER_GRAPHS``, still lists its stored tensors.

Follows ``llama_model_rope_type`` in ``llama-model.cpp`` and each model's ``load_arch_hparams``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from ggufscope.model.hparams import HParams

Rope = Literal["interleaved", "half-split", "sections", "none"]
"""Which pairs of a head are rotated: neighbours (ggml calls it NORM), halves (NEOX), or by section
(MROPE)."""


@dataclass(frozen=True, slots=True)
class Window:
    """Which layers see only the last tokens: ``period - 1`` of every ``period``."""

    period: int | None
    """None where only the file says, with a pattern of one entry a layer; 0 for all layers."""
    full_first: bool = False
    """The layer that sees everything is the first of its period, not the last."""
    length: int | None = None
    """The window of a file that does not say."""
    layers: int | None = None
    """Only the model of this many layers has windows."""


@dataclass(frozen=True, slots=True)
class Family:
    """How one architecture differs from llama."""

    rope: Rope = "interleaved"
    activation: str = "swiglu"
    """As llama.cpp's graph calls it: ``ffn_<activation>``, ``ffn_moe_<activation>``."""
    window: Window | None = None
    residual: str = "ffn_inp"
    """llama.cpp's name for the input plus the attention's output."""


def _families() -> dict[str, Family]:
    table: dict[str, Family] = {}
    for rope, names in _ROPE.items():
        table |= dict.fromkeys(names.split(), Family(rope=rope))
    for activation, names in _ACTIVATIONS.items():
        table |= {name: replace(table[name], activation=activation) for name in names.split()}
    table |= {
        name: replace(table[name], window=window)
        for name, window in WINDOWS.items()
        if name in table
    }
    return table | {name: replace(table[name], residual="sa_out") for name in _SA_OUT.split()}


_ROPE: Final[dict[Rope, str]] = {
    "interleaved": """
        arcee arctic baichuan bailingmoe chameleon chatglm cohere2 cohere2moe command-r deci
        deepseek deepseek2 ernie4_5 ernie4_5-moe glm4 granite granite_swa granitehybrid granitemoe
        internlm2 llada llama llama-embed llama4 maincoder minicpm mistral3 mistral4 muse-glimmer
        olmo plm smollm3 starcoder xverse
    """,
    "half-split": """
        afmoe apertus bailingmoe2 bitnet codeshell dbrx dots1 dream exaone exaone-moe exaone4 falcon
        falcon-h1 gemma gemma-embedding gemma2 gemma3 gemma4 glm4moe gpt-oss gptneox grok grovemoe
        hunyuan-dense hunyuan-moe hunyuan_vl hy_v3 jais2 laguna lfm2 lfm2moe llada-moe maple mellum
        mimo2 minicpm3 minimax-m2 nemotron olmo2 olmoe openelm orion pangu-embedded phi2 phi3 phimoe
        plamo plamo3 qwen qwen2 qwen2moe qwen3 qwen3moe qwen3next rnd1 seed_oss smallthinker
        spark2_5 stablelm starcoder2 step35 talkie
    """,
    "sections": "paddleocr qwen2vl qwen35 qwen35moe qwen3vl qwen3vlmoe",
    "none": "bloom gpt2 jais jamba mpt nemotron_h nemotron_h_moe refact",
}
_ACTIVATIONS: Final = {
    "geglu": "gemma gemma-embedding gemma2 gemma3 gemma4 grok spark2_5",
    "gelu": "bloom codeshell falcon gpt2 gptneox mpt phi2 starcoder starcoder2",
    "sqr(relu)": "arcee jais2 nemotron nemotron_h nemotron_h_moe plm",
    "swiglu_oai": "gpt-oss",
    "xielu": "apertus",
    "relu": "smallthinker",
}
_WINDOWS: Final = {
    Window(0): "lfm2",
    Window(2): "gpt-oss",
    Window(2, length=4096): "gemma2",
    Window(4): "afmoe cohere2 mellum muse-glimmer olmo2",
    Window(4, full_first=True): "cohere2moe laguna smallthinker",
    Window(4, length=128): "exaone-moe",
    Window(4, length=4096, layers=64): "exaone4",
    Window(4, length=8192): "llama4",
    Window(5): "gemma3n",
    Window(6): "gemma-embedding gemma3",
    Window(8): "plamo3",
    Window(None): "gemma4 granite_swa maple mimo2 spark2_5 step35",
}
WINDOWS: Final = {name: window for window, names in _WINDOWS.items() for name in names.split()}
"""Architectures with sliding windows, those of unusual graphs among them."""

_SA_OUT: Final = "gemma gemma2 gemma3"

FAMILIES: Final[dict[str, Family]] = _families()
"""Every architecture whose layers are built in the usual order, by its GGUF name."""

OTHER_GRAPHS: Final[dict[str, str]] = {
    **dict.fromkeys(
        ("bert", "eurobert", "jina-bert-v2", "jina-bert-v3", "modern-bert", "neo-bert"),
        "is an encoder: each token sees those after it too, and nothing is cached",
    ),
    **dict.fromkeys(("nomic-bert", "nomic-bert-moe"), "is an encoder: nothing is cached"),
    **dict.fromkeys(("mamba", "mamba2"), "keeps a state instead of attention"),
    **dict.fromkeys(
        ("rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"), "keeps a state instead of attention"
    ),
    **dict.fromkeys(("t5", "t5encoder"), "has an encoder, and attention across to it"),
    "clip": "is the vision or audio part of another model",
}
"""Architectures known to be built otherwise, and in what way."""


def window_of(family: Family, hparams: HParams, layer: int) -> int | None:
    """Return how many tokens layer ``layer`` can see, or None where it sees all of them."""
    return window_at(family.window, hparams, layer)


def window_at(window: Window | None, hparams: HParams, layer: int) -> int | None:
    """Return how many tokens a layer can see by this rule, or None where it sees all of them.

    Follows ``llama_hparams::set_swa_pattern``: a pattern in the file goes before the family's own.
    """
    length = hparams.sliding_window
    if window is None or length == 0 or window.layers not in (None, hparams.block_count):
        return None
    length = length or window.length
    pattern = hparams.sliding_window_pattern
    if length is None or (pattern is None and window.period is None):
        return None
    if pattern is not None and len(pattern.numbers) > 1:
        return length if pattern[layer] else None
    period = pattern[0] if pattern is not None else window.period
    if not period:
        return length
    full = 0 if window.full_first else period - 1
    return None if layer % period == full else length
