"""`ggufscope size` of a model on a Hub that is 50 ms away: `python -m tests.bench.bench_remote`.

The Hub is a stand-in on this machine; each of its answers waits for the latency. The header has
150,000 tokens and merges.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.common import ENTRIES, alternate, command, where, write_large_header
from tests.container.site import Site, serving

RUNS = 5
LATENCY = 0.05
NAME = "large-Q4_K_M.gguf"


def main() -> None:
    """Print times, requests and bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NAME
        write_large_header(path, tensors=400)
        data = path.read_bytes() + bytes(8_000_000)
        repositories = {"owner/large-GGUF": [NAME]}
        with serving(Site({NAME: data}, latency=LATENCY, repositories=repositories)) as site:
            environment = os.environ | {
                "HF_ENDPOINT": site.url,
                "HF_HOME": folder,
                "HF_HUB_OFFLINE": "0",
            }

            def size(model: str) -> float:
                """Return the seconds of processor time that it took, waits left out."""
                program = [sys.executable, "-m", "ggufscope", "size", model, "-q"]
                before = os.times()
                subprocess.run(program, env=environment, stdout=subprocess.DEVNULL, check=True)
                after = os.times()
                return sum(after[2:4]) - sum(before[2:4])

            size("owner/large-GGUF:Q4_K_M")  # the client asks for something of its own, once
            site.asked.clear()
            size("owner/large-GGUF:Q4_K_M")
            ranges = [each for each in site.asked if each.range]
            print(where())
            print(f"{ENTRIES:,} tokens and merges, a header of {path.stat().st_size:,} bytes")
            print(f"{len(site.asked)} requests, {len(ranges)} of them ranges, {site.sent:,} bytes")
            far, near, start = alternate(
                RUNS,
                lambda: size("owner/large-GGUF:Q4_K_M"),
                lambda: size(str(path)),
                command("-c", "import huggingface_hub.hf_api"),
            )
            print(f"size, {1000 * LATENCY:.0f} ms away    {far:6.2f} s (median of {RUNS})")
            print(f"size, on this disk   {near:6.2f} s")
            print(f"import of the client {start:6.2f} s")
            far = min(size("owner/large-GGUF:Q4_K_M") for _ in range(RUNS))
            near = min(size(str(path)) for _ in range(RUNS))
            print(f"of the processor {far:.2f} and {near:.2f} s (the least of {RUNS})")


if __name__ == "__main__":
    main()
