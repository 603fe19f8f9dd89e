"""The independent oracles that tests hold this project to.

A missing oracle is an import error here, and so a failed run: nothing is skipped for want of one.
"""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ggufscope.blocks.layouts import Layout


@cache
def ggml() -> ctypes.CDLL:
    """Real ggml: the shared object of the `xllamacpp` wheel exports its C functions."""
    spec = find_spec("xllamacpp")
    assert spec is not None, "the `xllamacpp` wheel is not installed: pip install -e '.[test]'"
    assert spec.origin is not None
    (library,) = Path(spec.origin).parent.glob("xllamacpp*.so")
    functions = ctypes.CDLL(str(library))
    functions.ggml_type_name.restype = ctypes.c_char_p
    functions.ggml_type_size.restype = ctypes.c_size_t
    functions.ggml_blck_size.restype = ctypes.c_int64
    functions.ggml_quantize_chunk.restype = ctypes.c_size_t
    functions.ggml_quantize_chunk.argtypes = [
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        *([ctypes.c_int64] * 3),
        ctypes.c_void_p,
    ]
    functions.ggml_validate_row_data.restype = ctypes.c_bool
    functions.ggml_validate_row_data.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
    return functions


class _InitParams(ctypes.Structure):
    """ggml's `gguf_init_params`."""

    _fields_ = [("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p)]  # as ctypes has it


def llama_cpp_reads(path: Path) -> bool:
    """Whether llama.cpp's own parser (`gguf_init_from_file`) accepts the header of a file."""
    functions = ggml()
    functions.gguf_init_from_file.restype = ctypes.c_void_p
    functions.gguf_init_from_file.argtypes = [ctypes.c_char_p, _InitParams]
    functions.gguf_free.argtypes = [ctypes.c_void_p]
    context = functions.gguf_init_from_file(str(path).encode(), _InitParams(True, None))
    if context:
        functions.gguf_free(context)
    return bool(context)


def ggml_quantize(
    x: npt.NDArray[np.float32],
    layout: Layout,
    importance: npt.NDArray[np.float32] | None = None,
    out: npt.NDArray[np.uint8] | None = None,
) -> npt.NDArray[np.uint8]:
    """X (rows, weights), importance (weights,) -> out (rows, bytes), by ``ggml_quantize_chunk``."""
    assert x.dtype == np.float32
    assert x.flags.c_contiguous
    rows, weights = x.shape
    packed = np.zeros((rows, layout.row_bytes(weights)), np.uint8) if out is None else out
    columns = None if importance is None else importance.ctypes.data
    written = ggml().ggml_quantize_chunk(
        layout.number, x.ctypes.data, packed.ctypes.data, 0, rows, weights, columns
    )
    assert written == packed.nbytes
    return packed


# The types whose rows ggml's own table knows how to read under another name than dequantize_row_*.
_ROW_READERS = {"F16": "ggml_fp16_to_fp32_row", "BF16": "ggml_bf16_to_fp32_row"}


def ggml_dequantize(
    blocks: npt.NDArray[Any], layout: Layout, out: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """Blocks, as any contiguous array -> out (weights,), by ``dequantize_row_*``."""
    assert blocks.flags.c_contiguous
    count = blocks.nbytes // layout.block_bytes * layout.block_length
    weights = np.empty(count, np.float32) if out is None else out
    assert weights.size == count
    name = layout.name
    spelled = name[:-1].lower() + "K" if name.endswith("_K") else name.lower()
    reader = getattr(ggml(), _ROW_READERS.get(name, f"dequantize_row_{spelled}"))
    reader.restype = None
    reader.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    reader(blocks.ctypes.data, weights.ctypes.data, weights.size)
    return weights


def ggml_accepts(blocks: npt.NDArray[Any], layout: Layout) -> bool:
    """Whether ``ggml_validate_row_data`` finds every scale finite."""
    assert blocks.flags.c_contiguous
    accepted = ggml().ggml_validate_row_data(layout.number, blocks.ctypes.data, blocks.nbytes)
    return bool(accepted)
