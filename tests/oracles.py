"""The independent oracles that tests hold this project to.

A missing oracle is an import error here, and so a failed run: nothing is skipped for want of one.
"""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.util import find_spec
from pathlib import Path


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
