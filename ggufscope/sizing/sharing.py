"""The same model with its key/value heads shared otherwise: MHA against GQA against MQA.

Only W_k and W_v change, and with them the cache. 8 query heads on 2 key/value heads keep a quarter
of what 8 on 8 keep, on 1 an eighth.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod
from typing import Final

from ggufscope.errors import NotDerivable
from ggufscope.model.hparams import HParams
from ggufscope.model.keys import PerLayer
from ggufscope.model.roles import role_of
from ggufscope.recipes.plan import TensorLike
from ggufscope.sizing.kv_cache import cache_of
from ggufscope.sizing.settings import RunSettings

_PER_HEAD: Final = ("attn_k", "attn_v", "attn_k_norm")


@dataclass(frozen=True, slots=True)
class Sharing:
    """One way to share key/value heads."""

    name: str
    heads: int
    kv_heads: int
    n_elements: int
    """Weights of the whole model."""
    kv_nbytes: int
    """Bytes of its cache."""
    own: bool
    """Whether the model is made this way."""


def sharings(
    tensors: Iterable[TensorLike], hparams: HParams, settings: RunSettings
) -> list[Sharing]:
    """Compare the ways: one key/value head a query head, one for several, one for all.

    Where the model itself is not GQA, four query heads (or two) share one in that line. Raises
    ``NotDerivable`` for a model to which this does not apply, and what ``cache_of`` raises.
    """
    heads, own = _heads(hparams)
    group = own if 1 < own < heads else heads // (4 if heads % 4 == 0 and heads > 4 else 2)
    listed = list(tensors)
    kinds = {"MHA": heads, "GQA": group, "MQA": 1}
    return [
        Sharing(
            name,
            heads,
            count,
            sum(_weights(tensor, hparams, own, count) for tensor in listed),
            cache_of(_with_heads(hparams, count), settings).nbytes,
            count == own,
        )
        for name, count in kinds.items()
        if name != "GQA" or 1 < count < heads
    ]


def _heads(hparams: HParams) -> tuple[int, int]:
    if hparams.is_mla:
        raise NotDerivable("with MLA all heads share one latent: there are no heads to share out")
    if hparams.head_count is None or hparams.head_count_kv is None:
        raise NotDerivable("the metadata counts no heads")
    pairs = {
        (hparams.head_count[layer], hparams.head_count_kv[layer])
        for layer in range(hparams.block_count)
        if hparams.head_count[layer] and hparams.head_count_kv[layer]
    }
    if len(pairs) != 1:
        raise NotDerivable(
            "layers have different numbers of heads" if pairs else "no layer has heads"
        )
    (pair,) = pairs
    if pair[0] < 2:
        raise NotDerivable("there is one head, and so nothing to share")
    return pair


def _with_heads(hparams: HParams, count: int) -> HParams:
    numbers = hparams.head_count_kv.numbers if hparams.head_count_kv else ()
    return replace(hparams, head_count_kv=PerLayer(tuple(count if n else 0 for n in numbers)))


def _weights(tensor: TensorLike, hparams: HParams, own: int, count: int) -> int:
    stem = role_of(tensor.name).stem
    sizes = (hparams.key_length or 0, hparams.value_length or 0)
    rows = tensor.shape[0] if len(tensor.shape) > 1 else prod(tensor.shape)
    if stem in _PER_HEAD and rows in (own * sizes[0], own * sizes[1]):
        return prod(tensor.shape) // own * count
    if stem == "attn_qkv" and rows:
        more = (count - own) * sum(sizes)
        return prod(tensor.shape) // rows * (rows + more)
    return prod(tensor.shape)
