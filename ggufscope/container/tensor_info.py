"""One line of the tensor list, and whether the lines can all be true."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from ggufscope.blocks.layouts import ForeignType, Layout
from ggufscope.errors import MisplacedTensor, RaggedRow, ShapeOverflow

MAX_NAME: Final = 64
"""A tensor name is shorter than this, in bytes (ggml's ``GGML_MAX_NAME``)."""
MAX_DIMS: Final = 4

DAMAGED: Final = "the header is damaged: download the file again, or ask whoever made it"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One line of the tensor list: what is said of a tensor before its data."""

    name: str
    dims: tuple[int, ...]
    """Extents as stored, the fastest first (ggml's ``ne``): the reverse of a NumPy shape."""
    type: Layout | ForeignType
    offset: int
    """From the start of the data section."""
    nbytes: int
    """Bytes of data. For a ``ForeignType``: the room up to the next tensor, padding included."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents as NumPy has them: ``[out, in]`` for a matrix."""
        return self.dims[::-1]

    @property
    def n_elements(self) -> int:
        """Number of weights."""
        return math.prod(self.dims)

    @property
    def bits_per_weight(self) -> float | None:
        """Bits of storage a weight, or None where the type is foreign."""
        return self.type.bits_per_weight if isinstance(self.type, Layout) else None


def padded(size: int, alignment: int) -> int:
    """Return ``size`` rounded up to a multiple of ``alignment``."""
    return -(-size // alignment) * alignment


def check_shape(
    name: str, dims: tuple[int, ...], type_: Layout | ForeignType, at: str = ""
) -> None:
    """Raise ``ShapeOverflow`` or ``RaggedRow`` where a tensor of these dims cannot exist."""
    if math.prod(max(extent, 1) for extent in dims) >= 2**63:
        raise ShapeOverflow(
            f"tensor {name!r} has dimensions {dims}{at}: 2**63 elements or more", hint=DAMAGED
        )
    row = dims[0] if dims else 1
    if isinstance(type_, Layout) and row % type_.block_length:
        raise RaggedRow(
            f"tensor {name!r} has rows of {row} weights{at}: not a multiple of the "
            f"{type_.block_length} that a block of {type_.name} holds",
            hint=DAMAGED,
        )


def check_offsets(
    tensors: list[TensorInfo], alignment: int, data_size: int
) -> tuple[TensorInfo, ...]:
    """Check that the tensors follow each other, no gap, no overlap; size the foreign ones."""
    placed: list[TensorInfo] = []
    expected = 0
    for index, tensor in enumerate(tensors):
        if tensor.offset != expected:
            why = "there is a gap before it"
            if tensor.offset % alignment:
                why = f"not a multiple of the alignment, {alignment}"
            elif tensor.offset < expected:
                why = "it overlaps the tensor before it"
            raise MisplacedTensor(
                f"tensor {tensor.name!r} is said to be at data offset {tensor.offset}, "
                f"and must be at {expected}: {why}",
                hint="llama.cpp refuses such a file: it has to be written again",
            )
        if isinstance(tensor.type, ForeignType):
            following = tensors[index + 1].offset if index + 1 < len(tensors) else data_size
            room = max(0, following - tensor.offset)
            placed.append(replace(tensor, nbytes=room))
            expected += room if index + 1 == len(tensors) else padded(room, alignment)
        else:
            placed.append(tensor)
            expected += padded(tensor.nbytes, alignment)
    return tuple(placed)
