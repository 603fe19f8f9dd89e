"""Data from file to file, by the operating system where it can.

``copy_file_range`` (Linux) keeps the bytes out of this process, and on a file system that shares
blocks (btrfs, XFS) it copies nothing at all, where both places are equally far into a block.
Elsewhere bytes are read and written.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from ggufscope.container.journal import write_at
from ggufscope.container.source import LocalFile, opened_unchanged, reading

Copied = Callable[[int], object]
"""What is told of each piece that is copied, by its bytes."""

_PAGE: Final = 4096
"""Bytes of a block of a file system: what is shared begins and ends with one."""
_PIECE: Final = 1 << 25
"""Bytes that the system copies at a time: a signal waits for no more, the disk begins with each."""
_BUFFER: Final = 1 << 23
_NOT_HERE: Final = frozenset(
    {errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM}
    | {errno.EBADF, errno.ETXTBSY, errno.EIO}
)
"""Why the system does not copy from file to file. Of a disk that is at fault reading says more."""


def copy_range(
    source: LocalFile, start: int, count: int, file: io.FileIO, at: int, copied: Copied
) -> None:
    """Copy ``count`` bytes of ``source`` from ``start`` into a file from ``at``.

    Raises ``SourceChanged``, ``SourceUnreadable``, and ``OSError`` where writing fails.
    """
    stop = start + count
    if (start - at) % _PAGE == 0:
        head = min(-start % _PAGE, count)
        _by_hand(source, start, head, file, at, copied)
        start, at = start + head, at + head
    if hasattr(os, "copy_file_range"):
        done = _by_the_system(source, start, stop - start, file, at, copied)
        start, at = start + done, at + done
    _by_hand(source, start, stop - start, file, at, copied)


def _by_the_system(
    source: LocalFile, start: int, count: int, file: io.FileIO, at: int, copied: Copied
) -> int:
    """Copy what the system does; return how many bytes that were."""
    done = 0
    with opened_unchanged(source.path, source.identity) as read:
        while done < count:
            piece = min(_PIECE, count - done)
            try:
                got = os.copy_file_range(
                    read.fileno(), file.fileno(), piece, start + done, at + done
                )
            except OSError as error:
                if error.errno in _NOT_HERE:
                    break
                raise
            if not got:
                break
            _start_write_back(file, at + done, at + done + got)
            done += got
            copied(got)
    return done


def _by_hand(
    source: LocalFile, start: int, count: int, file: io.FileIO, at: int, copied: Copied
) -> None:
    if not count:
        return
    buffer = memoryview(bytearray(min(_BUFFER, count)))
    with reading(source.path, source.identity, start, "its data") as fill:
        while count:
            part = buffer[: min(len(buffer), count)]
            fill(part)
            write_at(file, at, part)
            _start_write_back(file, at, at + len(part))
            at, count = at + len(part), count - len(part)
            copied(len(part))


def _start_write_back(file: io.FileIO, begin: int, end: int) -> None:
    """Have the disk begin with a stretch, so that ``fsync`` has less to wait for in the end.

    Linux, told that a stretch is not needed, writes what is dirty, without waiting, and forgets
    what is on the disk already: nearly nothing, so soon.
    """
    if sys.platform == "linux":
        with suppress(OSError):  # some file systems cannot; the end of it all is `fsync`
            os.posix_fadvise(file.fileno(), begin, end - begin, os.POSIX_FADV_DONTNEED)
