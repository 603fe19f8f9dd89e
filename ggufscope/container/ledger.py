"""What is done of a file under way, kept beside it: another run can go on from there.

The ledger of ``model.gguf`` is ``.model.gguf.resume``. Each line is JSON: the first says of what
run it is and which file grows, each other one names a piece that is done::

    {"partial": ".model.gguf.0123456789abcdef.partial", "inode": 17, "facts": {"source": "5f3a"}}
    ["blk.0.attn_q.weight", 4096, 0.25, 812.5, 0.03, 16777216]

A piece gets its line when its bytes are on the disk, never before. Whoever is killed leaves half a
line at the most, and a disk that lost its power may leave zeros: what is read ends before them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final

from ggufscope.container.leftovers import SAFELY, ledger_name, require_ours
from ggufscope.errors import NotResumable

_LONGEST: Final = 1 << 16
"""Bytes of a line; a longer one is none of ours, and nothing behind it is read."""

Facts = Mapping[str, str]
"""What has to be the same for another run to go on: a word for each thing, and its digest."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The first line of a ledger."""

    partial: str
    """The name of the file that grows."""
    inode: int
    facts: Facts

    def require(self, facts: Facts, target: Path) -> None:
        """Raise ``NotResumable`` where this is of another run."""
        others = [word for word in facts if self.facts.get(word) != facts[word]]
        if others:
            raise NotResumable(
                f"{target} cannot be resumed: the run that was ended had another "
                + ", another ".join(others),
                hint="ask for what was asked for then, or begin anew without --resume",
            )


class Ledger:
    """The ledger of a file under way; for the one run that holds its lock."""

    def __init__(self, target: Path, begun: Begun | None = None) -> None:
        """Go on with the ledger beside a target, or begin it; raises ``OSError``."""
        self._stream = _opened(target, os.O_CREAT | os.O_EXCL if begun else 0)
        self._waiting: list[bytes] = []
        self._end, self.pieces = 0, -1
        """Bytes of whole lines, and how many pieces they name."""
        for _, end in _lines(self._stream):
            self._end = end
            self.pieces += 1
        if begun is not None:
            self.add(asdict(begun))
            try:
                self.flush()
            except OSError:  # a full disk: there is nothing to go on with
                self.close()
                ledger_name(target).unlink(missing_ok=True)
                raise

    def add(self, line: Any) -> None:
        """Have a line written with the next ``flush``."""
        self._waiting.append(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def flush(self) -> None:
        """Write what waits, and have it on the disk; raises ``OSError``."""
        data = b"".join(self._waiting)
        if data:
            self._stream.seek(self._end)
            self._stream.truncate()  # half a line, perhaps
            self._stream.write(data)
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._end += len(data)
            self.pieces += len(self._waiting)
            self._waiting.clear()

    def close(self) -> None:
        """Close it; what waits is not written."""
        with suppress(OSError):  # of what a full disk did not take
            self._stream.close()


def begun_of(target: Path) -> Begun | None:
    """Return how the run began that left a ledger beside a target, if one did."""
    try:
        with _opened(target) as stream:
            for line, _ in _lines(stream):
                return Begun(str(line["partial"]), int(line["inode"]), dict(line["facts"]))
    except (OSError, LookupError, TypeError, ValueError):
        pass
    return None


def pieces_of(target: Path) -> Iterator[Any]:
    """Yield what each line of a ledger says, the first left out."""
    with suppress(OSError), _opened(target) as stream:
        lines = _lines(stream)
        next(lines, None)
        yield from (line for line, _ in lines)


def is_finished(target: Path, facts: Facts, nbytes: int) -> bool:
    """Whether a target has its name from a run of these facts that was ended only after that."""
    begun = begun_of(target)
    if begun is None or begun.facts != facts:
        return False
    try:
        status = target.stat()
    except OSError:
        return False
    return (status.st_ino, status.st_size) == (begun.inode, nbytes)


def _opened(target: Path, flags: int = 0) -> IO[bytes]:
    """Open the ledger of a target; raises ``OSError`` for one that is not ours as well."""
    flags |= os.O_RDWR | getattr(os, "O_NONBLOCK", 0) | SAFELY
    stream = os.fdopen(os.open(ledger_name(target), flags, 0o666), "r+b")
    try:
        require_ours(stream.fileno(), target)
    except OSError:
        stream.close()
        raise
    return stream


def _lines(stream: IO[bytes]) -> Iterator[tuple[Any, int]]:
    """Yield what each whole line says, and where it ends, up to the first that says nothing."""
    stream.seek(0)
    end = 0
    while (line := stream.readline(_LONGEST)).endswith(b"\n"):
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            return
        end += len(line)
        yield said, end
