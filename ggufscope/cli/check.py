"""``ggufscope check``: whether a file is sound, and what to do where it is not."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from typer import Argument, Exit, Option

from ggufscope.cli.options import AsJson, ExitCode, Force, Readers
from ggufscope.cli.output import Brief, Quiet, print_views, require_one_form
from ggufscope.cli.texts import read_text
from ggufscope.errors import BadUsage

if TYPE_CHECKING:
    from ggufscope.checking.check import CheckOptions
    from ggufscope.checking.findings import Checked

LONGEST_MANIFEST: Final = 1 << 26
"""Bytes of a manifest: a line for each of very many tensors."""


class Algorithm(StrEnum):
    """What can be hashed with; ``checking.hashes.ALGORITHMS`` by name."""

    SHA256 = "sha256"
    SHA1 = "sha1"
    XXH64 = "xxh64"


def check_command(
    models: Annotated[
        list[Path], Argument(metavar="MODEL...", help="GGUF files, or folders of them.")
    ],
    quick: Annotated[
        bool, Option("--quick", help="The header alone: no weight is looked at.")
    ] = False,
    belonging: Annotated[
        list[Path] | None,
        Option("--with", metavar="FILE", help="Does this projector, LoRA or draft belong to it?"),
    ] = None,
    hash_: Annotated[
        Algorithm | None,
        Option("--hash", help="Hash each tensor, and all, as llama-gguf-hash does."),
    ] = None,
    no_layer: Annotated[bool, Option("--no-layer", help="No hash for each tensor.")] = False,
    verify: Annotated[
        Path | None, Option("--verify", metavar="MANIFEST", help="Hold the hashes against these.")
    ] = None,
    recipe_out: Annotated[
        Path | None,
        Option("--recipe-out", metavar="FILE", help="Write its types as a --tensor-type-file."),
    ] = None,
    threads: Readers = None,
    force: Force = False,
    brief: Brief = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Say whether a file is sound: its header, its metadata and every block of weights.

    Each finding says what it means, what to do, and llama.cpp's own words for
    it. Ends with 0 where there is neither error nor warning, 1 where there is
    one, 2 where a file cannot be read.

    For example: ggufscope check model.gguf --hash sha256
    """
    from ggufscope.checking.check import CheckOptions
    from ggufscope.checking.hashes import parse_manifest
    from ggufscope.checking.paths import models_in
    from ggufscope.container.file import open_gguf
    from ggufscope.container.target import check_target

    require_one_form(as_json=as_json, brief=brief)
    if quick and (hash_ is not None or verify is not None):
        raise BadUsage("--quick reads no weight, and hashes are of weights", hint="leave it out")
    if no_layer and hash_ is None and verify is None:
        raise BadUsage("--no-layer is about hashes", hint="give --hash or --verify too")
    paths = models_in(models)
    if recipe_out is not None and len(paths) > 1:
        raise BadUsage("--recipe-out writes the types of one model", hint="name one")
    text = "" if verify is None else read_text(verify, LONGEST_MANIFEST, "a manifest")
    manifest = [] if verify is None else parse_manifest(text, verify)
    algorithm = None if hash_ is None else hash_.value
    if manifest and algorithm and algorithm not in {each.algorithm for each in manifest}:
        raise BadUsage(f"{verify} has no hash of {algorithm}", hint="leave --hash out")
    options = CheckOptions(
        quick=quick,
        algorithm=algorithm,
        layers=not no_layer,
        manifest=manifest,
        belonging=tuple(belonging or ()),
        threads=threads,
    )
    for other in options.belonging:
        open_gguf(other).close()  # an error of this file is none of a model that waits for it
    if recipe_out is not None:
        check_target(recipe_out, overwrite=force, sources=paths)
    checked = [_checked(path, options, alone=len(paths) == 1) for path in paths]
    if recipe_out is not None and checked[0].readable:
        from ggufscope.report.saving import write_text

        write_text(recipe_out, checked[0].type_rules, overwrite=force)
    if as_json:
        from ggufscope.report.as_json import write_json
        from ggufscope.report.check.json import check_json

        write_json(check_json(checked), sys.stdout)
    else:
        from ggufscope.report.check.text import check_views

        print_views(check_views(checked, brief=brief))
        _print_hashes(checked)
    if not all(each.readable for each in checked):
        raise Exit(ExitCode.FAILED)
    if not all(each.clean for each in checked):
        raise Exit(ExitCode.NO)


def _checked(path: Path, options: CheckOptions, *, alone: bool) -> Checked:
    """Check one model, with a bar; of several, one that cannot be had keeps no other waiting."""
    from ggufscope.checking.check import check, unreadable
    from ggufscope.errors import SourceError
    from ggufscope.report.progress import CommandBar

    try:
        with CommandBar(path.name) as bar:
            return check(path, options, bar.phase("checking"))
    except SourceError as error:
        if alone:
            raise
        return unreadable(path, error)


def _print_hashes(checked: Sequence[Checked]) -> None:
    """Print the lines of a manifest, never wrapped: they are read by programs too."""
    from ggufscope.report.units import printable

    lines = [found.line() for each in checked for found in each.hashes]
    sys.stdout.writelines(f"{printable(line)}\n" for line in ["", *lines] if lines)
