"""The one door to the network: requests go through the client of ``huggingface_hub``.

So its rules hold, and a proxy, a mirror or a token that serves it serves this program too:
``HF_TOKEN``, ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``, ``HF_HUB_CACHE``, ``HTTPS_PROXY``. Its import
takes half a second, so it waits for the first call.

The client follows redirects, twenty at the most, and takes the token out of the request where one
leads to another host (``_redirect_headers`` of httpx).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from importlib import import_module
from json import JSONDecodeError
from pathlib import Path
from typing import Any, Final

from ggufscope.container.remote.addresses import HubAddress
from ggufscope.errors import AccessRefused, ServerLied, SourceError, SourceNotFound, Unreachable
from ggufscope.spelling import did_you_mean

WAITS: Final = (0.5, 1.0, 2.0, 4.0)
"""Seconds before each further try."""
LONGEST_WAIT: Final = 30.0
"""Seconds that a server may ask us to wait; where it wants more, we say so and end."""
_RANGE: Final = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")
_NOT_NOW: Final = {408, 425, 500, 502, 503, 504}
_ALIKE: Final = 20
"""Repositories of a similar name that are asked for."""
_LATER: Final = "check the connection, or try again later"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server says to a request for a range, before the bytes come."""

    start: int
    """Where the bytes begin in the file."""
    size: int
    """Of the whole file."""
    ranges: bool
    """Whether the range was heeded; otherwise the file comes whole."""
    state: str
    """Which state of the file it is: its ETag, or the date when it was changed."""
    place: str
    """The URL that the file was found at, after all redirects."""
    pieces: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class RepositoryFile:
    """A file of a repository."""

    path: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class Repository:
    """What the Hub says of a repository."""

    name: str
    revision: str
    """The commit."""
    files: tuple[RepositoryFile, ...]


@contextmanager
def ask(name: str, url: str, start: int, stop: int) -> Iterator[Answer]:
    """Ask for the bytes of ``[start, stop)`` of a file; ``name`` is what it is called in errors.

    Raises ``Unreachable``, ``AccessRefused``, ``SourceNotFound`` or ``ServerLied``, inside the
    block too, where the connection breaks.
    """
    from huggingface_hub import constants, get_session

    headers = {
        **_headers(url),
        "Range": f"bytes={start}-{stop - 1}",
        "Accept-Encoding": "identity",  # of what is compressed no part can be had
    }
    patience = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with (
        _in_words(name),
        get_session().stream("GET", url, headers=headers, timeout=patience) as response,
    ):
        yield _answer(name, response, start, stop)


def url_of(address: HubAddress, file: str, revision: str) -> str:
    """Return where the Hub has a file."""
    from huggingface_hub import constants, hf_hub_url

    return hf_hub_url(address.repo, file, revision=revision, endpoint=constants.ENDPOINT)


def repository(address: HubAddress) -> Repository:
    """Ask the Hub what is in a repository. Raises what ``ask`` raises."""
    from huggingface_hub import HfApi, constants

    name = str(HubAddress(address.repo, revision=address.revision))
    try:
        with _in_words(name):
            info = HfApi(library_name="ggufscope").model_info(
                address.repo,
                revision=address.revision or None,
                files_metadata=True,
                timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
            )
        files = tuple(
            RepositoryFile(str(each.rfilename), int(each.size or 0)) for each in info.siblings or ()
        )
        return Repository(address.repo, info.sha or address.revision or "main", files)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unreadable(name, error) from None


def names_like(address: HubAddress) -> list[str]:
    """Ask the Hub which repositories may have been meant; nothing where it does not say."""
    from huggingface_hub import constants, get_session

    owner, _, repo = address.repo.partition("/")
    bare = re.sub(r"[-_.]gguf$", "", repo, flags=re.IGNORECASE)
    found: list[str] = []
    for asked in ({"search": bare}, {"author": owner}):
        try:
            url = f"{constants.ENDPOINT}/api/models"
            with _in_words(url):
                response = get_session().get(
                    url,
                    params={**asked, "filter": "gguf", "limit": _ALIKE},
                    headers=_headers(url),
                    timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
                )
                found += [str(each["id"]) for each in response.json()[:_ALIKE]]
        except (SourceError, KeyError, TypeError):
            return found
    return found


def cache_folder() -> Path:
    """Return where the Hub's files are kept on this machine."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def cached_files(address: HubAddress) -> dict[str, Path]:
    """Return the files of a repository that are in the Hub's cache on this machine, by name."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = cache_folder() / repo_folder_name(repo_id=address.repo, repo_type="model")
    revision = address.revision or constants.DEFAULT_REVISION
    reference = folder / "refs" / revision
    try:
        commit = reference.read_text() if reference.is_file() else revision
        inside = folder / "snapshots" / commit
        return {
            path.relative_to(inside).as_posix(): path
            for path in sorted(inside.rglob("*"))
            if path.is_file()
        }
    except (OSError, ValueError):
        return {}


def _headers(url: str) -> dict[str, str]:
    """Return who asks; with the token where the Hub is asked, and nowhere else."""
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # public

    own = url.startswith(f"{constants.ENDPOINT}/")
    return build_hf_headers(token=None if own else False, library_name="ggufscope")


