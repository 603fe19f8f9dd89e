"""Text from a file that an option names."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from ggufscope.errors import BadUsage, NotAFile, SourceUnreadable

LONGEST_TEXT: Final = 1 << 28
"""Bytes of a text that is run."""
STDIN: Final = Path("-")
"""What stands for standard input; a file of that name is ``./-``."""


def name_of_text(path: Path) -> str:
    """Return what a text is called."""
    return "standard input" if path == STDIN else str(path)


def read_text(path: Path, most: int, of: str) -> str:
    """Read a text of no more than ``most`` bytes, its line ends as they are.

    The path ``-`` is standard input. ``of``: what it is, in words. Raises ``BadUsage`` for a
    longer one, or where nothing comes from standard input, ``SourceUnreadable``, and ``NotAFile``
    for what is not a regular file: a device has no end.
    """
    name = name_of_text(path)
    data = _standard_input(most, of) if path == STDIN else _file(path, most, of)
    if b"\0" in data:
        raise SourceUnreadable(
            f"{name} is not text: byte {data.index(0):,} is zero",
            hint="convert it to UTF-8 if it is UTF-16, or name another file",
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise SourceUnreadable(
            f"{name} is not UTF-8: {error}", hint="convert it, or name another file"
        ) from None


def _file(path: Path, most: int, of: str) -> bytes:
    from ggufscope.container.source import LocalFile

    try:
        source = LocalFile(path)
    except NotAFile as error:
        if path.is_dir():
            error.hint = "name a file of text"
        raise
    if source.size > most:
        raise _too_long(f"{path} has {source.size:,} bytes", most, of)
    return bytes(source.read(0, source.size))


def _standard_input(most: int, of: str) -> bytes:
    try:
        data = sys.stdin.buffer.read(most + 1) if sys.stdin is not None else b""
    except OSError as error:
        raise SourceUnreadable(
            f"standard input cannot be read: {error.strerror}", hint="name a file of text"
        ) from None
    if not data:
        raise BadUsage(
            f"nothing came from standard input, where {of} was to come from",
            hint="send a text to it, or name a file; a file called - is ./-",
        )
    if len(data) > most:
        raise _too_long("standard input has more bytes", most, of)
    return data


def _too_long(said: str, most: int, of: str) -> BadUsage:
    return BadUsage(
        f"{said}, and {of} has {most:,} at the most",
        hint="write a part of it to a file, and name that",
    )
