"""Every block of every tensor: numbers that are none, and stretches of zeros where weights belong.

The file is read once, a slab at a time, in threads. What hashes are asked for go over the same
bytes. Follows ``ggml_validate_row_data``; what llama.cpp looks at with ``--check-tensors``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final, Protocol

import numpy as np

from ggufscope.arrays import Array
from ggufscope.blocks.layouts import Layout
from ggufscope.blocks.validity import Bad, bad_blocks
from ggufscope.checking.findings import Finding, error, note, warning
from ggufscope.checking.upstream import said
from ggufscope.container.file import GGUFFile, Tensor
from ggufscope.container.source import read_into
from ggufscope.container.unfinished import zero_tails
from ggufscope.machine import processors
from ggufscope.threads import side_by_side

SLAB: Final = 1 << 22
"""Bytes that are read at a time, about."""
_THREADS: Final = 4
"""More would wait for the disk, and hold more slabs."""
PAGE: Final = 4096
LEAST_ZEROS: Final = 4 * PAGE
"""Bytes of zeros, one after the other, that are worth a word: no trained weights have as many."""
_NEAR: Final = 8
"""Bytes beside a hole that may be zero by chance."""

Progress = Callable[[int, int, str], None]
"""Told the bytes that are done, those there are, and the tensor."""


class Sink(Protocol):
    """What takes all bytes of the tensors, in order, a part at a time."""

    def take(self, tensor: Tensor, start: int, data: memoryview) -> None:
        """Take the bytes of a tensor from ``start`` on."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Whole blocks of one tensor."""

    tensor: Tensor
    start: int
    """Bytes from the beginning of the tensor."""
    nbytes: int

    @property
    def place(self) -> int:
        """Where it is in its file."""
        return self.tensor.offset + self.start


@dataclass(frozen=True, slots=True)
class _Looked:
    """A part, its bytes, and what is wrong with them."""

    part: _Part
    data: memoryview
    bad: list[Bad]
    zeros: list[tuple[int, int]]


@dataclass(slots=True)
class _Seen:
    """What was seen of one tensor so far."""

    tensor: Tensor
    bad: dict[str, Bad] = field(default_factory=dict)
    """By field; blocks are counted from the beginning of the tensor."""
    zeros: list[tuple[int, int]] = field(default_factory=list)
    """Stretches of zeros, in bytes of the tensor, those that touch joined."""

    def add(self, looked: _Looked) -> None:
        before = looked.part.start // block_bytes(self.tensor)
        for each in looked.bad:
            known = self.bad.get(each.field)
            moved = each._replace(first=each.first + before)
            self.bad[each.field] = (
                known._replace(blocks=known.blocks + each.blocks) if known else moved
            )
        for start, stop in looked.zeros:
            start, stop = start + looked.part.start, stop + looked.part.start
            if self.zeros and self.zeros[-1][1] == start:
                start = self.zeros.pop()[0]
            self.zeros.append((start, stop))


def payload_findings(
    file: GGUFFile,
    sinks: Sequence[Sink] = (),
    threads: int | None = None,
    progress: Progress = lambda *_: None,
) -> list[Finding]:
    """Read all weights; return what is wrong with them. ``sinks`` get every byte, in order.

    Raises ``SourceChanged`` or ``SourceUnreadable``.
    """
    found: list[Finding] = []
    never_came: set[str] = set()
    for shard, tail in zero_tails(file):
        never_came |= {tensor.name for tensor in tail}
        found.append(
            error(
                "weights",
                f"{shard.source.path.name}: every tensor from {tail[0].name!r} on is zero, "
                f"{len(tail)} of {len(shard.header.tensors)}",
                "room was made for the whole file, and the end of it never came",
                "download it again, or let the download go on to its end",
                tensor=tail[0].name,
            )
        )
    for seen in _looked_through(file, sinks, threads, progress):
        found += _bad_findings(seen)
        if seen.tensor.name not in never_came:
            found += _zero_findings(seen)
    return found


def block_bytes(tensor: Tensor) -> int:
    """Return the bytes of a block; of a foreign type, whose blocks are not known, 1."""
    return tensor.type.block_bytes if isinstance(tensor.type, Layout) else 1


