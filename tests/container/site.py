"""A web server on this machine, with the faults that servers have, and a stand-in for the Hub."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Asked:
    """A request as it came."""

    path: str
    range: str | None
    token: str | None
    sent: int = 0


@dataclass
class Site:
    """What a server has, and how it behaves. Paths are the keys."""

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    refuse: dict[str, list[tuple[int, dict[str, str]]]] = field(default_factory=dict)
    """Statuses that are answered first, each once; the last one for ever where it is alone."""
    ranges: bool = True
    latency: float = 0.0
    break_after: list[int] = field(default_factory=list)
    """Bytes of the body after which each of the next answers breaks off."""
    lie: Callable[[dict[str, str]], None] = lambda headers: None
    """Changes the headers of a range, after all is worked out."""
    etag: str = '"one"'
    repositories: dict[str, list[str]] = field(default_factory=dict)
    """Repository -> its files; their bytes are in ``files``, under their name alone."""
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    @property
    def sent(self) -> int:
        """Bytes of all bodies."""
        return sum(each.sent for each in self.asked)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        site = self.site
        time.sleep(site.latency)
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        if path == "/api/agent-harnesses":  # which the client asks for once a day, for itself
            self._answer(200, b"{}", {})
            return
        asked = Asked(self.path, self.headers["Range"], self.headers["Authorization"])
        site.asked.append(asked)
        if refusals := site.refuse.get(path):
            status, headers = refusals.pop(0) if len(refusals) > 1 else refusals[0]
            if status:
                self._answer(status, b"", headers)
                return
        if path in site.redirects:
            self._answer(302, b"", {"Location": site.redirects[path]})
        elif path.startswith("/api/"):
            self._api(path.removeprefix("/api/models"), parse_qs(parts.query))
        elif (match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.*)", path)) is not None:
            repo, _, file = match.groups()
            there = file in site.repositories.get(repo, ())
            code = "EntryNotFound" if repo in site.repositories else "RepoNotFound"
            if there:
                self._file(site.files[file], asked)
            else:
                self._answer(404 if code[0] == "E" else 401, b"", {"X-Error-Code": code})
        elif path in site.files:
            self._file(site.files[path], asked)
        else:
            self._answer(404, b"nothing here", {})

    def _api(self, path: str, query: dict[str, list[str]]) -> None:
        site = self.site
        found = re.fullmatch(r"/([^/]+/[^/]+)(?:/revision/(.+))?", path)
        if found is None:
            word = query.get("search", [""])[0].lower()
            owner = query.get("author", [""])[0]
            ids = [
                name
                for name in site.repositories
                if (word and word in name.lower()) or (owner and name.startswith(f"{owner}/"))
            ]
            self._answer(200, json.dumps([{"id": name} for name in ids]).encode(), {})
        elif found[1] in site.repositories:
            siblings = [
                {"rfilename": name, "size": len(site.files.get(name, b""))}
                for name in site.repositories[found[1]]
            ]
            said = {"id": found[1], "sha": "c0ffee", "siblings": siblings}
            self._answer(200, json.dumps(said).encode(), {})
        else:
            self._answer(401, b"", {"X-Error-Code": "RepoNotFound"})

    def _file(self, data: bytes, asked: Asked) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", asked.range or "")
        headers = {"ETag": self.site.etag}
        if match is None or not self.site.ranges:
            self._answer(200, data, headers, asked)
            return
        start, last = int(match[1]), min(int(match[2]), len(data) - 1)
        if start >= len(data):
            self._answer(416, b"", headers | {"Content-Range": f"bytes */{len(data)}"})
            return
        headers["Content-Range"] = f"bytes {start}-{last}/{len(data)}"
        self.site.lie(headers)
        self._answer(206, data[start : last + 1], headers, asked)

    def _answer(
        self, status: int, body: bytes, headers: dict[str, str], asked: Asked | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        broken = self.site.break_after.pop(0) if asked and self.site.break_after else None
        whole, body = body, body[:broken]
        try:
            for at in range(0, len(body), 1 << 16):
                piece = body[at : at + (1 << 16)]
                if asked is not None:
                    asked.sent += len(piece)
                self.wfile.write(piece)
        except OSError:  # who asked had enough
            self.close_connection = True
        if len(body) < len(whole):
            self.close_connection = True


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve a site; its ``url`` says where."""
    handler = type("Handler", (_Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
