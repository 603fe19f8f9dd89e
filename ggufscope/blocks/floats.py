"""The types without blocks: F64 F32 F16 BF16 and the integers. One weight is one block."""

from __future__ import annotations

from ggufscope.blocks.ordered import (
    Blocks,
    Floats,
    from_bfloat,
    from_half,
    to_bfloat,
    to_half,
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
    """X (n, 1) -> F32 out (n,): the same bits."""
    out[:] = x[:, 0]


def quantize_f16(x: Floats, out: Blocks) -> None:
    """X (n, 1) -> F16 out (n,). Follows ``ggml_fp32_to_fp16_row``."""
    out[:] = to_half(x[:, 0])


def quantize_bf16(x: Floats, out: Blocks) -> None:
    """X (n, 1) -> BF16 bits out (n,). Follows ``ggml_fp32_to_bf16_row_ref``."""
    out[:] = to_bfloat(x[:, 0])
