"""What is done of a run, so that another can go on where it was ended.

The ledger of a target (see container/ledger.py) has a line for each job: the tensor, the first of
its rows, and what they lost. Each target has its own, so any of them can be gone on with, together
with others or alone.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from ggufscope.blocks.error import NO_ERROR, WeightError
from ggufscope.container.file import GGUFFile
from ggufscope.container.ledger import Facts, is_finished, pieces_of
from ggufscope.container.leftovers import remove_leftovers
from ggufscope.container.target import check_target
from ggufscope.errors import TargetBusy
from ggufscope.recipes.files import TargetFile
from ggufscope.recipes.importance import ImportanceMatrix
from ggufscope.recipes.request import Prepared
from ggufscope.version import __version__

EVERY: Final = 5.0
"""Seconds from one time that all is put on the disk to the next: the work that a kill costs."""
_SHARE: Final = 9
"""How many times as long as that takes there is work before it is done again."""


def facts_of(prepared: Prepared, buffer_bytes: int) -> dict[Path, Facts]:
    """Return, for each file, what decides its bytes and how its jobs are cut.

    Of the source: its headers, sizes and times. Its path may be another one, and the machine.
    """
    of_all = {
        "source, or that was changed": _digest(_of_source(prepared.source)),
        "importance matrix": _digest(_of_matrix(prepared.imatrix)),
        "--max-buffer-size": str(buffer_bytes),
        "version of ggufscope": __version__,
    }
    return {
        file.path: {"choice of types, metadata or options": _digest(_of_target(file)), **of_all}
        for file in prepared.files
    }


def _digest(parts: Iterable[object]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else repr(part).encode("utf-8", "surrogateescape")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def _of_source(source: GGUFFile) -> Iterator[object]:
    for shard in source.shards:
        yield shard.source.identity.elsewhere()
        yield bytes(shard.source.read(0, shard.header.data_offset))


def _of_matrix(matrix: ImportanceMatrix | None) -> Iterator[object]:
    for name, entry in sorted(matrix.entries.items()) if matrix else ():
        yield name
        yield entry.sums.tobytes()
        yield entry.counts.tobytes()


def _of_target(file: TargetFile) -> Iterator[object]:
    for key, value in file.metadata.items():
        yield from (key, value.type, value.encode("<"))
    for tensor in file.tensors:
        yield tensor.name, tensor.source_name, tensor.shape, tensor.source.name, tensor.target.name


def finished(prepared: Prepared, facts: Mapping[Path, Facts]) -> list[Path]:
    """Return the files that have their names already, from a run that was ended before its end."""
    return [
        file.path
        for file in prepared.files
        if file.path.exists()
        and is_finished(check_target(file.path, overwrite=True), facts[file.path], file.nbytes)
    ]


def forget(paths: Iterable[Path]) -> None:
    """Remove the ledgers of files that have their names."""
    for path in paths:
        with suppress(TargetBusy):  # by another run, which has removed it
            remove_leftovers(check_target(path, overwrite=True))


class Books:
    """What each tensor of each target lost, and which of its rows an earlier run has written.

    A tensor is known by its file and its name there, rows by the first of a job.
    """

    def __init__(self, secure: Callable[[], object] | None) -> None:
        """Begin with nothing done; ``secure`` puts on the disk what is, None keeps nothing."""
        self.costs: dict[tuple[Path, str], WeightError] = {}
        self._rows: dict[tuple[Path, str], set[int]] = {}
        self._secure = secure
        self._next = time.monotonic() + EVERY

    def read(self, path: Path) -> None:
        """Take over what the ledger of a target says."""
        for piece in pieces_of(check_target(path, overwrite=True)):
            try:
                name, first, squared_error, squared_weights, largest, n = piece
                cost = WeightError(
                    float(squared_error), float(squared_weights), float(largest), int(n)
                )
                rows = self._rows.setdefault((path, name), set())
                if first not in rows:
                    rows.add(first)
                    self.add(path, name, cost)
            except (TypeError, ValueError, OverflowError):  # no line of ours
                continue

    def has(self, path: Path, name: str, first: int) -> bool:
        """Whether an earlier run wrote the rows of a job."""
        return first in self._rows.get((path, name), ())

    def add(self, path: Path, name: str, cost: WeightError) -> None:
        """Count what rows of a tensor lost."""
        self.costs[path, name] = self.costs.get((path, name), NO_ERROR) + cost

    def save(self) -> None:
        """Put what is done on the disk, if it is time to."""
        begin = time.monotonic()
        if self._secure is not None and begin >= self._next:
            self._secure()
            end = time.monotonic()
            self._next = end + max(EVERY, _SHARE * (end - begin))
