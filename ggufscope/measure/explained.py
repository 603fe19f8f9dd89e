"""One token's attention in one head, in numbers: what ``explain`` returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ggufscope.arrays import Doubles, Floats
from ggufscope.forward.block import Heads
from ggufscope.forward.rope import Rotation


@dataclass(frozen=True, slots=True)
class Norm:
    """How a vector is brought to a common size: ``(x - centre) / divisor * weight + bias``."""

    kind: str
    """``rms`` or ``layer``."""
    centre: float | None
    """The mean, which is taken off first; None for RMS norm."""
    epsilon: float
    divisor: float
    """sqrt of the mean square (of what is left) and epsilon."""


@dataclass(frozen=True, slots=True)
class Explained:
    """One token's attention in one head. T tokens are in the prompt, E numbers in a vector."""

    ids: tuple[int, ...]
    position: int
    layer: int
    head: int
    heads: Heads
    window: int | None
    rotation: Rotation | None

    embd: Floats
    """(E,): the token's row of the table."""
    embd_type: str
    """What the table is stored in."""
    embd_scale: float | None
    """What the row is multiplied by; None for nothing (gemma)."""
    position_embd: Floats | None
    """(E,): the row of its position, which is added; None without such a table (gpt2)."""
    entering: Floats
    """(E,): ``inpL``, what enters the layer."""
    norm: Norm
    attn_norm: Floats
    """(E,)."""

    q_steps: dict[str, Floats]
    """``projected``, ``normed``, ``rotated``, ``scaled`` -> (D,); the last one meets the keys."""
    k_steps: dict[str, Floats]
    """The same of the token's own key."""
    q_scale: float | None
    """What the query is multiplied by before; None where the scores are instead."""
    k: Floats
    """(T, D): the keys of all tokens in this head."""
    v: Floats
    """(T, M): their values."""

    kq: Floats
    """(T,): q·k of all tokens, as it comes."""
    cap: float | None
    scale: float
    scores: Floats
    """(T,): q·k, capped and scaled: what softmax is given, where it is not hidden."""
    hidden: tuple[str | None, ...]
    """(T,): ``future``, ``window``, or None for what the token sees."""
    powers: Floats
    """(T,): exp(score - the largest score), 0 for what is hidden."""
    running: Doubles
    """(T,): their sum up to each token; the last one divides all."""
    kq_soft_max: Floats
    """(T,): the shares, as the pass has them."""
    softmax_gap: float
    """The largest difference of these from powers / sum."""
    kqv: Floats
    """(M,): the values mixed in these shares, as the pass has it."""
    kqv_gap: float
    """The largest difference of this from the sum of share times value."""

    summands: Doubles
    """(H, E): ``head_i @ W_O_i`` of all heads."""
    attn_out: Floats
    """(E,): what attention adds, as the pass has it."""
    out_bias: bool
    """Whether a bias is part of it."""
    out_gap: float
    """The largest difference of this from the sum of the summands and the bias."""
    shares: Doubles
    """(H,): how much of ``attn_out`` each summand is."""
    post_norm: bool
    """Whether the layer norms ``attn_out`` before it adds it (gemma2, gemma3)."""
    added: Doubles
    """(E,): what this head adds to the token's vector."""

    logits: Floats
    """(V,): of the token after this one."""
    logits_added: Doubles
    """(V,): what ``added`` adds to them straight away, past the later layers."""
    logit_cap: float | None
    """What bends the logits after that (gemma2)."""

    @property
    def key_head(self) -> int:
        """The head of keys and values that this head reads."""
        return self.head // (self.heads.count // self.heads.groups)

    @property
    def sharing(self) -> range:
        """All heads that read the same keys and values."""
        per_group = self.heads.count // self.heads.groups
        return range(self.key_head * per_group, (self.key_head + 1) * per_group)

    @property
    def lengths(self) -> Doubles:
        """(H,): how long each summand is."""
        found: Doubles = np.sqrt(np.square(self.summands).sum(axis=1))
        return found

    def attention_to(self, tokens: Sequence[int]) -> float:
        """Return the share that some tokens get together."""
        return float(self.kq_soft_max[[*tokens]].sum(dtype=np.float64))

    def share_of(self, heads: Sequence[int]) -> float:
        """Return the share of ``attn_out`` that some heads are together."""
        return float(self.shares[[*heads]].sum())

    @property
    def probabilities(self) -> Doubles:
        """(V,): the logits as shares."""
        with np.errstate(all="ignore"):
            powers = np.exp(self.logits.astype(np.float64) - self.logits.max())
            shares: Doubles = powers / powers.sum()
        return shares
