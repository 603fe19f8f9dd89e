"""The bytes of a file on another machine, read in ranges, and no more of them than are needed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit, urlunsplit

from ggufscope.container.remote import client
from ggufscope.container.source import Identity, LocalFile
from ggufscope.errors import (
    AccessRefused,
    BadUsage,
    DownloadTooLarge,
    NotHere,
    SourceChanged,
    SourceNotFound,
    Unreachable,
)

FIRST: Final = 1 << 18
"""Bytes of the first request: the whole header of a model without its vocabulary."""
FIRST_OF_SHARD: Final = 1 << 16
"""The same for shards after the first, which have no vocabulary."""
LIMIT: Final = "GGUFSCOPE_MAX_DOWNLOAD"
"""The environment variable with the most bytes that may travel of one file."""
_USUAL_LIMIT: Final = 1 << 28
"""Ten times the largest header there is."""
_PATIENCE: Final = 60.0
_SLOWEST: Final = 1 << 13
"""Bytes a second, after so many seconds, below which a server is taken for stuck."""


class RemoteFile(LocalFile):
    """A file of which parts are asked for when they are needed. Implements ``walk.Source``.

    What a server says is held against what it said first: a file that changes on the way, or an
    answer that does not fit the question, is an error. Threads may not share one.
    """

    def __init__(self, url: str, name: str, file: str, hint: str, first: int = FIRST) -> None:
        """Ask for the beginning. ``name`` is for people, ``file`` the last part of it.

        ``hint``: how the file is brought here. Raises what ``client.ask`` raises.
        """
        self.path = Path(file)
        self._name, self._url, self._place, self._hint = name, url, url, hint
        self._map = None
        self.closed = False
        self.ranges = True
        """Whether the server heeds ranges; otherwise the file is read from its beginning on."""
        self.travelled = 0
        """Bytes that came so far."""
        self._size: int | None = None
        self._state = ""
        self._stream: tuple[ExitStack, Iterator[bytes]] | None = None
        self._at = 0
        """Where the stream of a server without ranges stands, less what is in ``_left``."""
        self._left = b""
        self._limit = _limit()
        self._head = self._fetch(0, first)

    @property
    def name(self) -> str:
        """What it was named by, without anything secret."""
        return self._name

    @property
    def size(self) -> int:
        """Bytes in all, as the server says."""
        return self._size or 0

    @property
    def identity(self) -> Identity:  # type: ignore[override]  # there is none to be had
        """Raise ``NotHere``: who asks for it goes on to read weights, by path."""
        raise NotHere(
            f"{self.name} is not on this machine, and its weights are needed", hint=self._hint
        )

    def read(self, start: int, stop: int) -> bytearray:
        """Return the bytes of ``[start, stop)``.

        Raises what ``client.ask`` raises, ``SourceChanged`` or ``DownloadTooLarge``.
        """
        if stop <= len(self._head):
            return self._head[start:stop]
        known = self._head[start:]
        return known + self._fetch(start + len(known), stop)

    def view(self, start: int, stop: int) -> memoryview:
        """Return the bytes of ``[start, stop)``, as much as may travel; raises as ``read`` does."""
        self.require_open()
        return memoryview(self.read(start, stop)).toreadonly() if start < stop else memoryview(b"")

    def require_unchanged(self) -> None:
        """Do nothing: each answer was held against the first."""

    def close(self) -> None:
        """Let go of the connection, where one is held."""
        self.closed = True
        self._end_stream()

    def notes(self) -> list[str]:
        """Return a line where the server gives no parts of a file."""
        if self.ranges:
            return []
        return [
            f"{self.name}: the server sends no parts of a file: it was read from its beginning, "
            f"{self.travelled} bytes"
        ]

    def sibling(self, file: str) -> RemoteFile:
        """Return another file of the same folder."""
        parts = urlsplit(self._url)
        folder = parts.path.rpartition("/")[0]
        url = urlunsplit(parts._replace(path=f"{folder}/{quote(file)}"))
        name = self._name.replace(self.path.name, file)
        return RemoteFile(url, name, file, self._hint, FIRST_OF_SHARD)

    def __repr__(self) -> str:
        return f"RemoteFile({self.name!r})"

    def _fetch(self, start: int, stop: int) -> bytearray:
        """Return the bytes of ``[start, stop)``, as far as the file goes; try several times."""
        data = bytearray()
        for wait in (*client.WAITS, None):
            try:
                self._require_room(stop - start - len(data))
                if self.ranges:
                    self._ask(start + len(data), stop, data, stop - start)
                if not self.ranges:
                    self._go_on(start + len(data), stop, data, stop - start)
            except Unreachable as error:
                self._end_stream()
                if wait is None or error.wait is None:
                    raise
                time.sleep(max(wait, error.wait))
            else:
                if start + len(data) >= min(stop, self.size):
                    return data
                if wait is not None:
                    time.sleep(wait)
        raise Unreachable(
            f"{self.name}: the connection ended again and again, last at byte {start + len(data)}",
            hint="try again later",
        )

    def _ask(self, start: int, stop: int, data: bytearray, most: int) -> None:
        """Add what a request for a range brings, up to ``most`` bytes in ``data``."""
        try:
            self._ask_at(self._place, start, stop, data, most)
        except (AccessRefused, SourceNotFound, Unreachable) as error:
            if self._place == self._url or getattr(error, "wait", None) is not None:
                raise
            # Links that a redirect led to are signed for a while only: it is asked for a new one.
            self._place = self._url
            self._ask_at(self._url, start, stop, data, most)

    def _ask_at(self, url: str, start: int, stop: int, data: bytearray, most: int) -> None:
        with ExitStack() as stack:
            answer = stack.enter_context(client.ask(self.name, url, start, stop))
            self._require_same(answer)
            self._place = answer.place
            if not answer.ranges:
                self.ranges = False
                self._stream = stack.pop_all(), answer.pieces
                self._at, self._left = 0, b""
                return
            self._take(answer.pieces, data, most)

    def _require_same(self, answer: client.Answer) -> None:
        if self._size is None:
            self._size, self._state = answer.size, answer.state
        elif (answer.size, answer.state) != (self._size, self._state):
            raise SourceChanged(
                f"{self.name} was replaced or changed while it was read",
                hint="try again when it is at rest",
            )

    def _take(self, pieces: Iterator[bytes], data: bytearray, most: int) -> bytes:
        """Add pieces until ``data`` has ``most`` bytes; return what came beyond that."""
        began, before = time.monotonic(), len(data)
        for piece in pieces:
            self.travelled += len(piece)
            room = most - len(data)
            data += piece[:room]
            if len(data) == most:
                return piece[room:]
            slow = time.monotonic() - began - _PATIENCE
            if slow > 0 and len(data) - before < slow * _SLOWEST:
                raise Unreachable(
                    f"{self.name}: the server sends next to nothing", hint="try again later"
                )
        return b""

    def _go_on(self, start: int, stop: int, data: bytearray, most: int) -> None:
        """Read on from a server without ranges: what comes before ``start`` is thrown away."""
        if self._stream is None or start < self._at:
            self._end_stream()
            stack = ExitStack()
            answer = stack.enter_context(client.ask(self.name, self._url, 0, self.size))
            self._stream, self._at, self._left = (stack, answer.pieces), 0, b""
            self._require_same(answer)
        self._require_room(stop - self._at)
        _, pieces = self._stream
        while self._at < start:
            skipped = bytearray(self._left[: start - self._at])
            self._left = self._left[len(skipped) :]
            if not skipped:
                self._left = self._take(pieces, skipped, min(start - self._at, FIRST))
            if not skipped:
                raise Unreachable(f"{self.name}: the connection ended", hint="try again later")
            self._at += len(skipped)
        before = len(data)
        data += self._left[: most - before]
        self._left = self._left[len(data) - before :]
        if len(data) < most:
            self._left = self._take(pieces, data, most)
        self._at += len(data) - before
        if self._at < min(stop, self.size):
            self._end_stream()

    def _require_room(self, more: int) -> None:
        if self._size is not None:
            more = min(more, self._size)
        if self.travelled + more > self._limit:
            whole = "" if self.ranges else ", and its server sends no parts of a file"
            raise DownloadTooLarge(
                f"{self.name}: {self.travelled + more} bytes would travel, and {self._limit} "
                f"may{whole}",
                hint="allow more: ggufscope --max-download 1GiB ...",
            )

    def _end_stream(self) -> None:
        stream: Any = self._stream
        self._stream = None
        if stream is not None:
            stream[0].close()


def _limit() -> int:
    said = os.environ.get(LIMIT, "")
    if said and not said.isdecimal():
        raise BadUsage(f"{LIMIT} is {said!r:.80}, no number of bytes", hint="such as 1073741824")
    return int(said or _USUAL_LIMIT)
