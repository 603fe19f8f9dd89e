"""One model over many files.

A large model is split into ``NAME-00001-of-00003.gguf`` and so on. Each shard is a GGUF file with
tensors of its own; the metadata of the model is in the first one, which may hold no tensor at all.
``split.no`` counts from 0, the number in the file name from 1. Any shard leads to all of them.

Follows ``llama_split_path`` and the loader in llama.cpp's ``src/llama.cpp``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from ggufscope.container.header import Header, Metadata
from ggufscope.errors import ShardMismatch, ShardMissing

NUMBER_KEY: Final = "split.no"
COUNT_KEY: Final = "split.count"
TENSORS_KEY: Final = "split.tensors.count"

_NAME: Final = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


def shard_count(metadata: Metadata) -> int:
    """Return the number of files this model is split over; 1 for a model in one file."""
    count = metadata.get(COUNT_KEY, 1)
    return count if isinstance(count, int) and count > 1 else 1


def stem_of_model(name: str) -> str:
    """Return the name of a model file without ``.gguf`` and without the number of a shard."""
    match = _NAME.fullmatch(name)
    return match["stem"] if match else name.removesuffix(".gguf")


def shard_name(name: str, number: int, count: int) -> str:
    """Return the name of shard ``number`` (from 0) of ``count`` of a model file called ``name``.

    The name of any shard will do: it gets no second number.
    """
    return _numbered(stem_of_model(name), number, count)


def _numbered(stem: str, number: int, count: int) -> str:
    return f"{stem}-{number + 1:05}-of-{count:05}.gguf"


def shard_of(name: str) -> tuple[str, int, int] | None:
    """Return the stem, the number (from 0) and the count that a shard's name has, or None."""
    match = _NAME.fullmatch(name)
    return (match["stem"], int(match["number"]) - 1, int(match["count"])) if match else None


def first_shards(paths: Iterable[Path]) -> list[Path]:
    """Return the paths in order, of the shards of one model the first alone."""
    first: dict[str, Path] = {}
    for path in sorted(paths):
        shard = shard_of(str(path))
        first.setdefault(f"{shard[0]}/{shard[2]}" if shard else str(path), path)
    return list(first.values())


def sibling_names(path: Path, count: int) -> list[str]:
    """Return the names of all ``count`` shards, in order, from the path of any of them.

    Raises ``ShardMismatch`` where ``path`` is not named as a shard.
    """
    shard = shard_of(path.name)
    if shard is None or shard[2] != count:
        raise ShardMismatch(
            f"{path} says that it is one of {count} shards, and is not named so",
            hint=f"give the shards their names back: NAME-00001-of-{count:05}.gguf and so on",
        )
    return [_numbered(shard[0], number, count) for number in range(count)]


def sibling_paths(path: Path, count: int) -> list[Path]:
    """Return the paths of all ``count`` shards, in order, from the path of any of them.

    Raises ``ShardMismatch`` where ``path`` is not named as a shard, ``ShardMissing`` where a
    sibling is not there.
    """
    paths = [path.with_name(name) for name in sibling_names(path, count)]
    missing = [sibling.name for sibling in paths if not sibling.exists()]
    if missing:
        several = f" and {len(missing) - 1} more of the {count} shards of this model are"
        one = f" of the {count} shards of this model is"
        raise ShardMissing(
            f"{missing[0]}{several if len(missing) > 1 else one} not in {path.parent}",
            hint="download the missing files into the same directory",
        )
    return paths


def check_shards(paths: Sequence[Path], headers: Sequence[Header]) -> None:
    """Raise ``ShardMismatch`` where the shards are not the parts of one model, each once."""
    count = len(paths)
    seen: dict[str, Path] = {}
    for index, (path, header) in enumerate(zip(paths, headers, strict=True)):
        number, of = header.metadata.get(NUMBER_KEY), header.metadata.get(COUNT_KEY)
        if (number, of) != (index, count):
            raise ShardMismatch(
                f"{path} is named as shard {index + 1} of {count}, and says in '{NUMBER_KEY}' and "
                f"'{COUNT_KEY}' that it is number {number!r} of {of!r}, counted from 0",
                hint="a shard was copied or renamed over another: download it again",
            )
        for tensor in header.tensors:
            if tensor.name in seen:
                raise ShardMismatch(
                    f"tensor {tensor.name!r} is in {seen[tensor.name]} and again in {path}",
                    hint="the shards are not of one split: download them again",
                )
            seen[tensor.name] = path
    promised = headers[0].metadata.get(TENSORS_KEY)
    if isinstance(promised, int) and promised != len(seen):
        raise ShardMismatch(
            f"the {count} shards hold {len(seen)} tensors, and '{TENSORS_KEY}' says {promised}",
            hint="the shards are not of one split: download them again",
        )
