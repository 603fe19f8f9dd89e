"""Make `hashes.manifest` anew: what real `llama-gguf-hash` prints for the sample.

python -m tests.golden.make_hashes --llama-bin FOLDER --check
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.golden.command import HERE, SAMPLE, Outcome, folder_of, parser, report, text_outcome

NAME: Final = "stories.gguf"
"""The name that the sample had: each line of a manifest has it."""
GOLDEN: Final = HERE / "hashes.manifest"


def _make(programs: Path, folder: Path | None) -> Iterator[Outcome]:
    with tempfile.TemporaryDirectory() as models:
        shutil.copy(SAMPLE, Path(models, NAME))
        done = subprocess.run(
            [programs / "llama-gguf-hash", "--all", NAME],
            cwd=models,
            env=os.environ | {"LD_LIBRARY_PATH": str(programs)},
            capture_output=True,
            text=True,
            check=True,
        )
    yield text_outcome(GOLDEN.name, done.stdout, folder)


def main(arguments: list[str] | None = None) -> int:
    """Run it; return the exit code."""
    options = parser(__doc__)
    options.add_argument("--llama-bin", type=Path, required=True, help="where llama-gguf-hash is")
    given = options.parse_args(arguments)
    return report(_make(given.llama_bin.resolve(), folder_of(given)))


if __name__ == "__main__":
    sys.exit(main())
