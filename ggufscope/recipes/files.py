"""The files that a plan becomes: one, or the shards of a split, each with its metadata."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ggufscope.container.file import GGUFFile
from ggufscope.container.header import DEFAULT_ALIGNMENT
from ggufscope.container.leftovers import bytes_taken
from ggufscope.container.lengths import file_nbytes
from ggufscope.container.shards import shard_name, stem_of_model
from ggufscope.container.target import check_target, nearest_folder
from ggufscope.container.tensor_info import padded
from ggufscope.container.values import Value
from ggufscope.errors import NoRoom, TargetTwice
from ggufscope.recipes.metadata import split_keys
from ggufscope.recipes.mixes import ALIASES, MIXES
from ggufscope.recipes.plan import Plan, PlannedTensor


@dataclass(frozen=True, slots=True)
class TargetFile:
    """One file to be written."""

    path: Path
    metadata: Mapping[str, Value]
    tensors: tuple[PlannedTensor, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the file."""
        named = [(tensor.name, len(written_shape(tensor.shape))) for tensor in self.tensors]
        return file_nbytes(self.metadata, named, (tensor.nbytes for tensor in self.tensors))


def default_target(source: Path, preset: str, directory: Path | None = None) -> Path:
    """Return a target beside the source, or in ``directory``: its name with the preset in it.

    A type at the end of the source's name gives way: ``model-f16.gguf`` -> ``model-Q4_K_M.gguf``.
    """
    stem = stem_of_model(source.name)
    base, dash, last = stem.rpartition("-")
    if dash and last.upper() in {*MIXES, *ALIASES}:
        stem = base
    return (directory or source.parent) / f"{stem}-{preset}.gguf"


def written_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without its leading extents of 1: ggml does not count those as dimensions.

    A row stays a row. llama-quantize drops leading zeros as well, and then cannot read its file
    again; here they stay.
    """
    kept = shape or (1,)
    while len(kept) > 1 and kept[0] == 1:
        kept = kept[1:]
    return kept


def target_files(
    source: GGUFFile,
    plan: Plan,
    target: Path,
    metadata: Mapping[str, Value],
    split_max_size: int | None = None,
) -> list[TargetFile]:
    """Lay a plan out in files, the first of which has the metadata.

    One file, ``target``; with the option keep_split the source's shards; with ``split_max_size``
    shards of no more than so many bytes of tensor data (a tensor larger than that has one to
    itself). Shards are named after ``target``: ``NAME-00001-of-00003.gguf``, which may be a
    target's name, too.
    """
    groups = _groups(source, plan, split_max_size)
    if len(groups) == 1:
        return [TargetFile(target, metadata, groups[0])]
    files = []
    for number, group in enumerate(groups):
        keys = split_keys(number, len(groups), len(plan.tensors))
        path = target.with_name(shard_name(target.name, number, len(groups)))
        files.append(TargetFile(path, {**metadata, **keys} if number == 0 else keys, group))
    return files


def _groups(
    source: GGUFFile, plan: Plan, split_max_size: int | None
) -> list[tuple[PlannedTensor, ...]]:
    if split_max_size is not None:
        return _groups_by_size(plan.tensors, split_max_size)
    if not plan.options.keep_split:
        return [plan.tensors]
    shards: list[list[PlannedTensor]] = [[] for _ in source.shards]
    numbers = {id(shard): number for number, shard in enumerate(source.shards)}
    for tensor in plan.tensors:
        shards[numbers[id(source.tensors[tensor.source_name].shard)]].append(tensor)
    return [tuple(tensors) for tensors in shards]


def _groups_by_size(
    tensors: Iterable[PlannedTensor], limit: int
) -> list[tuple[PlannedTensor, ...]]:
    groups: list[list[PlannedTensor]] = [[]]
    size = 0
    for tensor in tensors:
        # Whatever the file's alignment is: llama-quantize copies one that says otherwise, and
        # cannot read what it wrote; here data lies where the file says.
        own = padded(tensor.nbytes, DEFAULT_ALIGNMENT)
        if groups[-1] and size + own > limit:
            groups.append([])
            size = 0
        groups[-1].append(tensor)
        size += own
    return [tuple(group) for group in groups]


def check_targets(
    source: GGUFFile, files: Iterable[TargetFile], also: Iterable[Path] = (), *, overwrite: bool
) -> None:
    """Refuse files that would destroy something, or that do not fit; ``also``: what else is read.

    Raises what ``check_target`` raises, ``TargetTwice`` or ``NoRoom``.
    """
    sources = [*(shard.source.path for shard in source.shards), *also]
    seen: set[Path] = set()
    needed: dict[Path, int] = {}
    for file in files:
        real = check_target(file.path, overwrite=overwrite, sources=sources)
        if real in seen:
            raise TargetTwice(f"{file.path} would be written twice", hint="name different targets")
        seen.add(real)
        # What an ended run left is gone on with, or removed first.
        more = max(0, file.nbytes - bytes_taken(real))
        needed[real.parent] = needed.get(real.parent, 0) + more
    for directory, nbytes in needed.items():
        require_room(directory, nbytes, "free some room, or write elsewhere")


def require_room(directory: Path, nbytes: int, hint: str) -> None:
    """Raise ``NoRoom`` where a directory is known to have fewer bytes free."""
    free = free_bytes(directory)
    if free is not None and nbytes > free:
        raise NoRoom(f"{directory} has {free:,} bytes free, and {nbytes:,} are needed", hint=hint)


def free_bytes(directory: Path) -> int | None:
    """Return the bytes that are free in a directory, there or to be made; None where unknown."""
    try:
        return shutil.disk_usage(nearest_folder(directory)).free
    except OSError:
        return None
