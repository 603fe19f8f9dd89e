"""What commands share: options written once, exit codes, warnings, what an error becomes."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from typer import Argument, Option

from ggufscope.cli import completion
from ggufscope.errors import BadUsage, GGUFScopeError, OutputLost, SourceNotFound, naming
from ggufscope.report.quiet import QUIET

if TYPE_CHECKING:
    from ggufscope.container.file import GGUFFile
    from ggufscope.report.progress import CommandBar

DEFAULT_PROMPT: Final = "The cat sat on the mat"

CHECKING: Final = 0.05
"""The share of a run that a look through all weights takes, about."""

Model = Annotated[
    Path,
    Argument(
        help="A GGUF file, any shard of a split model, or a name: owner/repo:Q4_K_M, ollama:NAME."
    ),
]
Force = Annotated[bool, Option("--force", help="Overwrite what exists.")]
Readers = Annotated[int | None, Option("--threads", min=1, max=256, help="Readers side by side.")]
AsJson = Annotated[bool, Option("--json", help="The result as one JSON object.")]
TypeK = Annotated[
    str | None,
    Option(
        "--type-k",
        metavar="TYPE",
        help="The type of keys in the cache.",
        autocompletion=completion.cache_types,
    ),
]
TypeV = Annotated[
    str | None,
    Option(
        "--type-v",
        metavar="TYPE",
        help="The type of values in the cache.",
        autocompletion=completion.cache_types,
    ),
]
Text = Annotated[
    str | None, Option("--prompt", help=f"The text to run.  \\[default: {DEFAULT_PROMPT}]")
]
TextFile = Annotated[Path | None, Option("--prompt-file", help="A file that holds the text, or -.")]
Ids = Annotated[str | None, Option("--ids", metavar="N,N,...", help="Token numbers, not text.")]
Context = Annotated[
    int | None,
    Option(
        *("--context", "-c"),
        min=1,
        max=2**31,
        metavar="N",
        help="Tokens it is set up for: the most it sees at once.",
    ),
]

Recipes = Annotated[
    list[str] | None,
    Option(
        "--recipe",
        metavar="PRESET",
        help="A mixture such as Q4_K_M, in memory.",
        autocompletion=completion.presets,
    ),
]
Against = Annotated[
    list[Path] | None,
    Option("--against", metavar="FILE", help="Another quantization of the same model."),
]

LONG_JOB: Final = 1 << 28
"""Bytes of models from which on a line is worth it that compiled kernels would be faster."""
LONGEST_LINE: Final = 500
"""Characters of an error or a warning; what is longer is cut, and its length said."""

_OUTPUT_ERRORS: Final = frozenset(
    {errno.ENOSPC, errno.EIO, errno.EBADF, errno.EFBIG, errno.EROFS, errno.EDQUOT}
)
"""What printing fails with. Errors of files that are read or written have become our own."""


class ExitCode(IntEnum):
    """What the shell is told."""

    DONE = 0
    NO = 1
    """The answer to a question is no; no failure ends with it."""
    FAILED = 2
    DEFECT = 70
    """A defect of this program (``EX_SOFTWARE`` of ``sysexits.h``)."""
    INTERRUPTED = 130
    """As a shell has it: 128 and the number of SIGINT."""
    UNREAD = 141
    """128 and the number of SIGPIPE: the reader of a pipe left before all was said."""


def split_types(values: Iterable[str] | None) -> list[str]:
    """Return the types of ``--types A,B`` and of a repeated ``--type``, in order.

    Raises ``BadUsage`` for a value that names none.
    """
    found: list[str] = []
    for value in values or ():
        names = [name.strip() for name in value.split(",") if name.strip()]
        if not names:
            raise BadUsage("--types names no type", hint="write, say, --types Q8_0,Q4_K")
        found += names
    return found


def only_one(options: Mapping[str, object]) -> str | None:
    """Return which of these options is given, if any. Raises ``BadUsage`` where two are."""
    given = [name for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise BadUsage(f"{given[0]} stands beside {given[1]}", hint="give one of the two")
    return given[0] if given else None


def check_results(
    targets: Iterable[Path | None],
    models: Iterable[GGUFFile],
    prompt_file: Path | None,
    *,
    overwrite: bool,
) -> None:
    """Refuse, before any long work, a result that cannot be written or would replace an input.

    Raises what ``check_target`` raises.
    """
    from ggufscope.container.target import check_target

    sources = [shard.source.path for model in models for shard in model.shards]
    sources += [prompt_file] if prompt_file is not None else []
    for target in targets:
        if target is not None:
            check_target(target, overwrite=overwrite, sources=sources)


def check_weights(files: Sequence[GGUFFile], bar: CommandBar) -> None:
    """Look through all weights of all models. Raises what ``require_finite_weights`` raises."""
    from ggufscope.forward.finite import require_finite_weights

    for file in files:
        with naming(file.path):
            require_finite_weights(file, bar.phase("checking weights", CHECKING / len(files)))


def warn(words: str) -> None:
    """Print a warning on standard error, unless only results are wanted."""
    if not QUIET.get():
        complain("warning", words)


def warn_about(file: GGUFFile) -> None:
    """Print what is odd about a file."""
    for words in file.warnings():
        warn(words)


def warn_of_a_long_job(files: Iterable[GGUFFile]) -> None:
    """Print, where files are large and nobody asked for NumPy, that kernels would be faster."""
    if sum(file.nbytes for file in files) < LONG_JOB:
        return
    from ggufscope.blocks.codec import missing_kernels

    if why := missing_kernels():
        warn(
            f"NumPy converts, several times slower than compiled kernels: {why} "
            "(install ggufscope again with a C++ compiler on the path; --engine numpy says no more)"
        )


def failure(error: BaseException) -> int:
    """Print what went wrong, in a line and a hint; return the exit code."""
    if isinstance(error, BrokenPipeError):
        return ExitCode.UNREAD
    if isinstance(error, MemoryError):
        error = GGUFScopeError("there is not enough memory", hint="close other programs")
    if isinstance(error, OSError) and error.errno in _OUTPUT_ERRORS and error.filename is None:
        error = OutputLost(
            f"standard output cannot be written: {error.strerror}",
            hint="write to another place, or make room there",
        )
    if isinstance(error, GGUFScopeError):
        complain("error", error.message)
        if hint := _known_shape(error) or error.hint:
            complain("hint", hint)
        return ExitCode.FAILED
    if os.environ.get("GGUFSCOPE_DEBUG"):
        with suppress(OSError, ValueError):
            sys.stderr.write("".join(traceback.format_exception(error)))
    frame = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" ({Path(frame[0].filename).name}, line {frame[0].lineno})" if frame else ""
    complain("error", f"a defect in ggufscope: {type(error).__name__}: {error}{where}")
    complain("hint", "report it with the command and what GGUFSCOPE_DEBUG=1 makes it print")
    return ExitCode.DEFECT


def _known_shape(error: GGUFScopeError) -> str:
    """Return a hint where a file is not there, and its name is that of a known shape."""
    name, found, _ = error.message.partition(": no such file")
    if not (found and isinstance(error, SourceNotFound)):
        return ""
    from ggufscope.sizing.names import shapes_like

    known = len(shapes_like(name)) == 1 and not name.lower().endswith(".gguf")
    return f"{name} is a known shape without weights: list and size take it" if known else ""


def interrupted() -> int:
    """Say what Ctrl-C made the command remove, or keep, if anything; return the exit code."""
    partial = sys.modules.get("ggufscope.container.partial")
    if partial:
        partial.remove_live()
        names = [str(path) for path in dict.fromkeys(partial.REMOVED)]
        if names:
            files = "file of" if len(names) == 1 else "files of"
            verb = "was" if len(names) == 1 else "were"
            complain("interrupted", f"the temporary {files} {', '.join(names)} {verb} removed")
        kept = sorted({str(path) for path in partial.KEPT})
        if kept:
            more = [f"{len(kept) - 2} more"] if len(kept) > 3 else kept[2:]
            complain("interrupted", f"what is done of {', '.join([*kept[:2], *more])} is kept")
            complain("hint", "--resume goes on from it; a run without --resume removes it")
    return ExitCode.INTERRUPTED


def complain(kind: str, words: str) -> None:
    """Print an error, a warning or a hint on standard error.

    On a terminal it is wrapped at words, and its kind in colour; in a pipe it is one line.
    """
    from ggufscope.report.units import printable

    shown = printable(words, most=LONGEST_LINE)
    with suppress(OSError, ValueError):  # with nowhere to say it the exit code still tells
        if sys.stderr.isatty():
            from rich.text import Text

            from ggufscope.report.console import ORANGE, RED, make_console, show

            colour = {"error": RED, "warning": ORANGE}.get(kind, "")
            line = Text.assemble((f"{kind}:", f"bold {colour}".rstrip()), " ", shown)
            show(make_console(stderr=True), [line])
        else:
            sys.stderr.write(f"{kind}: {shown}\n")
        sys.stderr.flush()
