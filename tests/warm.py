"""Processes that start warm: one imports the program and waits, and its forks run the commands.

Most of what a short command takes is Python's start and its imports: a third of a second. A fork
has them behind it. All else is as ever: a process of its own, with its own streams, variables,
folder, signals, memory and exit code, runs what comes after ``-m`` or ``-c``. What is about the
start itself (what is imported, from where) needs a process that starts cold.

A fork copies each page that it writes to, and Python writes to all it has when it ends tidily. So
a fork ends without that, after all that a program can see of it: its threads have ended, what is
registered with ``atexit`` has run, and its streams are empty.

The server is started by the first who asks, and ends with that process.
"""

from __future__ import annotations

import atexit
import gc
import io
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from tempfile import TemporaryFile
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent
AVAILABLE: Final = sys.platform == "linux"
"""Elsewhere what the system's own libraries started before a fork may not survive it."""

_HEAD: Final = 16
_STREAMS: Final = 3
_FROM_THE_START: Final = ("PYTHON", "LC_", "LANG", "OPENBLAS", "OMP_", "MALLOC")
"""Variables that are read once, when a process starts."""
_FROM_ELSEWHERE: Final = ("threadpoolctl", "typer.rich_utils", "rich.markdown", "rich.progress")
"""What the program imports only when it needs it."""


def serves(env: dict[str, str]) -> bool:
    """Whether a fork would be as a process that is started with these variables."""
    return AVAILABLE and all(
        env.get(name) == os.environ.get(name)
        for name in env.keys() | os.environ.keys()
        if name.startswith(_FROM_THE_START) and name != "PYTHONPATH"
    )


class Child:
    """A process under way; its methods are those of ``subprocess.Popen``."""

    def __init__(
        self, words: list[str], streams: Sequence[int], env: dict[str, str], cwd: str
    ) -> None:
        """Start what would come after ``python`` on a command line."""
        self._line, theirs = socket.socketpair()
        request = json.dumps({"words": words, "env": env, "cwd": cwd}).encode()
        with theirs, _LOCK:
            server = _server()
            socket.send_fds(server, [b"%*d" % (_HEAD, len(request))], [*streams, theirs.fileno()])
            server.sendall(request)
        self._answers = self._line.makefile("rb")
        self.pid = int(self._answers.readline())

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, once; return its exit code, less than 0 for a signal."""
        self._line.settimeout(timeout)
        with self._line, self._answers:
            return os.waitstatus_to_exitcode(int(self._answers.readline()))

    def kill(self) -> None:
        """End it at once."""
        os.kill(self.pid, signal.SIGKILL)


def start(
    words: list[str], streams: Sequence[int], env: dict[str, str], cwd: Path
) -> Child | subprocess.Popen[bytes]:
    """Start what would come after ``python``, warm where that is possible, else cold."""
    if serves(env):
        return Child(words, streams, env, str(cwd))
    given, out, err = streams
    words = [sys.executable, *words]
    return subprocess.Popen(words, env=env, cwd=cwd, stdin=given, stdout=out, stderr=err)


def answer(module: str, question: str, seconds: float) -> str:
    """Run a module of the tests with this standard input; return what it prints."""
    with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
        given.write(question.encode())
        given.seek(0)
        streams = [each.fileno() for each in (given, out, err)]
        code = start(["-m", module], streams, dict(os.environ), ROOT).wait(seconds)
        out.seek(0)
        err.seek(0)
        assert code == 0, err.read().decode(errors="replace")[-3000:]
        return out.read().decode()


_LOCK: Final = threading.Lock()


@cache
def _server() -> socket.socket:
    """Start the server; return the line to it."""
    ours, theirs = socket.socketpair()
    with theirs:
        number = theirs.fileno()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.warm", str(number)],
            pass_fds=[number],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def _exactly(line: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = line.recv(count - len(found))
        if not part:
            break
        found += part
    return found


def _serve(line: socket.socket) -> None:
    """Fork for each request, until nobody is left who could ask; the forks return."""
    while True:
        head, descriptors, _, _ = socket.recv_fds(line, _HEAD, _STREAMS + 1)
        if not head:
            os._exit(0)
        request = json.loads(_exactly(line, int(head)))
        if _fork() == 0:
            line.close()
            *streams, teller = descriptors
            if _watched(streams, teller):
                return _become(request, streams)
        for descriptor in descriptors:
            os.close(descriptor)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _fork() -> int:
    with warnings.catch_warnings():  # of OpenBLAS's threads, which know what to do at a fork
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _watched(streams: list[int], teller: int) -> bool:
    """Fork once more: the process that is watched goes on, the other tells how it ended."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    pid = _fork()
    if pid == 0:
        os.close(teller)
        return True
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for descriptor in (0, 1, 2, *streams):  # a reader waits until all that could write are gone
        os.close(descriptor)
    os.write(teller, b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    os.write(teller, b"%d\n" % status)
    os._exit(0)


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Take the streams, the variables and the folder of the process that was asked for; run it."""
    for own, given in enumerate(descriptors):
        os.dup2(given, own)
        os.close(given)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.stdin, sys.stdout, sys.stderr = _stream(0, "r"), _stream(1, "w"), _stream(2, "w")
    words = request["words"]
    if words[0] == "-P":
        del words[0]
    else:
        sys.path.insert(0, request["cwd"])
    kind, body, *arguments = words
    if kind == "-m":
        sys.argv[:] = [kind, *arguments]
        runpy.run_module(body, run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = ["-c", *arguments]
        sys.modules["__main__"] = main = type(sys)("__main__")
        exec(compile(body, "<string>", "exec"), vars(main))


def _stream(number: int, mode: str) -> io.TextIOWrapper:
    """Open a standard stream as Python does when it starts."""
    raw = io.FileIO(number, mode, closefd=False)
    buffer: Any = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw)
    errors = "backslashreplace" if number == 2 else "strict"
    by_line = number == 2 or raw.isatty()
    return io.TextIOWrapper(buffer, "utf-8", errors, line_buffering=by_line)


def _build_commands() -> None:
    """Build all that typer makes of the command line, once for all forks."""
    import typer.main

    from ggufscope.cli.app import app

    typer.main.get_command = cache(typer.main.get_command)
    group: Any = typer.main.get_command(app)
    context = typer.Context(group)
    for name in group.list_commands(context):
        group.get_command(context, name)


def _end(code: int) -> None:
    """End as Python does when it has called the last that is registered, but at once."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            code = 120
    os._exit(code)


def _main(number: int) -> None:
    ended_with: list[int] = []
    # What is registered first is called last.
    atexit.register(lambda: _end(*ended_with) if ended_with else None)
    import ggufscope

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for found in walk_packages(ggufscope.__path__, "ggufscope."):
        if not found.name.endswith("__main__") and ".kernels." not in found.name:
            import_module(found.name)
    for name in _FROM_ELSEWHERE:
        import_module(name)
    _build_commands()
    gc.freeze()
    with socket.socket(fileno=number) as line:
        try:
            _serve(line)
        except SystemExit as end:
            if isinstance(end.code, int):
                ended_with.append(end.code)
            raise


if __name__ == "__main__":
    _main(int(sys.argv[1]))