def _answer(name: str, response: Any, start: int, stop: int) -> Answer:
    status, headers = response.status_code, response.headers
    state = headers.get("ETag") or headers.get("Last-Modified") or ""
    if headers.get("Content-Encoding", "identity") != "identity":
        raise ServerLied(
            f"{name}: the server sends it compressed, though it was asked not to",
            hint="download the file, and name that",
        )
    place, pieces = str(response.url), _pieces(name, response)
    if status == HTTPStatus.PARTIAL_CONTENT:
        said = headers.get("Content-Range", "")
        match = _RANGE.fullmatch(said.strip())
        first, last, size = (int(each or -1) for each in match.groups()) if match else (-1, -1, -1)
        if first != start or not start <= last < min(stop, size):
            raise ServerLied(
                f"{name}: the server was asked for bytes {start} to {stop - 1}, and says that it "
                f"sends {said!r:.80}",
                hint="download the file, and name that",
            )
        return Answer(start, size, True, state, place, pieces)
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        match = _RANGE.fullmatch(headers.get("Content-Range", "").strip())
        if match and match[1] is None and int(match[3]) <= start:
            return Answer(start, int(match[3]), True, state, place, iter(()))
    if status == HTTPStatus.OK:
        length = headers.get("Content-Length", "")
        if not length.isdecimal():
            raise ServerLied(
                f"{name}: the server does not say how long the file is",
                hint="download the file, and name that",
            )
        return Answer(0, int(length), False, state, place, pieces)
    raise refusal(name, status, headers)


def _pieces(name: str, response: Any) -> Iterator[bytes]:
    with _in_words(name):
        yield from response.iter_raw()


def refusal(name: str, status: int, headers: Mapping[str, str]) -> SourceError:
    """Return what an HTTP status means, in a sentence; ``X-Error-Code`` is the Hub's."""
    code = headers.get("X-Error-Code", "")
    number = f"({status})"
    if code == "GatedRepo":
        return AccessRefused(
            f"{name} is gated: its owner lets in only those who accept the terms {number}",
            hint="accept them on the model's page, then `hf auth login` or set HF_TOKEN",
        )
    if code == "RevisionNotFound":
        return SourceNotFound(
            f"{name}: the repository has no such revision {number}", hint="leave out @REVISION"
        )
    if status in (404, 410) or code in ("EntryNotFound", "RepoNotFound"):
        what = "no such repository, or a private one" if code == "RepoNotFound" else "no such file"
        return SourceNotFound(f"{name}: {what} {number}", hint="check the name")
    if status == HTTPStatus.UNAUTHORIZED:
        return AccessRefused(
            f"{name}: the server wants to know who asks {number}: it is private, or not there",
            hint="check the name; for a private model `hf auth login`, or set HF_TOKEN",
        )
    if status == HTTPStatus.FORBIDDEN:
        return AccessRefused(
            f"{name}: the server does not let you have it {number}",
            hint="check that your token may read it, or that the link is not too old",
        )
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        wait = _seconds(headers)
        later = f"; in {wait:.0f} seconds it will answer again" if wait else ""
        return Unreachable(
            f"{name}: the server had too many requests from here {number}{later}",
            hint="wait a little; with a token (HF_TOKEN) the Hub answers more",
            wait=wait if wait <= LONGEST_WAIT else None,
        )
    wait = _seconds(headers)
    now = status in _NOT_NOW and wait <= LONGEST_WAIT
    return Unreachable(
        f"{name}: the server failed {number}"
        if status in _NOT_NOW
        else f"{name}: the server answers with {status}, which is no file",
        hint=_LATER if now else "check the URL",
        wait=wait if now else None,
    )


def _seconds(headers: Mapping[str, str]) -> float:
    """Return how long a server wants us to wait: ``Retry-After``, or ``t`` of ``RateLimit``."""
    after = headers.get("Retry-After", "").strip()
    if after.isdecimal():
        return float(after[:9])
    match = re.search(r"\bt=(\d{1,9})\b", headers.get("RateLimit", ""))
    return float(match[1]) if match else 0.0


@contextmanager
def _in_words(name: str) -> Iterator[None]:
    """Turn what the client raises into errors of this program."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    # httpx, or its successor: whichever the installed huggingface_hub was built on.
    http: Any = import_module(HfHubHTTPError.__bases__[0].__module__.partition(".")[0])
    try:
        yield
    except OfflineModeIsEnabled:
        raise Unreachable(
            f"{name} is not on this machine, and HF_HUB_OFFLINE is set",
            hint="unset it, or name a file that is here",
            wait=None,
        ) from None
    except HfHubHTTPError as error:
        raise refusal(name, error.response.status_code, error.response.headers) from None
    except http.TimeoutException:
        raise Unreachable(
            f"{name}: the server did not answer in time",
            hint=f"{_LATER}; HF_HUB_DOWNLOAD_TIMEOUT is how many seconds it has",
        ) from None
    except http.TooManyRedirects:
        raise ServerLied(
            f"{name}: the server leads from one redirect to the next, without end",
            hint="check the URL",
        ) from None
    except (http.UnsupportedProtocol, http.InvalidURL, UnicodeError) as error:
        raise SourceNotFound(
            f"{name} leads to no URL that can be read: {error}", hint="check the URL"
        ) from None
    except http.HTTPError as error:
        said = str(error) or type(error).__name__
        raise Unreachable(f"{name}: the connection failed: {said}", hint=_LATER) from None
    except HFValidationError as error:
        raise SourceNotFound(f"{name} cannot be: {error}", hint="check the name") from None
    except JSONDecodeError as error:
        raise _unreadable(name, error) from None


def _unreadable(name: str, error: Exception) -> ServerLied:
    said = f"{type(error).__name__}: {error}"
    return ServerLied(
        f"{name}: the Hub's answer cannot be read ({said:.100})", hint="check HF_ENDPOINT"
    )


def meant(address: HubAddress) -> str:
    """Return a hint for a repository that is not there: which may have been meant."""
    private = "check the name; for a private one `hf auth login`, or set HF_TOKEN"
    return did_you_mean(address.repo, names_like(address), private)
