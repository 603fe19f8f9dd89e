"""``ggufscope list`` of several models: of a folder, of a repository, of this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from typer import Exit

from ggufscope.cli.options import ExitCode
from ggufscope.cli.output import print_views
from ggufscope.errors import BadUsage, NotAFile, NotInModel, SourceNotFound

if TYPE_CHECKING:
    from ggufscope.container.remote.addresses import HubAddress
    from ggufscope.sizing.here import Here
    from ggufscope.sizing.shelf import Row


def several_in(model: str) -> bool:
    """Return whether a word names more than one model: a folder, or a repository of the Hub."""
    return Path(model).is_dir() if os.path.lexists(model) else _repository(model) is not None


def print_shelf(
    models: list[str],
    order: str | None,
    matches: Callable[[str], object] | None,
    *,
    local: bool,
    as_json: bool,
    markdown: bool,
) -> None:
    """Print a line for each model. Raises ``BadUsage`` where none is named."""
    from ggufscope.sizing.shelf import ORDERS, Shelf, machine_or_none, stored_rows, with_copies

    if bool(models) is local:
        raise BadUsage(
            "--local takes no model" if local else "a model is needed",
            hint="ggufscope list MODEL, or FOLDER, or --local",
        )
    here = machine_or_none()
    found = stored_rows(here) if local else with_copies(_rows(models, here), {})
    rows = [row for row in found if matches is None or matches(row.name)]
    if order is not None:
        rows.sort(key=ORDERS[order])
    shelf = Shelf(tuple(rows), here)
    if as_json:
        from ggufscope.report.as_json import write_json
        from ggufscope.report.list.shelf import shelf_json

        write_json(shelf_json(shelf), sys.stdout)
    elif rows:
        from ggufscope.report.list.shelf import shelf_views

        print_views(shelf_views(shelf), markdown=markdown)
    if not rows:
        if matches is not None:
            raise NotInModel(
                "no model has a name that --filter matches",
                hint="of several models it is about their names; name one for those of its tensors",
            )
        raise SourceNotFound(
            "no tool has a model here" if local else "there is no model",
            hint="`ggufscope list FOLDER` looks there" if local else "name another place",
        )
    if not local and any(row.unread for row in rows):
        raise Exit(ExitCode.FAILED)


def _rows(models: list[str], here: Here | None) -> Iterator[Row]:
    from ggufscope.container.foreign import hint_for_folder
    from ggufscope.sizing.shelf import files_under, repository_rows, row_of

    alone = len(models) == 1
    for model in models:
        path = Path(model)
        if path.is_dir():
            files = files_under(path)
            if not files and alone:
                raise NotAFile(
                    f"{path} is a directory without a GGUF file", hint=hint_for_folder(path)
                )
            for file in files:
                yield row_of(str(file), file, here, str(file.relative_to(path)) if alone else "")
        elif not os.path.lexists(model) and (address := _repository(model)) is not None:
            yield from repository_rows(address, here)
        else:
            yield row_of(model, model, here)


def _repository(model: str) -> HubAddress | None:
    """Return the repository that is named without one of its models; None for anything else."""
    if "/" not in model:
        return None
    from ggufscope.container.places import address_elsewhere
    from ggufscope.container.remote.addresses import HubAddress
    from ggufscope.sizing.overview import named

    address = address_elsewhere(model)
    if not isinstance(address, HubAddress) or address.file or address.tag:
        return None
    return address if isinstance(named(model), Path) else None
