"""The command line: which commands there are, and how each of them ends.

Exit codes: 0 done, 1 the answer is no (where a command asks a question), 2 it cannot be done, 70 a
defect of this program, 141 the reader of a pipe left before all was said.
"""

from __future__ import annotations

import gc
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Annotated, Final

import typer

from ggufscope import __version__
from ggufscope.cli import signals
from ggufscope.cli.commands import Commands
from ggufscope.cli.options import ExitCode, failure, interrupted
from ggufscope.errors import BadUsage, OutputLost
from ggufscope.spelling import MOST, did_you_mean, question

_UsageError: Final[type[Exception]] = typer.BadParameter.__bases__[0]
"""What typer raises for words on the command line that it cannot use; it has no public name."""

app = typer.Typer(
    name="ggufscope",
    cls=Commands,
    help="Looks into GGUF model files: what is stored, what is only computed, what it weighs.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_CLOSED: Final = OutputLost("standard output is closed", hint="write to a file, or to a pipe")


class EngineName(StrEnum):
    """What can convert weights; ``blocks.codec.ENGINES`` by name."""

    AUTO = "auto"
    NUMPY = "numpy"
    COMPILED = "compiled"


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("-V", "--version", help="Show the version.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="With --version: what converts weights.")
    ] = False,
    engine: Annotated[
        EngineName | None,
        typer.Option(help="What converts weights; or GGUFSCOPE_ENGINE.  \\[default: auto]"),
    ] = None,
    max_download: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Most that may travel of a file elsewhere; or GGUFSCOPE_MAX_DOWNLOAD.  "
            "\\[default: 256MiB]",
        ),
    ] = None,
) -> None:
    """Do what the options ask for that come before a command."""
    if engine is not None:
        os.environ["GGUFSCOPE_ENGINE"] = engine.value  # for this process, and those it starts
    if max_download is not None:
        from ggufscope.cli.sizes import parse_size

        most = parse_size(max_download, "--max-download", "a download")
        os.environ["GGUFSCOPE_MAX_DOWNLOAD"] = str(most)
    if version:
        typer.echo(f"ggufscope {__version__}")
        if verbose:
            from ggufscope.blocks.codec import describe_engine

            typer.echo(f"engine: {describe_engine()}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help())  # with rich it prints by itself, and this is empty
        raise typer.Exit(ExitCode.FAILED)


def main() -> None:
    """Run the command line, and end the process with its exit code."""
    signals.install()
    # Plans and tables are many small objects that stay: looking for garbage among them over and
    # over took a third of the time of `size`.
    gc.set_threshold(100_000, 20, 100)
    if sys.stderr is None:  # nobody to tell; the exit code still does
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123  # open to the end
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what the encoding lacks is escaped, not fatal
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run() if sys.stdout is not None else failure(_CLOSED)
    except KeyboardInterrupt:
        code = interrupted()
    _let_go_of_output()
    sys.exit(code)


def _command() -> Callable[..., object]:
    return typer.main.get_command(app)


def _run() -> int:
    try:
        code = _command()(standalone_mode=False)
        sys.stdout.flush()
    except SystemExit as end:
        # Typer ends with 1 when nobody reads on, and leaves this in place of the stream. Here 1 is
        # an answer, and what asked for it must not get it by accident.
        if end.code == ExitCode.NO and type(sys.stdout).__name__ == "PacifyFlushWrapper":
            return ExitCode.UNREAD
        raise
    except _UsageError as error:
        return failure(_as_usage(error))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic of a compiled library is no Exception
        return failure(error)
    if code == ExitCode.INTERRUPTED:  # what typer makes of Ctrl-C
        return interrupted()
    return code if isinstance(code, int) else ExitCode.DONE


def _as_usage(error: BaseException) -> BadUsage:
    """Say what typer says of a command line, with a hint where to look."""
    words = getattr(error, "format_message", error.__str__)()
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "ggufscope"
    hint = f"try `{command} --help`"
    option = getattr(error, "option_name", "")
    if option and hasattr(error, "possibilities"):  # typer offers them within the message
        words = f"no such option: {option}"
        names = [name for each in context.command.params for name in each.opts] if context else []
        alike = (getattr(error, "possibilities", None) or [])[:MOST]
        hint = did_you_mean(option, names, question(alike) or hint)
    elif context is not None and (missing := re.match("No such command '(.*)'", words)):
        hint = did_you_mean(missing[1], context.command.list_commands(context), hint)
    return BadUsage(words[:1].lower() + words[1:].rstrip("."), hint=hint)


def _let_go_of_output() -> None:
    """Keep Python from writing, and failing, once more when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
