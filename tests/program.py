"""The program as its users start it: a process of its own, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent

# Worker processes are for large models, and for NumPy: here they have the smallest ones to do.
WITH_WORKERS = """
try:
    import os
    os.environ["GGUFSCOPE_ENGINE"] = "numpy"
    import ggufscope.recipes.apply as apply
    from ggufscope.__main__ import main
    apply._LARGE = 1
    main()
except KeyboardInterrupt:  # as `__main__` does it while the rest is imported
    raise SystemExit(130) from None
"""
WORKERS = ("--threads", "2", "--max-buffer-size", "16K")


def words_of(*arguments: object, workers: bool = False, before: str = "") -> list[str]:
    """The words to start it by; ``before``: lines of Python to run in it first."""
    program = ["-m", "ggufscope"]
    if workers or before:
        body = WITH_WORKERS if workers else "from ggufscope.__main__ import main\nmain()\n"
        program = ["-P", "-c", before + "\n" + body]
    return [sys.executable, *program, *map(str, arguments)]


def start(
    *arguments: object, workers: bool = False, before: str = "", **options: Any
) -> subprocess.Popen[bytes]:
    """Start it with its output in pipes."""
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    words = words_of(*arguments, workers=workers, before=before)
    return subprocess.Popen(words, **{**piped, "env": environment(), **options})


def run(
    *arguments: object, workers: bool = False, before: str = "", **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    words = words_of(*arguments, workers=workers, before=before)
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    whole = {**piped, "env": environment(), "timeout": 120, **options}
    return subprocess.run(words, text=True, errors="backslashreplace", check=False, **whole)


def on_a_terminal(*arguments: object, before: str = "", **more: str) -> tuple[int, bytes]:
    """Run the program with a terminal for its output; the exit code, and all it printed."""
    import pty  # which Windows does not have

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        words_of(*arguments, before=before),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(TERM="xterm-256color", **more),
    )
    os.close(theirs)
    said = b""
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # what Linux says where there is nobody at the other end any more
            part = b""
        if not part:
            break
        said += part
    os.close(ours)
    return process.wait(), said


def environment(**more: str) -> dict[str, str]:
    """What a shell at 80 columns would give it."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", **more}


def refused(done: subprocess.CompletedProcess[str], *said: str) -> None:
    """It ended as it does for what cannot be done: a line, a hint, 2, and nothing else."""
    assert done.returncode == 2, (done.returncode, done.stderr)
    lines = done.stderr.splitlines()
    complaints = [line for line in lines if not line.startswith("warning: ")]
    assert len(complaints) == 2, done.stderr
    assert complaints[0].startswith("error: ")
    assert complaints[1].startswith("hint: ")
    for words in said:
        assert words in complaints[0], done.stderr
    assert max(map(len, lines)) < 600
