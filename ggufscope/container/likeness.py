"""Whether two models may be copies of one another, seen without reading all of them."""

from __future__ import annotations

import hashlib
import os
from typing import Final

from ggufscope.container.file import open_gguf

_STRETCH: Final = 64 << 10
"""Bytes of weights that are read at the start, in the middle and at the end of each file."""


def fingerprint(path: str | os.PathLike[str]) -> bytes:
    """Return a digest of the headers of a model and of a few stretches of its weights.

    Models with different ones differ. Those with the same may differ between the stretches.
    Raises what ``open_gguf`` raises, and ``SourceChanged``.
    """
    digest = hashlib.sha256()
    with open_gguf(path) as file:
        for shard in file.shards:
            start, stop = shard.header.data_offset, shard.source.size
            middle = max(start, (start + stop - _STRETCH) // 2)
            digest.update(shard.source.read(0, start))
            for at in (start, middle, max(start, stop - _STRETCH)):
                digest.update(shard.source.read(at, min(at + _STRETCH, stop)))
    return digest.digest()
