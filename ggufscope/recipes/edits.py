"""Other metadata for a model: what is asked for, held to the types and the vocabulary it has.

::

    prepared = prepare_edit("model.gguf", Edits(set={"general.name": "Tales"}))
    print(prepared.differences, prepared.in_place)
    run_edit(prepared)

Nothing of a model is decoded here, and no tensor is touched: what it cannot be loaded with is
refused, and its data is left where it is, or copied byte by byte (see container/rewriting.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ggufscope.container.file import GGUFFile, open_gguf
from ggufscope.container.header import Metadata
from ggufscope.container.journal import settle
from ggufscope.container.rewriting import Rewrite, write_anew, write_over
from ggufscope.container.shards import shard_name
from ggufscope.container.stores import is_blob
from ggufscope.container.target import check_target, refusals
from ggufscope.container.values import Value
from ggufscope.errors import BadEdit, TargetIsSource, naming
from ggufscope.recipes.changes import Edits, changed, kept_keys, require_possible, require_sound
from ggufscope.recipes.files import require_room


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that is not as it was."""

    key: str
    before: Value | None
    after: Value | None
    was: str
    """The key that it was before, where it got another name; else the same."""


@dataclass(frozen=True, slots=True)
class PreparedEdit:
    """An edit, decided: what will be different, and which files are written."""

    source: GGUFFile
    after: Metadata
    """What the model says afterwards."""
    differences: tuple[Difference, ...]
    rewrites: tuple[tuple[Rewrite, Path], ...]
    """Each file that is written, and where to; none where nothing would be different."""
    is_copy: bool
    """Whether the model itself stays as it is."""
    overwrite: bool
    warnings: tuple[str, ...] = ()
    """What changing the model where it lies does beyond it."""

    @property
    def in_place(self) -> bool:
        """Whether the model is changed where it lies, and no data is copied."""
        return not self.is_copy and all(rewrite.change for rewrite, _ in self.rewrites)

    @property
    def written_nbytes(self) -> int:
        """Bytes that are written, or shared by the file system."""
        return sum(
            len(rewrite.change.new) if rewrite.change and not self.is_copy else rewrite.nbytes
            for rewrite, _ in self.rewrites
        )


