"""The command line: which commands there are, and what an error becomes.

Exit codes: 0 done, 1 the answer is no (where a command asks a question), 2 it cannot be done, 141
the reader of a pipe left before all was said.
"""

from __future__ import annotations

import signal
import sys
from enum import IntEnum
from typing import Annotated

import typer

from ggufscope import __version__
from ggufscope.cli.attention import attention_command
from ggufscope.cli.compare_attention import compare_attention_command
from ggufscope.cli.list import list_model
from ggufscope.cli.quantize import dequantize_command, quantize_command
from ggufscope.cli.size import size_command
from ggufscope.errors import GGUFScopeError


class ExitCode(IntEnum):
    """What the shell is told."""

    DONE = 0
    NO = 1
    FAILED = 2
    UNREAD = 141
    """As a shell has it: 128 and the number of SIGPIPE."""


app = typer.Typer(
    name="ggufscope",
    help="Looks into GGUF model files: what is stored, what is only computed, what it weighs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("list")(list_model)
app.command("size")(size_command)
app.command("quantize")(quantize_command)
app.command("dequantize")(dequantize_command)
app.command("attention")(attention_command)
app.command("compare-attention")(compare_attention_command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ggufscope {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Hold the options that come before a command; their callbacks do the work."""


def main() -> None:
    """Run the command line. An error becomes one line, a hint and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what the encoding lacks is escaped, not fatal
            stream.reconfigure(errors="backslashreplace")
    # Ended from outside, a command cleans up after itself, as it does for Ctrl-C.
    signal.signal(signal.SIGTERM, _terminated)
    _keep_what_signals_raise()
    try:
        app()
    except GGUFScopeError as error:
        _report(error)
        sys.exit(ExitCode.FAILED)
    except SystemExit as end:
        # Typer ends with 1 when nobody reads on, and leaves this in place of the stream. Here 1 is
        # an answer, and what asked for it must not get it by accident.
        if end.code == ExitCode.NO and type(sys.stdout).__name__ == "PacifyFlushWrapper":
            sys.exit(ExitCode.UNREAD)
        raise


def _terminated(number: int, frame: object) -> None:
    sys.exit(128 + number)


def _keep_what_signals_raise() -> None:
    """Raise once more what a signal raised where Python drops exceptions.

    A signal may come while a weak reference's callback runs (an import has those); what its handler
    raises there is reported and forgotten, and the command would go on as if nobody had asked.
    """
    if not hasattr(signal, "setitimer"):  # Windows, where nothing but Ctrl-C comes
        return
    lost: list[BaseException] = []

    def dropped(what: sys.UnraisableHookArgs) -> None:
        if isinstance(what.exc_value, SystemExit | KeyboardInterrupt):
            lost.append(what.exc_value)
            signal.setitimer(signal.ITIMER_REAL, 0.01)
        else:
            sys.__unraisablehook__(what)

    def again(number: int, frame: object) -> None:
        raise lost.pop()

    sys.unraisablehook = dropped
    signal.signal(signal.SIGALRM, again)


def _report(error: GGUFScopeError) -> None:
    from ggufscope.report.units import printable

    sys.stderr.write(f"error: {printable(error.message)}\n")
    if error.hint:
        sys.stderr.write(f"hint: {printable(error.hint)}\n")
