"""The models that paths lead to: files, and folders with all that is in them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ggufscope.container.header import MAGIC
from ggufscope.container.places import names_another_place
from ggufscope.container.shards import first_shards
from ggufscope.container.stores import DIGEST
from ggufscope.errors import NotAFile, SourceNotFound


def models_in(paths: Sequence[Path]) -> list[Path]:
    """Return the models that paths name: files as they are, and all that lie below folders.

    A name of a model elsewhere, or in another tool's store, is left as it is. Of a split model the
    first shard that is there stands for it. Of several paths, one that leads
    to none is returned as it is: it keeps no other waiting. Raises ``SourceNotFound``, what
    ``stores.path_of`` raises, and ``NotAFile`` for a folder without a model.
    """
    found: dict[Path, None] = {}
    alone = len(paths) == 1
    for path in paths:
        if alone and not (os.path.lexists(path) or names_another_place(path)):
            raise SourceNotFound(f"{path}: no such file", hint="check the path")
        inside = [*_below(path)] if path.is_dir() else [path]
        if not inside and not alone:
            inside = [path]
        if not inside:
            raise NotAFile(
                f"{path} is a directory, and no GGUF file is in it or below it",
                hint="name a .gguf file, or a folder of them",
            )
        found |= dict.fromkeys(inside)
    return [*found]


def _below(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        yield from first_shards(filter(_is_model, (Path(parent, name) for name in names)))


def _is_model(path: Path) -> bool:
    """Return whether a file is named as GGUF, or is one of Ollama's that begins as GGUF does."""
    if path.name.endswith(".gguf"):
        return True
    if not DIGEST.fullmatch(path.name):
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False
