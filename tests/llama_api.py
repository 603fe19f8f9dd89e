"""llama.cpp's C API through ctypes: what is handed over to load a model and to make a context.

The structs are read as x86-64 lays them out, and the defaults are checked before anything else:
another version, or another machine, fails loudly.
"""

from __future__ import annotations

import ctypes
from typing import Any


class ModelParams(ctypes.Structure):
    """llama.cpp's `llama_model_params`, and room beyond for what another version adds."""

    _fields_ = (
        ("devices", ctypes.c_void_p),
        ("tensor_buft_overrides", ctypes.c_void_p),
        ("n_gpu_layers", ctypes.c_int32),
        ("split_mode", ctypes.c_int32),
        ("load_mode", ctypes.c_int32),
        ("lazy_mode", ctypes.c_int32),
        ("main_gpu", ctypes.c_int32),
        ("tensor_split", ctypes.c_void_p),
        ("progress_callback", ctypes.c_void_p),
        ("progress_callback_user_data", ctypes.c_void_p),
        ("kv_overrides", ctypes.c_void_p),
        ("vocab_only", ctypes.c_bool),
        ("check_tensors", ctypes.c_bool),
        ("use_extra_bufts", ctypes.c_bool),
        ("no_host", ctypes.c_bool),
        ("no_alloc", ctypes.c_bool),
        ("load_mtp", ctypes.c_bool),
        ("beyond", ctypes.c_uint64 * 16),
    )


class ContextParams(ctypes.Structure):
    """llama.cpp's `llama_context_params`, and room beyond."""

    _fields_ = (
        ("n_ctx", ctypes.c_uint32),
        ("n_batch", ctypes.c_uint32),
        ("n_ubatch", ctypes.c_uint32),
        ("n_seq_max", ctypes.c_uint32),
        ("n_rs_seq", ctypes.c_uint32),
        ("n_outputs_max", ctypes.c_uint32),
        ("n_outputs_max_per_seq", ctypes.c_uint32),
        ("n_threads", ctypes.c_int32),
        ("n_threads_batch", ctypes.c_int32),
        ("ctx_type", ctypes.c_int32),
        ("rope_scaling_type", ctypes.c_int32),
        ("pooling_type", ctypes.c_int32),
        ("attention_type", ctypes.c_int32),
        ("flash_attn_type", ctypes.c_int32),
        ("rope_and_yarn", ctypes.c_float * 8),
        ("cb_eval", ctypes.c_void_p),
        ("cb_eval_user_data", ctypes.c_void_p),
        ("type_k", ctypes.c_int32),
        ("type_v", ctypes.c_int32),
        ("abort_callback", ctypes.c_void_p),
        ("abort_callback_data", ctypes.c_void_p),
        ("another", ctypes.c_void_p),
        ("embeddings", ctypes.c_bool),
        ("offload_kqv", ctypes.c_bool),
        ("no_perf", ctypes.c_bool),
        ("op_offload", ctypes.c_bool),
        ("swa_full", ctypes.c_bool),
        ("kv_unified", ctypes.c_bool),
        ("beyond", ctypes.c_uint64 * 16),
    )


def declare(library: ctypes.CDLL) -> None:
    """State the types of the functions that load a model and make a context."""
    library.llama_model_load_from_file.restype = ctypes.c_void_p
    library.llama_model_load_from_file.argtypes = [ctypes.c_char_p, ModelParams]
    library.llama_init_from_model.restype = ctypes.c_void_p
    library.llama_init_from_model.argtypes = [ctypes.c_void_p, ContextParams]
    library.llama_free.argtypes = library.llama_model_free.argtypes = [ctypes.c_void_p]


def model_params(library: ctypes.CDLL) -> Any:
    """Return `llama_model_default_params()`, checked."""
    params = ModelParams()
    library.llama_model_default_params(ctypes.byref(params))  # a struct returned: the ABI's way
    assert (params.n_gpu_layers, params.use_extra_bufts, params.no_alloc) == (-1, True, False)
    return params


def context_params(library: ctypes.CDLL) -> Any:
    """Return `llama_context_default_params()`, checked."""
    params = ContextParams()
    library.llama_context_default_params(ctypes.byref(params))
    found = (params.n_ctx, params.n_ubatch, params.type_k, params.swa_full)
    assert found == (512, 512, 1, True)
    return params
