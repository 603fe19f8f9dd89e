"""``ggufscope edit``: other metadata for a model that is there, or for a copy of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from ggufscope.cli.options import AsJson, Force, Model, complain, warn
from ggufscope.cli.output import Quiet, print_views
from ggufscope.cli.texts import read_text
from ggufscope.errors import BadUsage, naming
from ggufscope.report.quiet import QUIET

LONGEST_TEMPLATE: Final = 1 << 24
"""Bytes of a chat template; the longest there are have 40 kB."""
MOST_WARNINGS: Final = 5
"""Of what ``check`` would say of the model, and does not say now."""


def edit_command(
    model: Model,
    copy: Annotated[
        Path | None, typer.Argument(help="A file to write; without it MODEL itself is changed.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=TYPE:VALUE", help="Set a key: int, float, bool, str."),
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar="KEY", help="Leave a key out.")
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option("--rename", metavar="OLD=NEW", help="Give a key another name."),
    ] = None,
    chat_template: Annotated[
        Path | None, typer.Option("--chat-template", help="A file with the Jinja template.")
    ] = None,
    special: Annotated[
        list[str] | None,
        typer.Option("--special", metavar="KIND=TOKEN", help="bos=<s>, eos=</s>, eot=..."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, write nothing.")
    ] = False,
    unsound: Annotated[
        bool, typer.Option("--unsound", help="Write it though `check` would find it unsound.")
    ] = False,
    force: Force = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Change the metadata of a model: set, remove and rename keys.

    A value keeps the type that its key has, and what `check` would call an
    error is refused. The weights stay as they are, byte for byte. Killed at any
    moment, it leaves the old file or the new one.

    For example: ggufscope edit model.gguf --special eot="<|im_end|>"
    """
    from ggufscope.checking.edited import edited_findings, require_no_worse
    from ggufscope.recipes.changes import Edits, parse_pairs, parse_settings
    from ggufscope.recipes.edits import finish_edit, prepare_edit, run_edit
    from ggufscope.report.as_json import dumps
    from ggufscope.report.edit.json import edit_json
    from ggufscope.report.edit.text import edit_views
    from ggufscope.report.progress import CommandBar

    edits = Edits(
        set=parse_settings(set_ or []),
        remove=tuple(remove or []),
        rename=parse_pairs(rename or [], "--rename", "OLD=NEW"),
        special=parse_pairs(special or [], "--special", "KIND=TOKEN, such as bos=<s>"),
        chat_template=None
        if chat_template is None
        else read_text(chat_template, LONGEST_TEMPLATE, "a chat template"),
    )
    finished = copy is None and not dry_run and finish_edit(model)
    if finished:
        warn(f"{model}: a change that was killed half way is finished now")
    if not edits and copy is None and not finished:
        raise BadUsage("nothing is to be changed", hint="give --set, --remove, --rename, ...")
    prepared = prepare_edit(model, edits, copy, overwrite=force, unsound=unsound)
    for words in [*prepared.source.warnings(), *prepared.warnings]:
        warn(words)
    if prepared.differences:
        with naming(prepared.source.path):
            found = edited_findings(prepared.source, prepared.after)
            if not unsound:
                require_no_worse(found)
        for finding in found[:MOST_WARNINGS]:
            warn(f"{finding.what}: {finding.meaning}")
        if (beyond := len(found) - MOST_WARNINGS) > 0:
            warn(f"and {beyond} more: `ggufscope check --quick` shows all of them")
    if prepared.rewrites and not dry_run:
        if copy is None and not QUIET.get():
            complain("note", f"{prepared.source.path} itself will be changed: no COPY is named")
        with CommandBar(prepared.source.path.name) as bar:
            run_edit(prepared, bar.phase("copying"))
    if as_json:
        typer.echo(dumps(edit_json(prepared, dry_run=dry_run, finished=finished)))
    else:
        print_views(edit_views(prepared, dry_run=dry_run))
