"""Several models at a glance: one row each, whether it fits here among them.

A row comes from a header where there is one to open. Of a repository on the Hub only the smallest
model is opened: the others of its name have the same weights in other types.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Final

from ggufscope.container.file import GGUFFile, open_gguf
from ggufscope.container.likeness import fingerprint
from ggufscope.container.remote import hub
from ggufscope.container.remote.addresses import HubAddress
from ggufscope.container.remote.hub import Listed
from ggufscope.container.shards import first_shards
from ggufscope.container.stores import stored_models
from ggufscope.errors import (
    FormatError,
    GGUFScopeError,
    HyperparameterError,
    NotDerivable,
    SizingError,
)
from ggufscope.model.hparams import HParams
from ggufscope.model.required import packed_vision
from ggufscope.model.summary import summarize
from ggufscope.recipes.fit import recognized
from ggufscope.sizing.budget import run_memory
from ggufscope.sizing.fitting import Fit, fit
from ggufscope.sizing.here import Here, this_machine
from ggufscope.sizing.settings import RunSettings

CONTEXT: Final = 4096
"""Tokens of context that a model is to fit with, or what it was made for if that is less."""


@dataclass(frozen=True, slots=True)
class Row:
    """One model; None where it is not known."""

    name: str
    """What it is named by wherever a model is asked for."""
    nbytes: int
    label: str = ""
    """A shorter name, where all rows are of one folder, repository or tool."""
    files: int = 1
    type: str | None = None
    n_elements: int | None = None
    context_length: int | None = None
    fits: Fit | None = None
    """In the memory of this machine's GPU, or where it has none, of the machine."""
    path: str | None = None
    """Of its file, or of its first shard."""
    note: str = ""
    """What is odd about it."""
    unread: bool = False
    """Whether it could not be opened; ``note`` says why."""
    same_as: str = ""
    """The name of a row before it that has the same content; by ``header``, that may have it."""
    same_by: str = ""
    """How that was seen. ``inode`` proves it. ``header``: header, size and a few stretches of the
    weights are alike, the rest was not compared. ``sha256``: so they are, and both files are named
    by the same SHA-256, which was not computed here."""
    tensor_nbytes: int | None = None
    """Bytes of its tensors, without the header."""

    @property
    def bits_per_weight(self) -> float | None:
        """Bits of storage for each weight; of the file, where its tensors are not known."""
        nbytes = self.nbytes if self.tensor_nbytes is None else self.tensor_nbytes
        return 8 * nbytes / self.n_elements if self.n_elements else None


@dataclass(frozen=True, slots=True)
class Shelf:
    """Several models, and the memory that they were held against."""

    rows: tuple[Row, ...]
    here: Here | None = None

    @property
    def limit(self) -> int | None:
        """Bytes in which a model fits here."""
        return _limit(self.here)

    @property
    def nbytes(self) -> int:
        """Bytes that they take; one file under two names counts once."""
        return sum(row.nbytes for row in self.rows if row.same_by != "inode")

    @property
    def nbytes_twice(self) -> int:
        """Bytes of those that are named by the SHA-256 of one before, in another file."""
        return sum(row.nbytes for row in self.rows if row.same_by == "sha256")


ORDERS: Final[dict[str, Callable[[Row], Any]]] = {
    "name": lambda row: row.name.casefold(),
    "size": lambda row: -row.nbytes,
    "type": lambda row: (row.type or "~", row.name.casefold()),
    "bits": lambda row: -(row.bits_per_weight or 0),
}
"""What rows can be sorted by; otherwise they are in the order in which they were found."""


def machine_or_none() -> Here | None:
    """Return what this machine has free; None where it cannot be told."""
    try:
        return this_machine()
    except SizingError:
        return None


def files_under(folder: Path) -> list[Path]:
    """Return the GGUF files in a folder and the folders in it, the first shard for all of a model.

    Hidden folders, and folders that a link leads to, are left out.
    """
    found = []
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(where, name) for name in names if name.lower().endswith(".gguf")]
    return first_shards(found)


def row_of(name: str, model: Path | str, here: Here | None, label: str = "") -> Row:
    """Return the row of a model; one that cannot be opened has the reason as its note."""
    try:
        with open_gguf(model) as file:
            return replace(row_of_file(name, file, here), label=label)
    except GGUFScopeError as error:
        path = Path(model)
        size = path.stat().st_size if path.is_file() else 0
        note = error.message.removeprefix(f"{model}: ")
        return Row(name, size, label, path=str(model), note=note, unread=True)


