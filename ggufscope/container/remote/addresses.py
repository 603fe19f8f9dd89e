"""What a word names that is no path here: a model on the Hugging Face Hub, or a URL.

::

    owner/repo                        a repository of the Hub
    owner/repo:Q4_K_M                 its model of that type, as Ollama and llama.cpp's -hf have it
    hf:owner/repo[/file][@revision]   one of its files; hf://owner/repo@revision/file, too
    hf.co/owner/repo[:Q4_K_M]         as Ollama has it
    https://huggingface.co/...        a page of a repository, with /blob/, /resolve/ or /tree/
    https://...                       any other file

Only words are looked at here; nothing is asked of a disk or of a network.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from ggufscope.errors import BadUsage

HOSTS: Final = ("huggingface.co", "www.huggingface.co", "hf.co", "www.hf.co")
_PAGES: Final = ("blob", "raw", "resolve", "tree")
_NAME: Final = r"[A-Za-z0-9](?:[\w.-]*\w)?"
_REPO: Final = re.compile(rf"{_NAME}/{_NAME}", re.ASCII)
_TAG: Final = re.compile(r"[\w.-]+", re.ASCII)
_BARE: Final = re.compile(rf"{_NAME}/{_NAME}(?::[\w.-]+)?(?:@[\w./-]+)?", re.ASCII)
# `Path("https://host")` has one stroke: it is read as the URL that it was.
_URL: Final = re.compile(r"(https?):/+(.*)", re.DOTALL | re.IGNORECASE)
_FORCED: Final = re.compile(r"hf:/*(.*)", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HubAddress:
    """A repository of the Hub, or one model of it."""

    repo: str
    """``owner/name``."""
    file: str = ""
    """A path within the repository; empty for none."""
    tag: str = ""
    """A type of weights, such as ``Q4_K_M``."""
    folder: str = ""
    """Only models in this folder are meant."""
    revision: str = ""
    """A branch, tag or commit; empty for the usual one."""

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        tag = f":{self.tag}" if self.tag else ""
        inside = self.file or self.folder
        return f"hf:{self.repo}{tag}{f'/{inside}' if inside else ''}{revision}"


@dataclass(frozen=True, slots=True)
class WebAddress:
    """A file behind a URL."""

    url: str

    def __str__(self) -> str:
        """Return the URL without what may be secret in it: a password, a link's signature."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    @property
    def file(self) -> str:
        """The name of the file, as the URL has it."""
        return unquote(urlsplit(self.url).path.rstrip("/").rpartition("/")[2])


Address = HubAddress | WebAddress


def address_of(word: str) -> Address | None:
    """Return what a word names elsewhere; None where it can only be a path.

    A bare ``owner/repo`` may be a path as well: whoever asks looks for that first. Raises
    ``BadUsage`` for what says that it is elsewhere and cannot be read.
    """
    if match := _URL.fullmatch(word):
        return _of_url(match[1].lower(), match[2])
    if match := _FORCED.fullmatch(word):
        return _of_name(match[1], word)
    host, stroke, rest = word.partition("/")
    if stroke and host.lower() in HOSTS:
        return _of_page(rest, word)
    bare = _BARE.fullmatch(word) and not word.lower().endswith(".gguf")
    return _of_name(word, word) if bare else None


def _of_url(scheme: str, rest: str) -> Address:
    url = f"{scheme}://{rest}"
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        own = urlsplit(os.environ.get("HF_ENDPOINT", ""))
    except ValueError:
        host = ""
    if not host:
        raise BadUsage(f"{url!r:.200} is no URL", hint="write https://HOST/PATH/MODEL.gguf")
    if host in HOSTS or (own.hostname and parts.netloc == own.netloc):
        path = parts.path.removeprefix(own.path) if own.netloc == parts.netloc else parts.path
        if not path.startswith(("/datasets/", "/spaces/", "/api/")):
            return _of_page(unquote(path.strip("/")), url)
    return WebAddress(url)


def _of_page(path: str, word: str) -> HubAddress:
    """Read ``owner/repo``, with or without a page of it, as a browser shows it."""
    path, _, _ = path.partition("?")
    owner, _, rest = path.strip("/").partition("/")
    name, _, rest = rest.partition("/")
    page, _, rest = rest.partition("/")
    if page not in _PAGES:
        return _of_name(path.strip("/"), word)
    if rest.startswith("refs/"):
        parts = rest.split("/", 3)
        revision, inside = "/".join(parts[:3]), "".join(parts[3:])
    else:
        revision, _, inside = rest.partition("/")
    where = {"folder": inside} if page == "tree" else {"file": inside}
    return _checked(HubAddress(f"{owner}/{name}", revision=revision, **where), word)


def _of_name(text: str, word: str) -> HubAddress:
    """Read ``owner/repo[:TAG][/file][@revision]``, or the revision before the file."""
    text, at, revision = text.partition("@")
    owner, _, rest = text.partition("/")
    repo, _, file = rest.partition("/")
    repo, _, tag = repo.partition(":")
    if at and not file and "/" in revision:
        parts = revision.split("/", 3 if revision.startswith("refs/") else 1)
        if len(parts) in (2, 4):
            *before, file = parts
            revision = "/".join(before)
    return _checked(HubAddress(f"{owner}/{repo}", file, tag, revision=revision), word)


def _checked(address: HubAddress, word: str) -> HubAddress:
    inside = (address.file or address.folder).split("/")
    odd = ".." in inside or "." in inside or (address.tag and not _TAG.fullmatch(address.tag))
    if not _REPO.fullmatch(address.repo) or odd or (address.tag and address.file):
        raise BadUsage(
            f"{word!r:.200} names no model of the Hub",
            hint="write owner/repo:Q4_K_M, or hf:owner/repo/FILE.gguf@REVISION",
        )
    return address
