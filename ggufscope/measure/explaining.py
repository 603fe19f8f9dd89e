"""One token's attention in one head, every quantity on the way from the token to the logits.

All of it is taken from the pass itself: the taps, and what a watched layer saw. What is worked out
here besides (what softmax adds up, what W_O makes of one head, what that does to the logits) is
held against the pass, and the gaps are part of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from ggufscope.arrays import Doubles, Floats, Mask
from ggufscope.errors import NotInModel
from ggufscope.forward import ops
from ggufscope.forward.checks import require_memory_for
from ggufscope.forward.trace import Trace
from ggufscope.forward.transformer import Transformer
from ggufscope.forward.watched import Seen, WatchedBlock
from ggufscope.measure.explained import Explained, Norm
from ggufscope.measure.outputs import summands
from ggufscope.measure.watching import require_head
from ggufscope.pool import one_pass

_EMBEDDING: Final = "token_embd.weight"
_POSITIONS: Final = "position_embd.weight"
_TAPS: Final = (
    *("embd", "attn_norm", "kq", "kq_soft_max", "kqv", "kqv_out"),
    *("attn_out", "attn_post_norm", "result_norm", "result_output"),
)


def explain(
    model: Transformer,
    ids: Sequence[int],
    position: int,
    layer: int,
    head: int,
    *,
    progress: Callable[[int], Any] | None = None,
) -> Explained:
    """Run a prompt and return what one head of one layer does for one of its tokens.

    Raises what ``Transformer.run`` raises, ``NotInModel`` for a layer or a head that the model does
    not have or a position that the prompt does not, and ``TooMuchMemory`` before it starts.
    """
    model.require_runnable(ids)
    require_head(model, layer, head)
    if not 0 <= position < len(ids):
        raise NotInModel(
            f"there is no token {position}: the prompt has tokens 0 to {len(ids) - 1}",
            hint="count from 0; what begins a text counts, too",
        )
    require_memory_for(model.hparams, len(ids), matrices=2, logits=False)
    trace = Trace(_TAPS, layers=[layer])
    with one_pass(), np.errstate(all="ignore"):
        x = model.embed(ids, trace=trace)
        for each in range(model.n_layers):
            if each == layer:
                block = WatchedBlock.of(model.block(layer, trace=trace))
                entering = x[position]
                x = model.graph.layer(block, x)
            else:
                x = model.layer(each, x)
            if progress is not None:
                progress(each + 1)
        last = x[position : position + 1]
        model.logits(last, trace=trace)
        found = _explained(model, block, trace, entering, last[0], tuple(ids), position, head)
    if progress is not None:
        progress(model.n_layers + 1)
    return found


def _explained(
    model: Transformer,
    block: WatchedBlock,
    trace: Trace,
    entering: Floats,
    last: Floats,
    ids: tuple[int, ...],
    position: int,
    head: int,
) -> Explained:
    def tap(name: str) -> Floats:
        return trace[f"{name}-{block.layer}"]

    seen, heads, weights = block.seen, block.heads, model.weights
    group = head // (heads.count // heads.groups)
    hidden = _hidden(len(ids), position, block.window)
    kq, shares = tap("kq")[head, position], tap("kq_soft_max")[head, position]
    scores, powers, running = _softmax(kq, hidden, seen)
    v, kqv = seen.v[:, group], tap("kqv")[head, position]
    parts = summands(
        tap("kqv_out")[position], weights.matrix(block.name("attn_output")), heads.count
    )
    attn_out = tap("attn_out")[position]
    bias = block.bias("attn_output")
    whole = parts.sum(axis=0) + (0 if bias is None else bias.astype(np.float64))
    wide = attn_out.astype(np.float64)
    post_norm = block.has("post_attention_norm")
    added = parts[head]
    if post_norm:  # the factor of the sum is that of each summand
        added = added * block.vector("post_attention_norm") / _norm_of(model, attn_out).divisor
    return Explained(
        ids=ids,
        position=position,
        layer=block.layer,
        head=head,
        heads=heads,
        window=block.window,
        rotation=block.rotation,
        embd=trace["embd"][position],
        embd_type=weights.type(_EMBEDDING),
        embd_scale=float(np.sqrt(np.float32(len(last)))) if model.graph.scaled_embedding else None,
        position_embd=(
            weights.matrix(_POSITIONS).rows(position, position + 1)[0]
            if _POSITIONS in weights
            else None
        ),
        entering=entering,
        norm=_norm_of(model, entering),
        attn_norm=tap("attn_norm")[position],
        q_steps={name: step[position, head] for name, step in seen.q_steps.items()},
        k_steps={name: step[position, group] for name, step in seen.k_steps.items()},
        q_scale=seen.q_scale,
        k=seen.k[:, group],
        v=v,
        kq=kq,
        cap=seen.cap or None,
        scale=seen.scale,
        scores=scores,
        hidden=_reasons(hidden, position),
        powers=powers,
        running=running,
        kq_soft_max=shares,
        softmax_gap=_gap(powers / running[-1], shares),
        kqv=kqv,
        kqv_gap=_gap((shares[:, None].astype(np.float64) * v).sum(axis=0), kqv),
        summands=parts,
        attn_out=attn_out,
        out_bias=bias is not None,
        out_gap=_gap(whole, attn_out),
        shares=parts @ wide / (wide @ wide),
        post_norm=post_norm,
        added=added,
        logits=trace["result_output"][0],
        logits_added=_logits_added(model, last, added),
        logit_cap=model.graph.logit_cap(model.hparams),
    )


def _hidden(tokens: int, position: int, window: int | None) -> Mask:
    """(T,): which tokens this one must not see."""
    others = np.arange(tokens)
    future = others > position
    return future if window is None else future | (position - others >= window)


def _reasons(hidden: Mask, position: int) -> tuple[str | None, ...]:
    return tuple(
        None if not each else "future" if token > position else "window"
        for token, each in enumerate(hidden)
    )


def _softmax(kq: Floats, hidden: Mask, seen: Seen) -> tuple[Floats, Floats, Doubles]:
    """kq (T,) -> scores, exp(score - the largest), the running sum of these; as ``attend`` does."""
    scores = ops.soft_cap(kq.copy(), seen.cap) * np.float32(seen.scale)
    powers = np.exp(scores - scores[~hidden].max())
    powers[hidden] = 0
    return scores, powers, np.cumsum(powers, dtype=np.float64)


def _norm_of(model: Transformer, x: Floats) -> Norm:
    """x (E,) -> the numbers of the norm that the model applies to it."""
    wide, mean = x.astype(np.float64), None
    if model.graph.norm == "layer":
        mean = float(wide.mean())
        wide = wide - mean
    divisor = float(np.sqrt(np.square(wide).mean() + model.norm_epsilon))
    return Norm(model.graph.norm, mean, model.norm_epsilon, divisor)


def _logits_added(model: Transformer, last: Floats, added: Doubles) -> Doubles:
    """Last (E,), what leaves the last layer, and one of its summands (E,) -> its logits (V,).

    The norm before the output divides by a number that all summands made together. Held as it is,
    what is left is linear, so each summand has its own part in every logit.
    """
    norm = _norm_of(model, last)
    if norm.centre is not None:
        added = added - added.mean()
    added = added / norm.divisor * model.weights.vector("output_norm.weight")
    logits: Floats = ops.linear(added.astype(np.float32)[None], model.output_matrix())[0]
    return logits.astype(np.float64)


def _gap(found: Doubles | Floats, wanted: Floats) -> float:
    return float(np.abs(found - wanted).max())
