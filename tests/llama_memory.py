"""What real llama.cpp allocates for a model and a context, to the byte, in a process of its own.

The C API of the `xllamacpp` wheel, called through ctypes. `llama_get_memory_breakdown` gives the
bytes of each buffer, where the log rounds to a hundredth of a MiB; the log is handed over as well.
With `alloc=False` llama.cpp reads the header, checks every tensor it needs and adds up what it
would allocate: so a model of any size can be asked about, from a hollow file.

The map is read as x86-64 with libstdc++ lays it out.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ggufscope.blocks.layouts import layout_named
from tests import warm
from tests.llama_api import context_params, declare, model_params
from tests.oracles import ggml

SECONDS = 120


@dataclass(frozen=True)
class Memory:
    """One context."""

    model: int
    """Bytes of weights."""
    context: int
    """Bytes of KV cache and recurrent state."""
    compute: int
    """Bytes of compute buffers."""
    log: str

    def logged(self, what: str) -> list[str]:
        """The lines of the log that hold these words."""
        return [line for line in self.log.splitlines() if what in line]


def measure(model: Path, runs: list[dict[str, Any]], *, alloc: bool = True) -> list[Memory]:
    """Load a model and make a context for each run: `n_ctx`, `n_seq_max`, `type_k`, ..."""
    request = {"model": str(model), "runs": runs, "alloc": alloc}
    printed = warm.answer("tests.llama_memory", json.dumps(request), SECONDS)
    return [Memory(**answer) for answer in json.loads(printed.splitlines()[-1])]


class _Node(ctypes.Structure):
    """A node of the std::map: buffer type -> three sizes."""


_Node._fields_ = (
    ("color", ctypes.c_uint64),
    ("parent", ctypes.POINTER(_Node)),
    ("left", ctypes.POINTER(_Node)),
    ("right", ctypes.POINTER(_Node)),
    ("buffer_type", ctypes.c_void_p),
    ("model", ctypes.c_size_t),
    ("context", ctypes.c_size_t),
    ("compute", ctypes.c_size_t),
)


class _Map(ctypes.Structure):
    _fields_ = (
        ("compare", ctypes.c_uint64),
        ("color", ctypes.c_uint64),
        ("root", ctypes.POINTER(_Node)),
        ("first", ctypes.c_void_p),
        ("last", ctypes.c_void_p),
        ("count", ctypes.c_size_t),
    )


def _nodes(node: Any) -> list[Any]:
    return (
        [*_nodes(node.contents.left), node.contents, *_nodes(node.contents.right)] if node else []
    )


def _answer(request: dict[str, Any]) -> list[dict[str, Any]]:
    library = ggml()
    declare(library)
    lines: list[str] = []
    logger = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(
        lambda level, text, data: lines.append(text.decode(errors="replace"))
    )
    library.llama_log_set(logger, None)
    library.llama_backend_init()
    breakdown = library._Z26llama_get_memory_breakdownPK13llama_context
    breakdown.argtypes, breakdown.restype = [ctypes.c_void_p, ctypes.c_void_p], None
    params = model_params(library)
    params.use_extra_bufts, params.no_alloc = False, not request["alloc"]
    if params.no_alloc:
        params.load_mode = 0  # read, not mapped: there is nothing to read
    model = library.llama_model_load_from_file(os.fsencode(request["model"]), params)
    assert model, "".join(lines)
    answers = []
    for run in request["runs"]:
        lines.clear()
        params = context_params(library)
        params.swa_full = False  # as llama.cpp's own programs have it
        for key, value in run.items():
            setattr(params, key, layout_named(value).number if key[:4] == "type" else value)
        context = library.llama_init_from_model(model, params)
        assert context, "".join(lines)
        found = _Map()
        breakdown(ctypes.byref(found), context)
        nodes = _nodes(found.root)
        assert len(nodes) == found.count > 0
        sums = {k: sum(getattr(n, k) for n in nodes) for k in ("model", "context", "compute")}
        answers.append(sums | {"log": "".join(lines)})
        library.llama_free(context)
    library.llama_model_free(model)
    return answers


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(_answer(json.loads(sys.stdin.read()))) + "\n")
