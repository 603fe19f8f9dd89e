"""Opening a header of 150,000 tokens and merges: `python -m tests.bench.bench_open`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import gguf

from ggufscope.container.file import open_gguf
from tests.bench.common import ENTRIES, alternate, where, write_large_header

RUNS = 3

# Peak resident size at the end, less what it was when the imports were done.
_MEMORY = """
import re, sys
{imports}
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
before = peak()
kept = {work}
print((peak() - before) / 1024)
"""


def _memory(path: Path, imports: str, work: str) -> float:
    code = _MEMORY.format(imports=imports, work=work)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def main() -> None:
    """Print times, their ratio, and memory."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "large.gguf"
        write_large_header(path, tensors=1000)
        print(where())
        print(f"{ENTRIES:,} tokens and merges, 1,000 tensors, {path.stat().st_size:,} bytes")
        ours, theirs = alternate(RUNS, lambda: open_gguf(path), lambda: gguf.GGUFReader(path))
        print(f"open_gguf       {1000 * ours:10.1f} ms (median of {RUNS})")
        print(f"gguf.GGUFReader {1000 * theirs:10.1f} ms")
        print(f"ratio           {theirs / ours:10.0f}")
        import_ours = "from ggufscope.container.file import open_gguf"
        mine = _memory(path, import_ours, "open_gguf(sys.argv[1])")
        peer = _memory(path, "import gguf", "gguf.GGUFReader(sys.argv[1])")
        print(f"peak memory above imports: {mine:.1f} MiB; gguf.GGUFReader {peer:.0f} MiB")


if __name__ == "__main__":
    main()
