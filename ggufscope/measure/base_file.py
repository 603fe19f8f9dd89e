"""A base model's distributions in a file, as llama-perplexity writes and reads them.

What ``--save-all-logits`` writes and ``--kl-divergence-base`` reads, of llama.cpp's
``tools/perplexity/perplexity.cpp``, all little-endian:

    "_logits_"  uint32 context  int32 vocabulary  int32 chunks
    int32 tokens (chunks, context), the first of each as it was before BOS took its place
    for each scored token: float32 scale, float32 smallest log-probability, uint16 (vocabulary,),
    one more where that is odd

A log-probability is ``scale * number + smallest``; none is further than 16 below the largest.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np

from ggufscope.arrays import Doubles, Floats
from ggufscope.container.partial import PartialFile
from ggufscope.container.source import LocalFile, read_into
from ggufscope.errors import BadBase

MAGIC: Final = b"_logits_"
DEEPEST: Final = np.float32(16)
"""How far below the largest logit the smallest one that is told apart lies."""
_HEAD: Final = struct.Struct("<8sIii")
_MOST: Final = 1 << 28
"""Tokens of a file, and entries of its vocabulary, beyond which a number is taken for damage."""


def scored_rows(context: int) -> int:
    """Return how many tokens of a chunk are scored: those after its first half, but the last."""
    return context - 1 - context // 2


def _row(vocabulary: int) -> np.dtype[np.void]:
    numbers = vocabulary + vocabulary % 2
    return np.dtype([("scale", "<f4"), ("least", "<f4"), ("numbers", "<u2", (numbers,))])


@dataclass(frozen=True, slots=True)
class BaseFile:
    """A file of a base model's distributions; ``rows`` reads some of them."""

    path: Path
    context: int
    vocabulary: int
    chunks: tuple[tuple[int, ...], ...]
    """The token ids of each chunk, before BOS."""
    source: LocalFile
    start: int
    """Offset of the first row."""

    @classmethod
    def read(cls, path: Path, most: int | None = None) -> Self:
        """Read all but the rows; ``most``: chunks at the most.

        Raises ``BadBase``, and what ``LocalFile`` raises.
        """
        source = LocalFile(path)
        head = bytes(source.read(0, min(source.size, _HEAD.size)))
        if not head.startswith(MAGIC) or len(head) < _HEAD.size:
            raise BadBase(
                f"{path} is no file of logits: it does not begin as llama-perplexity writes them",
                hint="make one with `llama-perplexity --save-all-logits`, or with --save-base",
            )
        _, context, vocabulary, count = _HEAD.unpack(head)
        sound = context >= 4 and 0 < vocabulary < _MOST and count > 0
        if not sound or context * count > _MOST:
            raise BadBase(
                f"{path} claims {count:,} chunks of {context:,} tokens, and a vocabulary of "
                f"{vocabulary:,}",
                hint="the file is damaged: make it anew",
            )
        start = _HEAD.size + 4 * context * count
        of_chunk = scored_rows(context) * _row(vocabulary).itemsize
        wanted = min(count, most or count)
        there = max(0, source.size - start) // of_chunk
        if there < wanted:
            raise BadBase(
                f"{path} ends after {there:,} of {count:,} chunks",
                hint=f"take those with --chunks {there}" if there else "make it anew",
            )
        raw = source.read(_HEAD.size, _HEAD.size + 4 * context * wanted)
        ids = np.frombuffer(raw, "<i4").reshape(wanted, context)
        return cls(path, context, vocabulary, tuple(map(tuple, ids.tolist())), source, start)

    def rows(self, first: int, last: int) -> Doubles:
        """Return log-probabilities of scored rows [first, last) over all chunks, (R, V)."""
        row = _row(self.vocabulary)
        raw = np.empty(last - first, row)
        offset = self.start + first * row.itemsize
        view = memoryview(raw.view(np.uint8).data)
        read_into(self.path, self.source.identity, offset, view, "its rows")
        logs = raw["numbers"][:, : self.vocabulary].astype(np.float32)
        logs *= raw["scale"][:, None]
        logs += raw["least"][:, None]
        return logs.astype(np.float64)


class BaseWriter:
    """A file of distributions under way; a context manager that commits it, or discards it."""

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self._target, self._overwrite = path, overwrite
        self._file: PartialFile | None = None
        self._at = 0

    def begin(self, chunks: Sequence[Sequence[int]], vocabulary: int) -> None:
        """Create it, and write all but the rows. Raises what ``PartialFile`` raises."""
        context = len(chunks[0])
        head = _HEAD.pack(MAGIC, context, vocabulary, len(chunks))
        head += np.array(chunks, "<i4").tobytes()
        rows = len(chunks) * scored_rows(context)
        nbytes = len(head) + rows * _row(vocabulary).itemsize
        self._file = PartialFile(self._target, nbytes, overwrite=self._overwrite)
        self._put(head)

    def add(self, logits: Floats) -> None:
        """Write the next rows, from logits (R, V)."""
        self._put(packed(logits).tobytes())

    def _put(self, data: bytes) -> None:
        assert self._file is not None  # it was begun
        self._file.write_at(self._at, memoryview(data))
        self._at += len(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._file is None:
            return
        try:
            if failure[0] is None:
                self._file.commit()
        finally:
            self._file.discard()


def packed(logits: Floats) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    """logits (R, V) -> rows of the file, (R,). Follows ``log_softmax`` of ``perplexity.cpp``."""
    with np.errstate(all="ignore"):
        most = logits.max(axis=1)
        least = np.maximum(logits.min(axis=1), most - DEEPEST)
        sums = np.exp(logits - most[:, None]).sum(axis=1, dtype=np.float64)
        scale = (most - least) / np.float32(65535)
        rows = np.zeros(len(logits), _row(logits.shape[1]))
        rows["scale"] = scale
        rows["least"] = least - most - np.log(sums).astype(np.float32)
        inverse = np.where(scale > 0, np.float32(1) / scale, np.float32(0))
        numbers = np.rint((logits - least[:, None]) * inverse[:, None])
        rows["numbers"][:, : logits.shape[1]] = np.clip(np.nan_to_num(numbers), 0, 65535)
    return rows
