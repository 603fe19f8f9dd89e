"""The order in which tensors are written, and their names once layers are pruned.

llama.cpp sorts by layer, then by name; what is in no layer comes first. Its counters (how many
``ffn_down`` came before this one) run in that order, so the order decides types.
Follows ``weight_name_comparer`` in ``llama-model-loader.h`` and ``remap_layer`` in
``llama-quant.cpp``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from ggufscope.errors import BadPruning

_LEADING_LAYER: Final = re.compile(r"blk\.[ \t\n\v\f\r]*([+-]?[0-9]+)")
_ANY_LAYER: Final = re.compile(r"blk\.([0-9]+)\.")


def leading_layer(name: str) -> int | None:
    """Return the layer of a name that begins with ``blk.N``; None for all others."""
    match = _LEADING_LAYER.match(name)
    return int(match[1]) if match else None


def written_order(names: Iterable[str]) -> list[str]:
    """Sort names as llama.cpp writes them: by layer, then as bytes."""

    def key(name: str) -> tuple[int, bytes]:
        layer = leading_layer(name)
        return -1 if layer is None else layer, name.encode("utf-8", "surrogateescape")

    return sorted(names, key=key)


def layers_of(names: Iterable[str]) -> list[int]:
    """Return the layers that tensors of these names are in, ascending."""
    return sorted({int(match[1]) for match in map(_ANY_LAYER.search, names) if match})


def pruned_names(names: Sequence[str], prune: Sequence[int]) -> tuple[dict[str, str], int | None]:
    """Return the new name of each tensor that stays, and the number of layers that are left.

    ``names`` are in written order. New numbers are given out as layers are met, so names that
    sort as words (``enc.blk.10.`` before ``enc.blk.2.``) lead llama.cpp to shuffle such layers; so
    they do here. The number is None where nothing is to be pruned.
    Raises ``BadPruning`` where two tensors would get one name: llama.cpp aborts.
    """
    if not prune:
        return {name: name for name in names}, None
    renumbered: dict[int, int | None] = {}
    first, following = min(prune), 0
    kept: dict[str, str] = {}
    for name in names:
        match = _ANY_LAYER.search(name)
        if match is None:
            kept[name] = name
            continue
        layer = int(match[1])
        if layer not in renumbered:
            if layer in prune:
                renumbered[layer] = None
            else:
                renumbered[layer] = layer if layer < first else following
                following = (layer if layer < first else following) + 1
        number = renumbered[layer]
        if number is not None:
            kept[name] = f"{name[: match.start(1)]}{number}{name[match.end(1) :]}"
    if len(set(kept.values())) < len(kept):
        raise BadPruning(
            "layers of this model cannot be pruned there: two of them would get one number",
            hint="their names sort as words, 10 before 2: llama-quantize cannot do it either",
        )
    return kept, following
