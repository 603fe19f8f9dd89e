"""Text from a file that an option names."""

from __future__ import annotations

from pathlib import Path

from ggufscope.errors import BadUsage, NotAFile, SourceUnreadable


def read_text(path: Path, most: int, of: str) -> str:
    """Read a text of no more than ``most`` bytes, its line ends as they are.

    ``of``: what it is, in words. Raises ``BadUsage`` for a longer one, ``SourceUnreadable``, and
    ``NotAFile`` for what is not a regular file: a device has no end.
    """
    from ggufscope.container.source import LocalFile

    try:
        source = LocalFile(path)
    except NotAFile as error:
        if path.is_dir():
            error.hint = "name a file of text"
        raise
    if source.size > most:
        raise BadUsage(
            f"{path} has {source.size:,} bytes, and {of} has {most:,} at the most",
            hint="write a part of it to a file, and name that",
        )
    data = source.read(0, source.size)
    if b"\0" in data:
        raise SourceUnreadable(
            f"{path} is not text: byte {data.index(0):,} is zero",
            hint="convert it to UTF-8 if it is UTF-16, or name another file",
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise SourceUnreadable(
            f"{path} is not UTF-8: {error}", hint="convert it, or name another file"
        ) from None
