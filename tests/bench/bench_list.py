"""The whole command against its imports alone: `python -m tests.bench.bench_list`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bench.common import alternate, command, where, write_large_header

RUNS = 15


def main() -> None:
    """Print times and their ratio."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "large.gguf"
        write_large_header(path, tensors=1000)
        print(where())
        imports, ours = alternate(
            RUNS,
            command("-c", "import numpy, typer, rich.table"),
            command("-m", "ggufscope", "list", str(path)),
        )
        print(f"import numpy, typer, rich.table {1000 * imports:6.0f} ms (median of {RUNS})")
        print(f"ggufscope list                  {1000 * ours:6.0f} ms")
        print(f"ratio                           {ours / imports:6.2f}")


if __name__ == "__main__":
    main()
