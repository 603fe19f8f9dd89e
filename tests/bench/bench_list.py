"""Whole commands against their imports alone: `python -m tests.bench.bench_list`.

`list` is given a header of 1,000 tensors and 150,000 tokens, the others next to no work.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bench.common import alternate, command, where, write_large_header

RUNS = 15
SAMPLE = Path(__file__).parents[2] / "samples" / "stories-f16.gguf"


def main() -> None:
    """Print times and their ratio."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "large.gguf"
        write_large_header(path, tensors=1000)
        print(where())
        commands = {
            "list": ("list", path, "-q"),
            "--version": ("--version",),
            "size 7b": ("size", "7b"),
            "attention --ids 5": ("attention", SAMPLE, "--ids", "5"),
        }
        imports, *ours = alternate(
            RUNS,
            command("-c", "import numpy, typer, rich.table"),
            *(command("-m", "ggufscope", *map(str, words)) for words in commands.values()),
        )
        print(f"import numpy, typer, rich.table {1000 * imports:6.0f} ms (median of {RUNS})")
        for name, seconds in zip(commands, ours, strict=True):
            print(f"ggufscope {name:21} {1000 * seconds:6.0f} ms  ratio {seconds / imports:.2f}")


if __name__ == "__main__":
    main()