def _slabs(tensors: Iterable[Tensor]) -> Iterator[list[_Part]]:
    """Yield what is read at once: parts of one file, small tensors together."""
    slab: list[_Part] = []
    for tensor in tensors:
        size = block_bytes(tensor)
        step = max(1, SLAB // size) * size
        for start in range(0, tensor.nbytes, step):
            part = _Part(tensor, start, min(step, tensor.nbytes - start))
            if slab and (
                slab[0].tensor.shard is not tensor.shard
                or part.place + part.nbytes - slab[0].place > SLAB
            ):
                yield slab
                slab = []
            slab.append(part)
    if slab:
        yield slab


def _looked_through(
    file: GGUFFile, sinks: Sequence[Sink], threads: int | None, progress: Progress
) -> Iterator[_Seen]:
    """Yield what was seen of each tensor, in file order."""
    free: SimpleQueue[bytearray] = SimpleQueue()  # a buffer is used again and again
    tensors = list(file.tensors.values())
    total, done = sum(tensor.nbytes for tensor in tensors), 0
    seen: _Seen | None = None
    look = partial(_look, free)
    for buffer, parts in side_by_side(
        look, _slabs(tensors), threads or min(processors(), _THREADS)
    ):
        _hand_on(sinks, parts)
        for looked in parts:
            if seen is None or seen.tensor is not looked.part.tensor:
                if seen is not None:
                    yield seen
                seen = _Seen(looked.part.tensor)
            seen.add(looked)
            done += looked.part.nbytes
        free.put(buffer)
        progress(done, total, parts[-1].part.tensor.name)
    if seen is not None:
        yield seen


def _hand_on(sinks: Sequence[Sink], parts: Sequence[_Looked]) -> None:
    """Let each sink take the bytes, side by side: hashing lets go of the interpreter."""

    def hand(sink: Sink) -> None:
        for looked in parts:
            sink.take(looked.part.tensor, looked.part.start, looked.data)

    for _ in side_by_side(hand, sinks, min(len(sinks), processors())):
        pass


def _look(free: SimpleQueue[bytearray], parts: list[_Part]) -> tuple[bytearray, list[_Looked]]:
    """Read what is to be read at once, and look at each part of it."""
    begin, last = parts[0].place, parts[-1]
    nbytes = last.place + last.nbytes - begin
    try:
        buffer = free.get_nowait()
    except Empty:
        buffer = bytearray(SLAB)
    data = memoryview(buffer)[:nbytes]
    source = last.tensor.shard.source
    read_into(source.path, source.identity, begin, data, f"tensor {parts[0].tensor.name!r}")
    found = []
    for part in parts:
        own = data[part.place - begin : part.place - begin + part.nbytes]
        layout, bad = part.tensor.type, list[Bad]()
        if isinstance(layout, Layout):
            bad = bad_blocks(own, layout, part.tensor.shard.header.order)
        small = part.tensor.nbytes < LEAST_ZEROS
        zeros = [] if small else zero_stretches(np.frombuffer(own, np.uint8))
        found.append(_Looked(part, own, bad, zeros))
    return buffer, found


def zero_stretches(data: Array) -> list[tuple[int, int]]:
    """Return stretches of zeros, (start, stop) each: data (n,) uint8.

    Those that hold a page, counted from the beginning, and those at either end, which may go on in
    the data before or after.
    """
    words = data[: len(data) // PAGE * PAGE].view(np.uint64).reshape(-1, PAGE // 8)
    pages = np.flatnonzero(words[:, 0] == 0)
    pages = pages[~words[pages].any(axis=1)]
    runs = np.split(pages, np.flatnonzero(np.diff(pages) > 1) + 1) if pages.size else []
    found = []
    for run in runs:
        start, stop = int(run[0]) * PAGE, (int(run[-1]) + 1) * PAGE
        start -= _zeros_from(data[max(0, start - PAGE) : start][::-1])
        found.append((start, stop + _zeros_from(data[stop : stop + PAGE])))
    head, tail = _zeros_from(data[:PAGE]), _zeros_from(data[-2 * PAGE :][::-1])
    if head and not (found and found[0][0] == 0):
        found.insert(0, (0, head))
    if tail and not (found and found[-1][1] == len(data)):
        found.append((len(data) - tail, len(data)))
    return found


def _zeros_from(data: Array) -> int:
    """Return how many zeros data (n,) begins with."""
    others = np.flatnonzero(data)
    return int(others[0]) if others.size else len(data)


def _bad_findings(seen: _Seen) -> Iterator[Finding]:
    tensor = seen.tensor
    for bad in seen.bad.values():
        many = f"; {bad.blocks:,} blocks have such" if bad.blocks > 1 else ""
        name = f"{bad.field} is {bad.said}" if bad.field else f"there is {bad.said}"
        if bad.said == "255":
            name = f"the exponent {bad.field} is {bad.said}, which stands for no number"
        yield error(
            "weights",
            f"tensor {tensor.name!r} ({tensor.type.name}): {name} in {place_of(tensor, bad.first)}"
            f"{many}",
            "what is computed with these weights is no number: the model writes nonsense",
            "download it again; if its hash is the published one, whoever made it has to",
            said("data", tensor.name),
            tensor=tensor.name,
        )


def place_of(tensor: Tensor, block: int) -> str:
    """Return where a block is: its number, its row, and which weights of the row it holds."""
    length = tensor.type.block_length if isinstance(tensor.type, Layout) else 1
    row = tensor.shape[-1] if tensor.shape else 1
    at, first = divmod(block * length, max(1, row))
    where = f"row {at:,}" if len(tensor.shape) > 1 else "the vector"
    if length == 1:
        return f"weight {first:,} of {where}"
    return f"block {block:,} (weights {first:,} to {first + length - 1:,} of {where})"


def _zero_findings(seen: _Seen) -> Iterator[Finding]:
    tensor, size = seen.tensor, block_bytes(seen.tensor)
    long = [(start, stop) for start, stop in seen.zeros if stop - start >= LEAST_ZEROS]
    if not long or len(tensor.shape) < 2:
        return
    row = tensor.nbytes // max(1, int(np.prod(tensor.shape[:-1])))
    if long == [(0, tensor.nbytes)]:
        yield warning(
            "weights",
            f"tensor {tensor.name!r} ({tensor.type.name}) is all zero",
            "it takes no part in what the model computes: it was never filled, or never trained",
            "download it again, if the published file is not so",
            tensor=tensor.name,
        )
        return
    holes = [each for each in long if not _whole_rows(*each, row)]
    for start, stop in holes[:1]:
        many = f"; {len(holes)} stretches are so" if len(holes) > 1 else ""
        torn = _torn(tensor.offset + start, tensor.offset + stop)
        grade = error if torn else warning
        yield grade(
            "weights",
            f"tensor {tensor.name!r} ({tensor.type.name}) has {stop - start:,} zero bytes in a row "
            f"(file bytes {tensor.offset + start:,} to {tensor.offset + stop:,}), from "
            f"{place_of(tensor, -(-start // size))} on{many}",
            "it begins or ends where a page of the disk does, not where weights do: a part of the "
            "file was never written"
            if torn
            else "no trained weights have as many zeros in a row: a part may never have come",
            "download it again, or let the download go on to its end",
            tensor=tensor.name,
        )
    rows = sum((stop - start) // row for start, stop in long if _whole_rows(start, stop, row))
    if rows:
        yield note(
            "weights",
            f"tensor {tensor.name!r} has {rows:,} rows, of {tensor.nbytes // row:,}, that are all "
            "zero",
            "whole rows are zero where nothing was trained: tokens that fill up a vocabulary, "
            "experts that are not used",
            "nothing has to be done",
            tensor=tensor.name,
        )


def _whole_rows(start: int, stop: int, row: int) -> bool:
    """Whether a stretch holds whole rows; zeros of the rows beside them may touch it by chance."""
    return (-start) % row <= _NEAR and stop % row <= _NEAR and stop - start >= row


def _torn(start: int, stop: int) -> bool:
    return (-start) % PAGE <= _NEAR or stop % PAGE <= _NEAR
