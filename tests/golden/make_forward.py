"""Make `forward/*.npz` anew: what real llama.cpp computes for small models and for the sample.

    python -m tests.golden.make_forward --check

llama.cpp is that of the `xllamacpp` wheel. The names asked for are those in the files here.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.golden.arrays import array_outcome, quantized, stored
from tests.golden.command import HELDOUT, HERE, Outcome, folder_of, parser, report
from tests.golden.decode import Job, decode
from tests.models.families import IDS, SMALL, WIDE, write


def _jobs(models: Path) -> Iterator[tuple[str, Job]]:
    """Each golden file and what makes it; the models are written first."""
    heldout = json.loads(HELDOUT.read_text())["windows"][0]
    for path in sorted((HERE / "forward").glob("*.npz")):
        name = path.stem
        model, ids, type_k = models / f"{name}.gguf", list(IDS), "F32"
        if name.startswith("stories-"):
            model, ids = quantized(models, name.removeprefix("stories-")), heldout[:24]
        elif name.startswith("llama-wide-k-"):
            write(model, WIDE)
            type_k = name.removeprefix("llama-wide-k-").upper()
        else:
            write(model, SMALL[name.removeprefix("taps-")])
        yield f"forward/{path.name}", Job(str(model), ids, list(stored(path))[1:], type_k)


def _make(folder: Path | None) -> Iterator[Outcome]:
    with tempfile.TemporaryDirectory() as models:
        jobs = dict(_jobs(Path(models)))
        for name, arrays in zip(jobs, decode(list(jobs.values()), Path(models)), strict=True):
            yield array_outcome(name, arrays, folder)


def main(arguments: list[str] | None = None) -> int:
    """Run every model once."""
    given = parser(__doc__).parse_args(arguments)
    return report(_make(folder_of(given)))


if __name__ == "__main__":
    sys.exit(main())
