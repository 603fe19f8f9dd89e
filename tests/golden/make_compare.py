"""Make `compare/*.npz` anew: what real llama.cpp computes for quantizations of the sample.

    python -m tests.golden.make_compare --check

llama.cpp is that of the `xllamacpp` wheel.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.golden.arrays import array_outcome, quantized
from tests.golden.command import HELDOUT, Outcome, folder_of, parser, report
from tests.golden.decode import Job, decode
from tests.measure.golden import LAYERS, PRESETS

TOKENS = 20


def _jobs(models: Path) -> Iterator[tuple[str, Job]]:
    ids = json.loads(HELDOUT.read_text())["windows"][0][:TOKENS]
    wanted = [*(f"kq_soft_max-{layer}" for layer in range(LAYERS)), "result_output"]
    yield "reference", Job(str(quantized(models, "F32")), ids, wanted)
    for preset in PRESETS:
        yield preset, Job(str(quantized(models, preset)), ids, wanted)
        yield f"{preset}-F32", Job(str(quantized(models, preset, "F32")), ids, wanted)


def _make(folder: Path | None) -> Iterator[Outcome]:
    with tempfile.TemporaryDirectory() as models:
        jobs = dict(_jobs(Path(models)))
        for name, arrays in zip(jobs, decode(list(jobs.values()), Path(models)), strict=True):
            yield array_outcome(f"compare/{name}.npz", arrays, folder)


def main(arguments: list[str] | None = None) -> int:
    """Run the sample, its quantizations, and those made F32 again."""
    given = parser(__doc__).parse_args(arguments)
    return report(_make(folder_of(given)))


if __name__ == "__main__":
    sys.exit(main())
