"""The rows of the anatomy table: one quantity each, stored or computed.

``needs`` says when a row applies: words that must all be among the layer's facts, which are the
stems of its stored tensors (``attn_q``) and a few flags (``Facts`` in anatomy.py explains them);
``!word`` must not be there. A ``{word}`` in a name, source or caption is filled in there too.
Names of computed quantities are those of llama.cpp's graph (the ``cb`` calls in
``llama-graph.cpp`` and ``src/models``); ``inpL`` is its name for what enters a layer.

Shapes are in symbols, NumPy order, so a matrix is ``[out, in]`` and ``y = x @ W.T``:

====  =========================================  ====  ====================================
``T``  tokens in this pass                        ``V``  entries of the vocabulary
``S``  tokens that can be seen, this pass's too   ``F``  width of the feed-forward
``E``  width of the embedding                     ``X``  experts
``H``  heads (of queries)                         ``U``  experts used for one token
``K``  heads of keys and values                   ``P``  width of one expert
``D``  size of a head, queries and keys           ``L``  width of the latent (MLA)
``M``  size of a head, values                     ``R``  rotated part of a head (MLA)
``Q``  width of squeezed queries (MLA)            ``N``  part that is not rotated (MLA)
====  =========================================  ====  ====================================
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """Where a quantity lives."""

    STORED = "stored"
    COMPUTED = "computed"
    CACHED = "cached"
    """Computed, and kept from token to token while the model runs: the KV cache."""


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity of the table; shapes and sources are words parted by spaces."""

    kind: Kind
    name: str
    axes: str
    needs: str
    made_from: str
    caption: str


def stored(stem: str, axes: str, caption: str, needs: str = "") -> Row:
    """Give the row of a tensor in the file, which applies where the tensor is there."""
    return Row(Kind.STORED, f"{stem}.weight", axes, f"{stem} {needs}", "", caption)


def computed(name: str, axes: str, needs: str, made_from: str, caption: str) -> Row:
    """Give the row of a quantity that exists only while the model runs."""
    return Row(Kind.COMPUTED, name, axes, needs, made_from, caption)


def cached(name: str, axes: str, needs: str, made_from: str, caption: str) -> Row:
    """Give the row of a quantity that is kept from token to token."""
    return Row(Kind.CACHED, name, axes, needs, made_from, caption)


HEAD: Final = (
    stored("token_embd", "V E", "One learned vector for each entry of the vocabulary."),
    stored("position_embd", "? E", "One learned vector for each position."),
    stored("token_embd_norm", "E", "Learned scale of the embedding."),
    computed(
        "embd",
        "T E",
        "token_embd",
        "token_embd.weight",
        "The rows of the vocabulary that the text's tokens pick: here text becomes numbers.",
    ),
)

TAIL: Final = (
    stored("output_norm", "E", "Learned scale before the output."),
    computed(
        "result_norm",
        "T E",
        "output_norm",
        "l_out output_norm.weight",
        "The last layer's output, brought to a common size.",
    ),
    stored(
        "output",
        "V E",
        "Learned: turns a token's vector into a score for each entry of the vocabulary.",
    ),
    computed(
        "result_output",
        "T V",
        "output",
        "result_norm output.weight",
        "The logits: how likely each entry is to come next.",
    ),
    computed(
        "result_output",
        "T V",
        "!output token_embd",
        "result_norm token_embd.weight",
        "The logits: how likely each entry is to come next. The embedding serves as W_out too.",
    ),
)
