"""How much a command shows, and in which form: the options, and the printing."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from typer import Option

from ggufscope.errors import BadUsage
from ggufscope.report.quiet import QUIET

if TYPE_CHECKING:
    from rich.console import RenderableType


def _be_quiet(wanted: bool) -> None:
    QUIET.set(wanted)


Quiet = Annotated[
    bool,
    Option(
        *("-q", "--quiet"),
        callback=_be_quiet,
        expose_value=False,
        help="Results only: no warnings, no bar.",
    ),
]
Brief = Annotated[bool, Option("--brief", help="Only the few lines that matter.")]
AsMarkdown = Annotated[bool, Option("--markdown", help="A report to paste, as GitHub Markdown.")]


def require_one_form(*, as_json: bool, markdown: bool = False, brief: bool = False) -> None:
    """Raise ``BadUsage`` where ``--json`` is used together with what changes the text alone."""
    if as_json and (markdown or brief):
        other = "--markdown" if markdown else "--brief"
        raise BadUsage(f"--json and {other} are two forms of one result", hint="give one of them")


def print_views(views: Iterable[RenderableType], *, markdown: bool = False) -> None:
    """Print views for the terminal or the pipe, or as Markdown with the command at its end."""
    if markdown:
        from ggufscope.report.markdown import report

        command = shlex.join(["ggufscope", *sys.argv[1:]])
        sys.stdout.writelines(report(views, command))
    else:
        from ggufscope.report.console import make_console, show

        show(make_console(), views)
