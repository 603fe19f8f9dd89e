"""Make `split.json` anew: what real llama-gguf-split writes, from the sample.

    python -m tests.golden.make_split --llama-bin llama.cpp/build/bin --check

For each file the keys with their types and values, and the tensors in order; of the metadata that
is the sample's own, only how many keys there are. The `gguf` package reads the files.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf

from tests.golden.command import SAMPLE, folder_of, parser, report, text_outcome

NAME = "split.json"
RUNS: dict[str, list[str]] = {
    "--split-max-size 2M": ["--split-max-size", "2M"],
    "--split-max-size 1M": ["--split-max-size", "1M"],
}


def described(path: Path) -> dict[str, Any]:
    """Return what a file says of a split, and the digest of each tensor, in order."""
    reader = gguf.GGUFReader(path)
    fields = {key: field for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    return {
        "name": path.name,
        "split": {
            key: [field.types[0].name, field.contents()]
            for key, field in sorted(fields.items())
            if key.startswith("split.")
        },
        "keys": sum(not key.startswith("split.") for key in fields),
        "tensors": {
            each.name: hashlib.sha256(each.data.tobytes()).hexdigest()[:16]
            for each in reader.tensors
        },
    }


def made(program: Path) -> dict[str, Any]:
    """Run llama-gguf-split: split the sample, and merge its shards again."""
    found: dict[str, Any] = {}
    for name, options in RUNS.items():
        with tempfile.TemporaryDirectory() as folder:
            _run(program, "--split", *options, SAMPLE, Path(folder, "m"))
            shards = sorted(Path(folder).iterdir())
            found[name] = [described(path) for path in shards]
            _run(program, "--merge", shards[0], Path(folder, "merged.gguf"))
            found[f"{name}, merged"] = [described(Path(folder, "merged.gguf"))]
    return found


def _run(program: Path, *words: object) -> None:
    subprocess.run([program, *map(str, words)], check=True, capture_output=True)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser(__doc__)
    options.add_argument("--llama-bin", type=Path, required=True, help="where the program lies")
    given = options.parse_args(arguments)
    text = json.dumps(made(given.llama_bin / "llama-gguf-split"), indent=1) + "\n"
    return report([text_outcome(NAME, text, folder_of(given))])


if __name__ == "__main__":
    sys.exit(main())
