"""Make the lists of names from llama.cpp's sources: tensors, computed quantities, architectures.

    python -m tests.golden.make_names --sources llama.cpp --check

The sources are those of the `llama-cpp-python` 0.3.36 source distribution (`vendor/llama.cpp`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.golden.command import Outcome, folder_of, parser, report, text_outcome


def tensor_names(sources: Path) -> list[str]:
    """Return the tensor names of the model table, and of the image and audio towers."""
    table = _braces((sources / "src/llama-arch.cpp").read_text(), "LLM_TENSOR_NAMES = {")
    found = re.findall(r'{\s*LLM_TENSOR_\w+,\s*"([^"]+)"', table)
    towers = (sources / "tools/mtmd/clip-impl.h").read_text()
    for name in re.findall(r'#define TN_\w+\s+"([^"]+)"', towers):
        # `%s` first is the tower, at the end `weight` or `bias`
        found.append(re.sub(r"%s$", "weight", re.sub(r"^%s", "v", name)))
    return sorted(set(found))


def graph_names(sources: Path) -> list[str]:
    """Return every name that a `cb(...)` call gives to a computed quantity."""
    files = [sources / "src/llama-graph.cpp", *(sources / "src/models").glob("*.cpp")]
    call = re.compile(r'\bcb\([^"\n]*"([^"]+)"')
    return sorted({name for file in files for name in call.findall(file.read_text())})


def architectures(sources: Path) -> list[str]:
    """Return `NAME ROPE` lines: an architecture, and the kinds of RoPE it may have."""
    table = _braces((sources / "src/llama-arch.cpp").read_text(), "LLM_ARCH_NAMES = {")
    names = dict(re.findall(r'{\s*(LLM_ARCH_\w+),\s*"([^"]+)"', table))
    kinds = _rope_kinds((sources / "src/llama-model.cpp").read_text())
    return sorted(
        f"{names[arch]} {'/'.join(kinds[arch])}" for arch in names if names[arch] != "(unknown)"
    )


def _rope_kinds(source: str) -> dict[str, list[str]]:
    """Read `llama_model_rope_type`: for each case, the kinds in the first `return` after it."""
    body = source[source.index("llama_rope_type llama_model_rope_type(") :]
    found: dict[str, list[str]] = {}
    waiting: list[str] = []
    for line in body[: body.index("\n}")].splitlines():
        waiting += re.findall(r"case (LLM_ARCH_\w+):", line)
        if kinds := re.findall(r"LLAMA_ROPE_TYPE_(\w+)", line):
            found |= dict.fromkeys(waiting, kinds)
            waiting = []
    return found


def _braces(source: str, start: str) -> str:
    body = source[source.index(start) :]
    return body[: body.index("\n};")]


def _make(sources: Path, folder: Path | None) -> Iterator[Outcome]:
    for lines in (tensor_names, graph_names, architectures):
        name = f"{lines.__name__}.txt"
        yield text_outcome(name, "".join(f"{line}\n" for line in lines(sources)), folder)


def main(arguments: list[str] | None = None) -> int:
    """Make the three lists."""
    options = parser(__doc__)
    options.add_argument("--sources", type=Path, required=True, help="a llama.cpp source tree")
    given = options.parse_args(arguments)
    return report(_make(given.sources, folder_of(given)))


if __name__ == "__main__":
    sys.exit(main())
