"""When a row of the table applies to a layer: ``has("attn_q") & ~LATENT``.

A condition is an object: one that is misspelt fails when the table is imported. The facts are what
llama.cpp's graph builders (``src/models``) go by: which tensors a layer has, and a few keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ggufscope.model.roles import STEMS


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a condition may look at: the tensors of one layer, and what the metadata says."""

    stems: frozenset[str]
    """``attn_q`` for ``blk.7.attn_q.weight``."""
    is_mla: bool = False
    parallel_residual: bool = False
    up: tuple[int, ...] | None = None
    """The shape of ``ffn_up``; None where there is none."""
    width: int = 0
    """Features of the feed-forward."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A yes or no about the facts of a layer."""

    holds: Callable[[Facts], bool]

    def __and__(self, other: Condition) -> Condition:
        return Condition(lambda facts: self.holds(facts) and other.holds(facts))

    def __or__(self, other: Condition) -> Condition:
        return Condition(lambda facts: self.holds(facts) or other.holds(facts))

    def __invert__(self) -> Condition:
        return Condition(lambda facts: not self.holds(facts))


def has(*stems: str) -> Condition:
    """Return the condition: the layer has a tensor of one of these stems.

    Raises ``ValueError`` for a stem that no tensor has (see ``STEMS`` in roles.py).
    """
    if not STEMS.keys() >= set(stems):
        raise ValueError(f"no tensor is called {' or '.join(stems)}")
    return Condition(lambda facts: not facts.stems.isdisjoint(stems))


ALWAYS: Final = Condition(lambda facts: True)
ATTENDS: Final = has("attn_q", "attn_qkv", "attn_kv_a_mqa")
CACHED: Final = has("attn_k", "attn_qkv", "attn_kv_a_mqa")
"""It has keys and values of its own; in some models a layer uses those of one before it."""
LATENT: Final = has("attn_kv_a_mqa")
"""Keys and values of all heads are squeezed into one latent."""
MLA: Final = Condition(lambda facts: facts.is_mla) & has("attn_k_b")
"""They stay so in the cache."""
PARALLEL: Final = Condition(lambda facts: facts.parallel_residual) | ~has(
    "ffn_norm", "post_attention_norm", "attn_output_norm"
)
"""Attention and feed-forward read the same input."""
POST_ATTN: Final = has("post_attention_norm") & (has("ffn_norm") | ~has("attn_norm"))
"""The norm called post_attention is one, not another name of the one before the feed-forward."""
FUSED_UP: Final = ~has("ffn_gate") & Condition(
    lambda facts: facts.up is not None and facts.up[:1] == (2 * facts.width,)
)
"""One matrix holds gate and features."""
