"""gemma, gemma2 and gemma3: scaled embeddings, a norm after each part as well as before it.

gemma2 soft-caps scores and logits; gemma2 and gemma3 look through a window in most layers. (The
``1 +`` of gemma's norms is already in the weights of a GGUF file.)
Follows llama.cpp's ``models/gemma.cpp``, ``gemma2.cpp`` and ``gemma3.cpp``.
"""

from __future__ import annotations

from typing import Final

from ggufscope.arrays import Floats
from ggufscope.forward.block import Block
from ggufscope.forward.families import llama
from ggufscope.forward.ffn import feed_forward
from ggufscope.forward.graph import Graph
from ggufscope.model.hparams import HParams

_LAYERS_OF_27B: Final = {"gemma2": 46, "gemma3": 62}
"""The models of this many layers share out the embedding for the scale, not the head."""
_SCORE_CAP: Final = 50.0
_LOGIT_CAP: Final = 30.0
"""gemma2's where the file does not say."""


def layer(block: Block, x: Floats) -> Floats:
    """x (T, E) -> (T, E); the norms after each part are there from gemma2 on."""
    added = _attend(block, x)
    if block.has("post_attention_norm"):
        added = block.tap("attn_post_norm", block.norm("post_attention_norm", added))
    x = block.tap("sa_out", added + x)
    added = feed_forward(block, block.tap("ffn_norm", block.norm("ffn_norm", x)))
    if block.has("post_ffw_norm"):
        added = block.tap("ffn_post_norm", block.norm("post_ffw_norm", added))
    return block.tap("l_out", added + x)


def _attend(block: Block, x: Floats) -> Floats:
    q, k, v = llama.queries_keys_values(block, x)
    scale, cap = _scores(block)
    # The queries are scaled here, before the cap; llama.cpp's scale of the scores comes after it.
    return block.attention(block.scaled(q, scale), k, v, scale=1.0, cap=cap)


def _scores(block: Block) -> tuple[float, float | None]:
    """Return the scale of the queries, and the cap of the scores."""
    hparams = block.hparams
    shared = block.heads.size
    if hparams.block_count == _LAYERS_OF_27B.get(hparams.architecture):
        shared = (hparams.embedding_length or 0) // block.heads.count
    cap = None
    if hparams.architecture == "gemma2":
        said = hparams.attn_logit_softcapping
        cap = _SCORE_CAP if said is None else said
    return shared**-0.5, cap


def _cap2(hparams: HParams) -> float | None:
    said = hparams.final_logit_softcapping
    return _LOGIT_CAP if said is None else said


def _cap3(hparams: HParams) -> float | None:
    return hparams.final_logit_softcapping


GEMMA: Final = Graph(layer, scaled_embedding=True, scores=_scores)
GEMMA2: Final = Graph(layer, scaled_embedding=True, logit_cap=_cap2, scores=_scores)
GEMMA3: Final = Graph(
    layer,
    scaled_embedding=True,
    window_base=10000.0,
    window_stretched=False,
    logit_cap=_cap3,
    scores=_scores,
)
