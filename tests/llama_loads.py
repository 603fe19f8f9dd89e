"""Which models real llama.cpp loads, in a process of its own: the C API of the `xllamacpp` wheel.

Every tensor is looked for and its shape checked; no weight is read.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests import warm
from tests.llama_api import declare, model_params
from tests.oracles import ggml

SECONDS = 300


_NEXT = "a model that is tried:"


def loads(models: Sequence[Path]) -> list[bool]:
    """Whether llama.cpp loads each of these files."""
    printed = warm.answer("tests.llama_loads", "\n".join(map(str, models)), SECONDS)
    found: list[bool] = json.loads(printed.splitlines()[-1])
    assert len(found) == len(models)
    return found


def answers_to(models: Sequence[Path]) -> list[tuple[bool, str]]:
    """Whether llama.cpp loads each of these files, and all that it says."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.llama_loads"],
        input="\n".join(map(str, models)),
        capture_output=True,
        text=True,
        errors="replace",
        cwd=Path(__file__).parent.parent,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[bool] = json.loads(done.stdout.splitlines()[-1])
    said = done.stderr.split(_NEXT)[1:]
    return [*zip(found, said, strict=True)]


def _main() -> None:
    library = ggml()
    declare(library)
    answers = os.fdopen(os.dup(1), "w")  # llama.cpp logs to standard output
    os.dup2(2, 1)
    library.llama_backend_init()
    params = model_params(library)
    params.no_alloc = True
    params.load_mode = 0  # without a map
    found = []
    for path in sys.stdin.read().splitlines():
        os.write(2, f"{_NEXT} {path}\n".encode())
        model = library.llama_model_load_from_file(path.encode(), params)
        found.append(model is not None)
        if model is not None:
            library.llama_model_free(model)
    answers.write(json.dumps(found) + "\n")
    answers.flush()
    os._exit(0)


if __name__ == "__main__":
    _main()
