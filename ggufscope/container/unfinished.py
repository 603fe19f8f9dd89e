"""A download that was not finished: room was made for all of it, and the end is still zeros."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ggufscope.container.file import GGUFFile, Shard, Tensor
from ggufscope.errors import UnfinishedFile

_END: Final = 4096
"""Bytes of a tensor that are looked at first: of a file that is sound these are all."""
_SLAB: Final = 1 << 20
_ALONE: Final = 1 << 20
"""Bytes that a single tensor has at least, to prove anything: a small one may well be zero."""


def require_finished(file: GGUFFile) -> None:
    """Raise ``UnfinishedFile`` where all tensors from one on are zero, a matrix among them."""
    for shard, tail in zero_tails(file):
        tensors = sum(tensor.nbytes > 0 for tensor in shard.header.tensors)
        raise UnfinishedFile(
            f"{shard.source.name}: every tensor from {tail[0].name!r} on is zero, {len(tail)} of "
            f"{tensors}: an unfinished download?",
            hint="download it again, or let the download go on to its end",
        )


def zero_tails(file: GGUFFile) -> Iterator[tuple[Shard, list[Tensor]]]:
    """Yield each shard whose tensors are all zero from one on, and these, a matrix among them.

    A bias or a norm may be all zero, so vectors alone prove nothing, nor does one small matrix. Of
    a file that is sound no more than the end of the last tensor is read, or of the last few.
    """
    for shard in file.shards:
        tensors = [t for t in file.tensors.values() if t.shard is shard and t.nbytes]
        tensors.sort(key=lambda tensor: tensor.offset)
        zero = 0
        while zero < len(tensors) and _is_zero(tensors[-1 - zero]):
            zero += 1
        tail = tensors[len(tensors) - zero :]
        proven = zero > 1 or sum(tensor.nbytes for tensor in tail) >= _ALONE
        if proven and any(len(tensor.shape) > 1 for tensor in tail):
            yield shard, tail


def _is_zero(tensor: Tensor) -> bool:
    """Return whether every byte is zero; the end is read first, then the rest from the front."""
    end = max(0, tensor.nbytes - _END)
    parts = [(end, tensor.nbytes)]
    parts += [(start, min(start + _SLAB, end)) for start in range(0, end, _SLAB)]
    for start, stop in parts:
        data = bytearray(stop - start)
        tensor.read_into(start, memoryview(data))
        if data.count(0) < len(data):
            return False
    return True