def row_of_file(name: str, file: GGUFFile, here: Here | None) -> Row:
    """Return the row of an open model."""
    summary = summarize(file)
    hparams = summary.hparams
    vision = packed_vision(file)
    return Row(
        name,
        file.nbytes,
        files=len(file.shards),
        type=summary.file_type or recognized(list(file.tensors.values()), file.metadata),
        n_elements=summary.n_elements,
        context_length=hparams.context_length if hparams else None,
        fits=_fits(hparams, file.nbytes, here),
        path=file.shards[0].source.name,
        note=vision,
        tensor_nbytes=summary.tensor_bytes,
    )


def stored_rows(here: Here | None) -> list[Row]:
    """Return what other tools have on this machine."""
    stored = stored_models()
    rows = [row_of(model.name, model.path, here) for model in stored]
    return with_copies(rows, {model.name: model.sha256 for model in stored if model.sha256})


def with_copies(rows: Iterable[Row], hashes: Mapping[str, str]) -> list[Row]:
    """Return the rows, each that has the content of one before it marked as the same.

    One file under two names has one inode. ``hashes`` are what stores name files by, which keeps
    nobody from changing them: like all others they are held together by size, header and a few
    stretches of the weights.
    """

    @cache
    def inode(path: str) -> tuple[int, int] | None:
        try:
            status = Path(path).stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    print_of = cache(fingerprint)

    def same(a: Row, b: Row) -> str:
        if a.path is None or b.path is None or inode(a.path) is None or inode(b.path) is None:
            return ""
        if inode(a.path) == inode(b.path):
            return "inode"
        named = a.name in hashes and b.name in hashes
        if named and hashes[a.name] != hashes[b.name]:
            return ""
        alike = a.n_elements is not None and (a.nbytes, a.n_elements) == (b.nbytes, b.n_elements)
        if not (alike and print_of(a.path) == print_of(b.path)):
            return ""
        return "sha256" if named else "header"

    found: list[Row] = []
    for row in rows:
        firsts = ((first, same(row, first)) for first in found if not first.same_as)
        first, how = next(((first, how) for first, how in firsts if how), (row, ""))
        found.append(replace(row, same_as=first.name, same_by=how) if how else row)
    return found


def repository_rows(address: HubAddress, here: Here | None) -> list[Row]:
    """Return the models of a repository on the Hub.

    Raises what ``hub.models_of`` raises, and what opening the smallest raises.
    """
    models, revision = hub.models_of(address)
    if not models:
        hub.chosen_model(models, address)  # which says so
    by_stem: dict[str, list[Listed]] = {}
    for model in models:
        by_stem.setdefault(model.stem, []).append(model)
    known = {
        stem: _smallest(address, revision, alike)
        for stem, alike in by_stem.items()
        if not alike[0].is_projector
    }
    return list(_listed_rows(address, models, known, here))


def _smallest(
    address: HubAddress, revision: str, models: Sequence[Listed]
) -> tuple[int | None, HParams | None]:
    """Open the smallest of several that is whole; return its number of weights, and its shape."""
    whole = [model for model in models if not model.missing]
    if not whole:
        return None, None
    smallest = min(whole, key=lambda model: model.nbytes)
    pinned = replace(address, revision=revision, file=smallest.name, tag="", folder="")
    try:
        with open_gguf(str(pinned)) as file:
            summary = summarize(file)
            return summary.n_elements, summary.hparams
    except FormatError:  # the list is worth showing all the same
        return None, None


def _listed_rows(
    address: HubAddress,
    models: Iterable[Listed],
    known: dict[str, tuple[int | None, HParams | None]],
    here: Here | None,
) -> Iterator[Row]:
    types = [model.type for model in models if not model.is_projector]
    for model in models:
        n_elements, hparams = known.get(model.stem, (None, None))
        tagged = model.type and types.count(model.type) == 1 and not model.is_projector
        name = (
            str(replace(address, tag=model.type, folder="")).removeprefix("hf:")
            if tagged
            else str(replace(address, file=model.name, folder=""))
        )
        yield Row(
            name,
            model.nbytes,
            PurePosixPath(model.name).name,
            len(model.files),
            model.type or None,
            n_elements,
            hparams.context_length if hparams else None,
            _fits(hparams, model.nbytes, here),
            model.name,
            f"{model.missing} of its shards are missing" if model.missing else "",
        )


def _limit(here: Here | None) -> int | None:
    if here is None:
        return None
    return here.gpu.free if here.gpu else here.free


def _fits(hparams: HParams | None, nbytes: int, here: Here | None) -> Fit | None:
    limit = _limit(here)
    if hparams is None or limit is None:
        return None
    context = min(CONTEXT, hparams.context_length or CONTEXT)
    try:
        need = run_memory(hparams, RunSettings(context)).with_weights(nbytes)
    except (HyperparameterError, NotDerivable):
        return None
    return fit(need, limit)
