"""A repository of the Hub: which models are in it, and which of them is meant."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from ggufscope.container.remote import client
from ggufscope.container.remote.addresses import Address, HubAddress, WebAddress
from ggufscope.container.remote.client import RepositoryFile
from ggufscope.container.remote.source import RemoteFile
from ggufscope.container.shards import shard_of, stem_of_model
from ggufscope.errors import AccessRefused, SeveralModels, SourceNotFound, Unreachable
from ggufscope.spelling import did_you_mean

_TYPE: Final = re.compile(
    r"(?<![A-Za-z0-9])((?:UD-)?(?:I?Q\d+(?:_[A-Z0-9]+)*|TQ\d_\d|MXFP4(?:_MOE)?|NVFP4|BF16|FP?16|FP?32))"
    r"(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_PROJECTOR: Final = "mmproj"
"""What llama.cpp's converter begins the name of a vision part with."""
_SHOWN: Final = 12
"""Types that a hint lists."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A model in a list of files, its shards as one."""

    name: str
    """The path of its file, or of its first shard."""
    nbytes: int
    files: tuple[str, ...]
    missing: int = 0
    """Shards that the list has not."""

    @property
    def type(self) -> str:
        """The type of weights that its name says; empty where it says none."""
        found = _TYPE.findall(PurePosixPath(self.name).name) or _TYPE.findall(self.name)
        return str(found[-1]).upper() if found else ""

    @property
    def stem(self) -> str:
        """Its name without the type: the same for all files of one model."""
        return _TYPE.sub("", stem_of_model(PurePosixPath(self.name).name))

    @property
    def is_projector(self) -> bool:
        """Whether it is a vision part, not a model that runs by itself."""
        return _PROJECTOR in PurePosixPath(self.name).name.lower()


def listed_models(files: Iterable[RepositoryFile]) -> list[Listed]:
    """Put the GGUF files of a list together: shards of a model are one, in order of their names."""
    found: dict[str, list[RepositoryFile]] = {}
    counts: dict[str, int] = {}
    for file in sorted(files, key=lambda file: file.path):
        if file.path.lower().endswith(".gguf"):
            shard = shard_of(file.path)
            stem, count = (shard[0], shard[2]) if shard else (file.path, 1)
            found.setdefault(f"{stem}/{count}", []).append(file)
            counts[f"{stem}/{count}"] = count
    return [
        Listed(
            parts[0].path,
            sum(part.nbytes for part in parts),
            tuple(part.path for part in parts),
            max(0, counts[stem] - len(parts)),
        )
        for stem, parts in found.items()
    ]


def models_of(address: HubAddress) -> tuple[list[Listed], str]:
    """Return the models of a repository, or of a folder of it, and the commit they are of.

    Where the Hub cannot be reached, those in its cache on this machine. Raises what
    ``client.repository`` raises.
    """
    try:
        found = _repository(address)
    except Unreachable:
        cached = client.cached_files(address)
        if not cached:
            raise
        files = [RepositoryFile(name, path.stat().st_size) for name, path in cached.items()]
        return _inside(address, files), address.revision
    return _inside(address, found.files), found.revision


def place_of(address: Address) -> Path | RemoteFile:
    """Return the file that an address stands for: in the Hub's cache on this machine, or there.

    Raises ``SeveralModels`` where it stands for several, and what ``client.ask`` raises.
    """
    if isinstance(address, WebAddress):
        return RemoteFile(
            address.url,
            str(address),
            address.file or "model.gguf",
            "download it, and name the file",
        )
    cached = client.cached_files(address)
    here = _inside(address, [RepositoryFile(name, 0) for name in cached])
    if address.file in cached:
        return cached[address.file]
    if address.tag and (chosen := _tagged(here, address.tag)) and not chosen[0].missing:
        return cached[chosen[0].name]
    file, revision = address.file, address.revision or "main"
    if not file:
        models, revision = models_of(address)
        file = chosen_model(models, address).name
        if file in cached:
            return cached[file]
    return remote_file(address, file, revision)


def remote_file(address: HubAddress, file: str, revision: str) -> RemoteFile:
    """Return a file of a repository, there."""
    name = str(HubAddress(address.repo, file, revision=address.revision))
    there = f" --revision {address.revision}" if address.revision else ""
    shard = shard_of(file)
    what = f"--include '{shard[0]}-*'" if shard else file
    url = client.url_of(address, file, revision)
    hint = f"download it: hf download {address.repo} {what}{there}"
    return RemoteFile(url, name, PurePosixPath(file).name, hint)


def chosen_model(models: Sequence[Listed], address: HubAddress) -> Listed:
    """Return the model that is meant. Raises ``SeveralModels``, or ``SourceNotFound`` for none."""
    whole = [model for model in models if not model.is_projector]
    if not models:
        raise SourceNotFound(
            f"{address} has no GGUF file", hint="look for a repository with -GGUF in its name"
        )
    found = _tagged(models, address.tag) if address.tag else whole or list(models)
    if len(found) == 1:
        return found[0]
    types = list(dict.fromkeys(model.type for model in whole if model.type))
    shown = ", ".join(types[:_SHOWN]) + (", ..." if len(types) > _SHOWN else "")
    some = f"one of {shown}" if types else f"a file, such as hf:{address.repo}/{models[0].name}"
    if not found:
        raise SeveralModels(
            f"{address}: no model of type {address.tag} is there",
            hint=did_you_mean(address.tag, types, f"there is {some}"),
        )
    if not address.tag and types:
        some = f"a type: {address.repo}:{types[0]}; there are {shown}"
    elif address.tag:
        some = f"a file, such as hf:{address.repo}/{found[0].name}"
    raise SeveralModels(f"{address} stands for {len(found)} models", hint=f"name {some}")


def _tagged(models: Sequence[Listed], tag: str) -> list[Listed]:
    """Return the models of a type: those that have it whole, else those whose name has it."""
    word = tag.casefold()
    whole = [model for model in models if not model.is_projector]
    return [model for model in whole if model.type.casefold() == word] or [
        model
        for model in whole
        if re.search(rf"(?:^|[^a-z0-9]){re.escape(word)}(?:[^a-z0-9]|$)", model.name.casefold())
    ]


def _inside(address: HubAddress, files: Iterable[RepositoryFile]) -> list[Listed]:
    folder = f"{address.folder.strip('/')}/" if address.folder else ""
    return listed_models(file for file in files if file.path.startswith(folder))


def _repository(address: HubAddress) -> client.Repository:
    """Ask the Hub, again where it fails; raises what ``client.repository`` raises, with a hint."""
    for wait in (*client.WAITS, None):
        try:
            return client.repository(address)
        except Unreachable as error:
            if wait is None or error.wait is None:
                raise
            time.sleep(max(wait, error.wait))
        except (AccessRefused, SourceNotFound) as error:
            if "gated" not in error.message and "revision" not in error.message:
                error.hint = client.meant(address)
            raise
    raise AssertionError("the last try returns or raises")
