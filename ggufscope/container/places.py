"""Where a model is that a word names: a path here comes before all else."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ggufscope.container.remote.addresses import Address
    from ggufscope.container.remote.source import RemoteFile


def place_of(model: str | os.PathLike[str]) -> Path | RemoteFile:
    """Return the file that is meant: by its path, its name in a store, or an address elsewhere.

    What leads nowhere and is no address is a path all the same. Raises what ``stores.path_of`` and
    ``hub.place_of`` raise.
    """
    stored = path_in_store(model)
    if stored is not None:
        return stored
    address = address_elsewhere(model)
    if address is None:
        return Path(model)
    from ggufscope.container.remote import hub

    return hub.place_of(address)


def name_of(model: str | os.PathLike[str], place: Path) -> Path:
    """Return a name for a file that was found by another: its own, or where that is a hash, that.

    ``ollama:llama3.2:3b`` -> ``llama3.2-3b.gguf``.
    """
    if place.suffix.lower() == ".gguf":
        return Path(place.name)
    return Path(f"{re.sub('[:/]', '-', _word(model).partition(':')[2])}.gguf")


def address_elsewhere(model: str | os.PathLike[str]) -> Address | None:
    """Return the address that is meant; None for a path, be there something or not.

    ``owner/repo`` is a path where there is a folder ``owner`` here.
    """
    if _is_here(model):
        return None
    word = _word(model)
    from ggufscope.container.remote.addresses import HubAddress, address_of

    address = address_of(word)
    bare = isinstance(address, HubAddress) and word.startswith(f"{address.repo.split('/')[0]}/")
    return None if bare and _is_here(word.partition("/")[0]) else address


def path_in_store(model: str | os.PathLike[str]) -> Path | None:
    """Return the file that another tool on this machine has under a name, such as ``ollama:NAME``.

    None for what names no store. Raises what ``stores.path_of`` raises.
    """
    if _is_here(model) or ":" not in os.fspath(model):
        return None
    from ggufscope.container.stores import path_of

    return path_of(_word(model))


def names_another_place(model: str | os.PathLike[str]) -> bool:
    """Return whether this is no path, but the name of a model in a store, or an address.

    Raises what ``stores.path_of`` raises.
    """
    return path_in_store(model) is not None or address_elsewhere(model) is not None


def _word(model: str | os.PathLike[str]) -> str:
    return model.as_posix() if isinstance(model, PurePath) else os.fspath(model)


def _is_here(path: str | os.PathLike[str]) -> bool:
    try:
        return os.path.lexists(path)
    except (OSError, ValueError):  # too long for a name, or a NUL in it
        return False
