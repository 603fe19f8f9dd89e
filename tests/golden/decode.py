"""One pass of real llama.cpp over a prompt, and the tensors it computed on the way.

A process of its own, because llama.cpp may take its host down: `python -m tests.golden.decode`
reads jobs as JSON from standard input. llama.cpp is that of the `xllamacpp` wheel. Flash attention
is off, there are no extra buffer types, and two threads.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ggufscope.blocks.layouts import layout_named
from tests.llama_api import context_params, declare, model_params
from tests.oracles import ggml

ROOT = Path(__file__).parent.parent.parent
Arrays = dict[str, Any]
"""Name -> array."""


@dataclass(frozen=True)
class Job:
    """A model, a prompt, and the names of the tensors that are wanted."""

    model: str
    ids: Sequence[int]
    names: Sequence[str]
    type_k: str = "F32"


def decode(jobs: Sequence[Job], folder: Path) -> list[Arrays]:
    """Run every job in one child process; return `ids` and the tensors."""
    request = {"jobs": [asdict(job) for job in jobs], "folder": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.golden.decode"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = []
    for number in range(len(jobs)):
        with np.load(folder / f"{number}.npz") as file:
            found.append({key: file[key] for key in file.files})
    return found


class _Tensor(ctypes.Structure):
    """The start of ggml's `ggml_tensor`."""

    _fields_ = (
        ("type", ctypes.c_int32),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
    )


class _Batch(ctypes.Structure):
    """llama.cpp's `llama_batch`."""

    _fields_ = (
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", ctypes.c_void_p),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    )


_Watcher = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.POINTER(_Tensor), ctypes.c_bool, ctypes.c_void_p)


def _library() -> ctypes.CDLL:
    library = ggml()
    declare(library)
    library.llama_batch_init.restype = _Batch
    library.llama_decode.argtypes = [ctypes.c_void_p, _Batch]
    library.ggml_get_name.restype = ctypes.c_char_p
    library.ggml_get_name.argtypes = [ctypes.POINTER(_Tensor)]
    library.ggml_nbytes.restype = ctypes.c_size_t
    library.ggml_nbytes.argtypes = [ctypes.POINTER(_Tensor)]
    library.ggml_backend_tensor_get.restype = None
    library.ggml_backend_tensor_get.argtypes = [
        ctypes.POINTER(_Tensor),
        ctypes.c_void_p,
        *([ctypes.c_size_t] * 2),
    ]
    return library


def _read(library: ctypes.CDLL, tensor: Any) -> npt.NDArray[np.float32]:
    """Copy a float32 tensor out, whatever its strides; extents of 1 are left out."""
    fields = tensor.contents
    assert fields.type == 0
    raw = np.empty(library.ggml_nbytes(tensor), np.uint8)
    library.ggml_backend_tensor_get(tensor, raw.ctypes.data, 0, raw.nbytes)
    shape = [int(extent) for extent in reversed(fields.ne)]
    strides = [int(stride) for stride in reversed(fields.nb)]
    return np.ndarray(shape, np.float32, raw, 0, strides).squeeze().copy()


def _run(library: ctypes.CDLL, job: Job) -> Arrays:
    wanted = frozenset(job.names)
    arrays: Arrays = {"ids": np.array(job.ids, np.int32)}

    def watch(tensor: Any, asked: bool, _data: Any) -> bool:
        name = library.ggml_get_name(tensor).decode()
        if name in wanted and not asked:
            arrays[name] = _read(library, tensor)  # of a name given twice the last
        return name in wanted if asked else True

    params = model_params(library)
    params.use_extra_bufts = False
    model = library.llama_model_load_from_file(os.fsencode(job.model), params)
    assert model, job.model
    settings = context_params(library)
    settings.swa_full = False
    settings.n_threads = settings.n_threads_batch = 2
    settings.flash_attn_type = 0
    settings.type_k = layout_named(job.type_k).number
    settings.type_v = layout_named("F32").number
    watcher = _Watcher(watch)
    settings.cb_eval = ctypes.cast(watcher, ctypes.c_void_p)
    context = library.llama_init_from_model(model, settings)
    assert context, job.model
    batch = library.llama_batch_init(len(job.ids), 0, 1)
    batch.n_tokens = len(job.ids)
    for place, token in enumerate(job.ids):
        batch.token[place], batch.pos[place] = token, place
        batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
        batch.logits[place] = 1
    assert library.llama_decode(context, batch) == 0
    library.llama_free(context)
    library.llama_model_free(model)
    missing = wanted - arrays.keys()
    assert not missing, f"{job.model}: no {sorted(missing)} in the graph"
    return {key: _cut(key, arrays[key], len(job.ids)) for key in ("ids", *job.names)}


def _cut(key: str, array: npt.NDArray[Any], tokens: int) -> npt.NDArray[Any]:
    """Leave out the cells of the cache that the prompt does not fill."""
    return array[..., :tokens] if key.partition("-")[0] in ("kq", "kq_soft_max") else array


def _main() -> None:
    request = json.loads(sys.stdin.read())
    library = _library()
    library.llama_backend_init()
    for number, job in enumerate(request["jobs"]):
        arrays = _run(library, Job(**job))
        np.savez_compressed(Path(request["folder"]) / f"{number}.npz", **arrays)


if __name__ == "__main__":
    _main()
