"""The program as its users start it: a process of its own, in a folder of its own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from contextvars import copy_context
from pathlib import Path
from typing import IO, Any, Final
from unittest.mock import patch

from ggufscope.cli import app
from tests import warm

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
SECONDS: Final = 120
"""How long a run may take."""
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
    *arguments: object,
    workers: bool = False,
    before: str = "",
    cold: bool = False,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    stdout: IO[Any] | int = subprocess.PIPE,
    stderr: IO[Any] | int = subprocess.PIPE,
) -> subprocess.CompletedProcess[str]:
    """Run it to its end; ``cold``: with all of Python's start, which a test may be about."""
    words = words_of(*arguments, workers=workers, before=before)
    env = environment() if env is None else env
    if cold or workers or not warm.serves(env):
        return subprocess.run(
            words,
            text=True,
            encoding="utf-8",
            errors="backslashreplace",
            check=False,
            env=env,
            cwd=cwd,
            stdout=stdout,
            stderr=stderr,
            timeout=SECONDS,
        )
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        said: list[Future[str] | None] = []
        streams = [0]
        for given in (stdout, stderr):
            if given == subprocess.STDOUT:
                theirs = streams[-1]
                said.append(None)
            elif given == subprocess.PIPE:
                ours, theirs = os.pipe()
                stack.callback(os.close, theirs)
                said.append(pool.submit(_read, ours))
            else:
                theirs = given if isinstance(given, int) else given.fileno()
                said.append(None)
            streams.append(theirs)
        child = warm.Child(words[1:], streams, env, str(cwd or Path.cwd()))
        stack.close()
        try:
            code = child.wait(SECONDS)
        except TimeoutError:
            child.kill()
            raise
        out, err = (None if part is None else part.result() for part in said)
    return subprocess.CompletedProcess(words, code, out, err)


def _read(descriptor: int) -> str:
    with open(descriptor, encoding="utf-8", errors="backslashreplace") as stream:
        return stream.read()


def inside(
    *arguments: object, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it to its end in this process, which takes a quarter of the time.

    For what it prints, writes and ends with. What is about a process of its own, its start, its
    streams, its memory, signals, the folder it is in, goes to ``run``.
    """
    words = ["ggufscope", *map(str, arguments)]
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", newline="\n") for _ in range(2)]
    code: Any = 0
    with (
        patch.dict(os.environ, environment() if env is None else env, clear=True),
        patch.object(sys, "argv", words),
        redirect_stdout(streams[0]),
        redirect_stderr(streams[1]),
    ):
        try:
            copy_context().run(app.main)
        except SystemExit as end:
            code = end.code
    out, err = (stream.buffer.getvalue().decode() for stream in streams)
    return subprocess.CompletedProcess(words, int(code or 0), out, err)


def on_a_terminal(
    *arguments: object,
    before: str = "",
    stdout: IO[Any] | None = None,
    stderr: IO[Any] | None = None,
    **more: str,
) -> tuple[int, bytes]:
    """Run the program with a terminal for its output; the exit code, and all it printed there."""
    import pty  # which Windows does not have

    ours, theirs = pty.openpty()
    words, env = words_of(*arguments, before=before), environment(TERM="xterm-256color", **more)
    streams = [theirs if own is None else own.fileno() for own in (None, stdout, stderr)]
    process = warm.start(words[1:], streams, env, Path.cwd())
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