def edit_model(
    model: str | os.PathLike[str],
    edits: Edits,
    copy: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    unsound: bool = False,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> PreparedEdit:
    """Change the metadata of a model, or with ``copy`` of a copy of it; return what was done.

    First what a killed run left half done in the model is finished. Raises what ``prepare_edit``
    and ``run_edit`` raise.
    """
    if copy is None:
        finish_edit(model)
    prepared = prepare_edit(model, edits, copy, overwrite=overwrite, unsound=unsound)
    run_edit(prepared, progress)
    return prepared


def finish_edit(model: str | os.PathLike[str]) -> bool:
    """Finish the change that a killed run began in a file; return whether there was one."""
    path = Path(model)
    with refusals(path):
        return settle(path)


def prepare_edit(
    model: str | os.PathLike[str] | GGUFFile,
    edits: Edits,
    copy: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    unsound: bool = False,
) -> PreparedEdit:
    """Work out what will be different, and check all of it; nothing is written.

    ``overwrite``: a copy that is there, or a model that has other names (hard links) or is
    kept under the SHA-256 of its content; ``warnings`` says what that does.
    ``unsound``: a model that llama.cpp would not load, too. Raises what ``open_gguf`` raises,
    ``BadEdit`` and ``UnencodableValue`` for a change that cannot be, and a ``WriteError``.
    """
    file = model if isinstance(model, GGUFFile) else open_gguf(model)
    with naming(file.path):
        written = changed(file.metadata, edits)
        after = Metadata(written)
        require_possible(file, after, edits)
        if not unsound:
            require_sound(file, after, edits)
        differences = _differences(file.metadata, written, kept_keys(file.metadata, edits))
        targets = _targets(file, copy)
        rewrites: list[tuple[Rewrite, Path]] = []
        if differences or copy is not None:
            for number, (shard, target) in enumerate(zip(file.shards, targets, strict=False)):
                typed = written if number == 0 else shard.header.metadata.typed
                rewrites.append((Rewrite.of(shard, typed), target))
        prepared = PreparedEdit(
            file, after, tuple(differences), tuple(rewrites), copy is not None, overwrite
        )
        _check(prepared)
        return replace(prepared, warnings=tuple(words for words, _ in _beyond(prepared)))


def run_edit(
    prepared: PreparedEdit,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> None:
    """Write what was prepared; ``progress`` is told bytes copied, and of how many.

    The model, or the copy, is the old or the whole new one at any moment, whatever ends this.
    Raises ``SourceChanged``, ``TargetBusy`` and other ``WriteError``.
    """
    total = sum(rewrite.nbytes - len(rewrite.header) for rewrite, _ in prepared.rewrites)
    done = 0

    def copied(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        progress(done, total)

    with naming(prepared.source.path), ExitStack() as stack:
        if not prepared.is_copy:
            for rewrite, _ in prepared.rewrites:
                write_over(rewrite, copied)
            return
        under_way = []
        for rewrite, target in prepared.rewrites:
            partial = write_anew(rewrite, target, overwrite=prepared.overwrite, copied=copied)
            stack.callback(partial.discard)
            under_way.append(partial)
        for partial in under_way:
            partial.commit()


def _differences(
    before: Metadata, after: Mapping[str, Value], kept: Mapping[str, str]
) -> list[Difference]:
    found = []
    for key, value in after.items():
        was = kept.get(key, key)
        old = before.typed.get(was)
        if was != key or old is None or not _same(old, value):
            found.append(Difference(key, old, value, was))
    stayed = {*kept.values(), *(key for key in after if kept.get(key, key) == key)}
    found += [
        Difference(key, value, None, key)
        for key, value in before.typed.items()
        if key not in stayed
    ]
    return found


def _same(one: Value, other: Value) -> bool:
    return one is other or (one.type, one.encode("<")) == (other.type, other.encode("<"))


def _targets(file: GGUFFile, copy: str | os.PathLike[str] | None) -> list[Path]:
    """Return where files go: the first shard has all the metadata, and only a copy has others."""
    if copy is None:
        return [file.path]
    count = len(file.shards)
    path = Path(copy)
    if count == 1:
        return [path]
    return [path.with_name(shard_name(path.name, number, count)) for number in range(count)]


def _beyond(prepared: PreparedEdit) -> Iterator[tuple[str, str]]:
    """Yield what changing a model where it lies does beyond it, and what insisting on that is."""
    if prepared.is_copy or not prepared.rewrites:
        return
    path = prepared.source.path
    with refusals(path):
        names, blob = path.stat().st_nlink, is_blob(path)
    if blob:
        yield f"{path} is kept under the SHA-256 of its content, which this changes", "change it"
    if names > 1:
        one = f"{path} is one file under {names} names"
        if prepared.in_place:
            yield f"{one}, and all of them change", "change all"
        else:
            yield f"{one}, and the others keep the old file", "part it from them"


def _check(prepared: PreparedEdit) -> None:
    sources = [shard.source.path for shard in prepared.source.shards]
    if not prepared.is_copy:
        for words, insisting in () if prepared.overwrite else _beyond(prepared):
            raise BadEdit(words, hint=f"name a COPY, or {insisting} with --force")
    for _, target in prepared.rewrites:
        if prepared.is_copy:
            with suppress(OSError):  # which the check below tells
                if target.samefile(prepared.source.path):
                    raise TargetIsSource(
                        f"COPY is MODEL itself, {target}",
                        hint="leave COPY out to change it in place, or name another file",
                    )
            check_target(target, overwrite=prepared.overwrite, sources=sources)
    if prepared.rewrites and not prepared.in_place:
        folder = prepared.rewrites[0][1].resolve().parent
        require_room(folder, prepared.written_nbytes, "free some room, or name a COPY elsewhere")
