"""The types without blocks: F64 F32 F16 BF16 and the integers. One weight is one block."""

from __future__ import annotations

import numpy as np

from ggufscope.arrays import Blocks, Floats
from ggufscope.blocks.ordered import from_bfloat, from_half, to_bfloat, to_half
from ggufscope.errors import NonFiniteWeight


def first_not_finite(x: Floats) -> int | None:
    """x, any shape -> the place in it, flat, of the first NaN or infinity, if there is one."""
    with np.errstate(all="ignore"):
        total = np.add.reduce(x, axis=None)
    if np.isfinite(total):  # with one of them it would not be: one pass, nothing to allocate
        return None
    found = np.flatnonzero(~np.isfinite(x))
    return int(found[0]) if found.size else None  # none: it was the sum alone that overflowed


def require_finite(x: Floats, tensor: str, first_row: int) -> None:
    """Raise ``NonFiniteWeight`` with the row of the first one in x (rows, row), read from a file.

    ``first_row`` is the number that the first of these rows has in the tensor.
    """
    place = first_not_finite(x)
    if place is not None:
        row = first_row + place // x.shape[1]
        raise NonFiniteWeight(
            f"tensor {tensor!r} has a NaN or an infinity in row {row}",
            hint="the file is damaged, or was converted from a damaged model",
        )


def dequantize_plain(blocks: Blocks, out: Floats) -> None:
    """F64, F32 and integer values (n,) -> out (n, 1): rounded to nearest where they do not fit."""
    out[:, 0] = blocks


def dequantize_f16(blocks: Blocks, out: Floats) -> None:
    """F16 values (n,) -> out (n, 1): exact. Follows ``ggml_fp16_to_fp32_row``."""
    out[:, 0] = from_half(blocks)


def dequantize_bf16(blocks: Blocks, out: Floats) -> None:
    """BF16 bits (n,) -> out (n, 1): exact. Follows ``ggml_bf16_to_fp32_row``."""
    out[:, 0] = from_bfloat(blocks)


def quantize_f32(x: Floats, out: Blocks) -> None:
    """x (n, 1) -> F32 out (n,): the same bits."""
    out[:] = x[:, 0]


def quantize_f16(x: Floats, out: Blocks) -> None:
    """x (n, 1) -> F16 out (n,). Follows ``ggml_fp32_to_fp16_row``."""
    out[:] = to_half(x[:, 0])


def quantize_bf16(x: Floats, out: Blocks) -> None:
    """x (n, 1) -> BF16 bits out (n,). Follows ``ggml_fp32_to_bf16_row_ref``."""
    out[:] = to_bfloat(x[:, 0])
