"""The models that paths lead to: files, and folders with all that is in them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ggufscope.container.header import MAGIC
from ggufscope.container.places import names_another_place
from ggufscope.container.shards import stem_of_model
from ggufscope.errors import NotAFile, SourceNotFound

_BLOB: Final = re.compile(r"sha256[-:][0-9a-f]{64}")
"""What Ollama calls the files that it downloads."""


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
        split: set[str] = set()
        for name in sorted(names):
            path = Path(parent, name)
            stem = stem_of_model(name)
            if _BLOB.fullmatch(name):
                if _is_gguf(path):
                    yield path
            elif name.endswith(".gguf") and stem not in split:
                if stem != name.removesuffix(".gguf"):
                    split.add(stem)
                yield path


def _is_gguf(path: Path) -> bool:
    """Return whether a file begins as GGUF does: most of Ollama's blobs are small texts."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False
