"""A look through all weights for NaN and infinities, before a pass that may take minutes.

Only the scales of blocks are looked at, and the numbers of types without blocks: what is not
finite in a file shows there (see ``blocks/validity.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from ggufscope.blocks.layouts import ForeignType, Layout
from ggufscope.blocks.validity import bad_blocks
from ggufscope.container.file import GGUFFile, Tensor
from ggufscope.forward.weights import StoredWeights
from ggufscope.machine import processors
from ggufscope.model.roles import role_of
from ggufscope.threads import side_by_side

SLAB: Final = 8 << 20
"""Bytes of a tensor that are looked at together."""

FEW: Final = 64
"""Tokens up to which a pass over a large file takes little more time than this look at it."""
LARGE: Final = 1 << 28
"""Bytes from which a file is large: up to there the look takes a blink."""


def require_finite_weights(
    file: GGUFFile,
    progress: Callable[[int, int], object] | None = None,
    *,
    tokens: int | None = None,
) -> None:
    """Raise ``NonFiniteWeight``, naming tensor and row, for a NaN or an infinity in a file.

    ``progress`` is told how many bytes of how many are done. Where a pass over few ``tokens``
    follows, only what it may not read of a large file is looked at: it finds the rest itself.
    """
    weights = StoredWeights(file)
    tensors = [t for t in file.tensors.values() if not isinstance(t.type, ForeignType)]
    large = sum(tensor.nbytes for tensor in tensors) >= LARGE
    if tokens is not None and 0 < tokens <= FEW and large:
        tied = "output.weight" not in weights
        tensors = [t for t in tensors if not _read_whole(t.name, tied=tied)]
    total, done = sum(tensor.nbytes for tensor in tensors), 0
    suspects = side_by_side(_first_suspect, tensors, processors())
    for tensor, suspect in zip(tensors, suspects, strict=True):
        if suspect is not None:
            matrix = weights.matrix(tensor.name)
            # Decoded from there on, it says itself what is wrong, if anything is.
            for row in range(suspect, matrix.shape[0]):
                matrix.rows(row, row + 1)
        done += tensor.nbytes
        if progress is not None:
            progress(done, total)


def _read_whole(name: str, *, tied: bool) -> bool:
    """Whether a pass reads all rows of a tensor, not only those of its tokens and experts."""
    role = role_of(name)
    if role.layer is None:
        return role.stem == ("token_embd" if tied else "output")
    return role.suffix in ("weight", "bias") and not role.stem.endswith("_exps")


def _first_suspect(tensor: Tensor) -> int | None:
    """Return the first row of the first slab that has a scale which is not finite."""
    layout = tensor.type
    assert isinstance(layout, Layout)
    row_bytes = layout.row_bytes(tensor.shape[-1]) if tensor.shape else layout.block_bytes
    step = max(1, SLAB // max(1, row_bytes)) * row_bytes
    raw = np.empty(min(step, tensor.nbytes), np.uint8)
    for start in range(0, tensor.nbytes, step or 1):
        part = raw[: min(step, tensor.nbytes - start)]
        tensor.read_into(start, part.data)
        if bad_blocks(part.data, layout, tensor.shard.header.order):
            return start // row_bytes
    return None
