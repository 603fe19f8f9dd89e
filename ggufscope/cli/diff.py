"""``ggufscope diff``: what differs between two models, and what one is to the other."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option

from ggufscope.cli.options import AsJson, ExitCode, Readers
from ggufscope.cli.output import AsMarkdown, Brief, Quiet, print_views, require_one_form
from ggufscope.errors import BadUsage


def diff_command(
    a: Annotated[Path, Argument(metavar="A", help="A GGUF file, or any shard of a split model.")],
    b: Annotated[Path, Argument(metavar="B", help="The one to hold against it.")],
    quick: Annotated[
        bool, Option("--quick", help="The headers alone: no weight is looked at.")
    ] = False,
    whole: Annotated[
        bool, Option("--all", help="Every tensor, those that are the same included.")
    ] = False,
    threads: Readers = None,
    brief: Brief = False,
    markdown: AsMarkdown = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Say what differs between two models: metadata, tensors, weights; and what B is to A.

    Types and shards may be any. Errors are B's weights against A's. Ends with 0
    where nothing differs, 1 where something does, 2 where a file cannot be read.

    For example: ggufscope diff model-f16.gguf model-q4_k_m.gguf
    """
    from ggufscope.container.file import open_gguf
    from ggufscope.measure.diff.diff import diff
    from ggufscope.report.progress import CommandBar

    require_one_form(as_json=as_json, markdown=markdown, brief=brief)
    if brief and whole:
        raise BadUsage("--brief leaves out what --all asks for", hint="give one of them")
    with open_gguf(a) as first, open_gguf(b) as second:
        with CommandBar(b.name) as bar:
            phases = bar.phase("comparing")
            found = diff(first, second, quick=quick, threads=threads, progress=phases)
        if as_json:
            from ggufscope.report.as_json import write_json
            from ggufscope.report.diff.json import diff_json

            write_json(diff_json(first, second, found), sys.stdout)
        else:
            from ggufscope.report.diff.text import diff_views

            views = diff_views(first, second, found, brief=brief, whole=whole)
            print_views(views, markdown=markdown)
    if not found.same:
        raise Exit(ExitCode.NO)
