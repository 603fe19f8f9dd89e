"""Weights of stored tensors, a tile at a time: memory is bounded, however large they are.

A tensor is read flat. Its rows are whole blocks of its type, so any multiple of 256 weights is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from ggufscope.arrays import Array, Floats
from ggufscope.blocks.codec import dequantize
from ggufscope.blocks.layouts import ForeignType, Layout
from ggufscope.container.file import Tensor
from ggufscope.errors import NotConvertible

TILE: Final = 1 << 18
"""Weights that are read at a time: whole blocks of any type."""
RAW: Final = 8 * TILE
"""Bytes that a tile of the widest type takes."""


class Room:
    """Where a tile is read and decoded, again and again; of one thread at a time."""

    def __init__(self) -> None:
        self.raw = np.empty(RAW, np.uint8)
        self.weights = np.empty(TILE, np.float32)


def tiles(n: int) -> Iterator[tuple[int, int]]:
    """Yield the first and the last index, exclusive, of each tile of n weights."""
    for start in range(0, n, TILE):
        yield start, min(start + TILE, n)


def read_bytes(tensor: Tensor, start: int, stop: int, out: Array | None = None) -> Array:
    """Return bytes [start, stop) of a tensor, (stop - start,) uint8. Raises ``SourceChanged``.

    ``out`` (at least as many,) uint8 is filled from its beginning where it is given: arrays of a
    tile that are made anew each time cost more than what is done with them.
    """
    raw = np.empty(stop - start, np.uint8) if out is None else out[: stop - start]
    tensor.read_into(start, raw.data)
    return raw


def read_blocks(tensor: Tensor, start: int, stop: int, out: Array | None = None) -> Array:
    """Return the blocks of weights [start, stop) of a flat tensor, as they stand in the file.

    Raises ``NotConvertible`` for a type that is not decoded.
    """
    layout = layout_of(tensor)
    raw = read_bytes(tensor, layout.row_bytes(start), layout.row_bytes(stop), out)
    return raw.view(layout.dtype.newbyteorder(tensor.shard.header.order))


def read_weights(tensor: Tensor, start: int, stop: int, room: Room | None = None) -> Floats:
    """Return weights [start, stop) of a flat tensor; whole blocks. Raises as ``read_blocks``."""
    blocks = read_blocks(tensor, start, stop, room.raw if room else None)
    out = room.weights[: stop - start] if room else None
    # One of many tiles that are read side by side, so it takes one thread itself.
    return dequantize(blocks, layout_of(tensor), (stop - start,), out=out, threads=1)


def layout_of(tensor: Tensor) -> Layout:
    """Return the type of a tensor; raises ``NotConvertible`` where it is not decoded."""
    if isinstance(tensor.type, ForeignType):
        raise NotConvertible(
            f"tensor {tensor.name!r} is of {tensor.type.name}, which ggml does not define",
            hint="its bytes can be compared, its weights cannot be read",
        )
    return tensor.type
