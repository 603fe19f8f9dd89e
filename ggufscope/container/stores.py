"""What other tools have downloaded to this machine, by the names that they have for it.

::

    ollama:llama3.2:3b               lmstudio:publisher/repo/FILE.gguf     jan:MODEL
    llama.cpp:owner_repo_FILE.gguf   gpt4all:FILE.gguf                     hf:owner/repo/FILE.gguf

Where each tool keeps its models, and who says so:

- Ollama: ``OLLAMA_MODELS``, ``~/.ollama/models``, of the service on Linux
  ``/usr/share/ollama/.ollama/models`` (its ``docs/faq.md``). ``manifests/HOST/NAMESPACE/MODEL/TAG``
  is JSON that lists layers; the file of a layer is ``blobs/sha256-HASH``, the hash that of its
  content (``types/model/name.go``, ``manifest/``, ``server/images.go``).
- LM Studio: ``models/PUBLISHER/REPO/FILE`` in its home (lmstudio.ai/docs/basics/import-model),
  which is where ``~/.lmstudio-home-pointer`` says, ``~/.cache/lm-studio`` or ``~/.lmstudio``
  (``findLMStudioHome.ts`` of lmstudio-ai/lms); ``downloadsFolder`` of ``settings.json`` there moves
  the models.
- llama.cpp: ``LLAMA_CACHE``, or ``llama.cpp`` in the system's folder for caches
  (``fs_get_cache_directory`` of ``common/common.cpp``). Since 2026 it shares the Hub's cache
  (``common/hf-cache.cpp``), with the same layout in ``LLAMA_CACHE`` where that is set.
- The Hub's cache: ``models--OWNER--REPO/snapshots/COMMIT/FILE``, links to ``blobs/SHA256``
  (huggingface.co/docs/huggingface_hub/guides/manage-cache).
- Jan: ``llamacpp/models/MODEL/model.yml`` in its data folder, with ``model_path``
  (``modelsDir`` of janhq/jan's extensions), ``models`` before that.
- GPT4All: files in one folder (docs.gpt4all.io/gpt4all_desktop/settings.html), of its Python
  package ``~/.cache/gpt4all`` (docs.gpt4all.io/gpt4all_python.html).
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ggufscope.container.shards import first_shards
from ggufscope.errors import SeveralModels, SourceNotFound
from ggufscope.spelling import did_you_mean

_LONGEST: Final = 1 << 20
"""Bytes of a manifest or of settings; a longer one is none."""
_BLOB: Final = re.compile("(sha256[-:])?[0-9a-f]{64}")
"""What Ollama and the Hub's cache call a file."""
DIGEST: Final = re.compile(r"sha256[:-]([0-9a-f]{64})")
"""What Ollama calls content by: with a colon in a manifest, with a hyphen as the name of a file."""
_OLLAMA: Final = ("registry.ollama.ai", "library")
_LATEST: Final = "latest"
_LAYER: Final = "application/vnd.ollama.image."


@dataclass(frozen=True, slots=True)
class Stored:
    """A model in a store."""

    name: str
    """With the store before it."""
    path: Path
    """Its file, or its first shard."""
    sha256: str = ""
    """Of its content, where the store names files by it."""


def stored_models() -> list[Stored]:
    """Return what all stores have, store by store."""
    return [model for listed in STORES.values() for model in listed()]


def is_blob(path: Path) -> bool:
    """Return whether a file, links followed, is named by the SHA-256 of its content."""
    return _BLOB.fullmatch(path.resolve().name) is not None


def path_of(word: str) -> Path | None:
    """Return the file of a model by its name in a store; None where no store is named.

    Part of a name will do where one model alone has it: up to a stroke or a colon or, where none
    begins so, whole words anywhere in it. Raises ``SourceNotFound``, or ``SeveralModels``.
    """
    store, colon, rest = word.partition(":")
    listed = STORES.get(store.lower()) if colon else None
    if listed is None or store.lower() == _HUB:
        return None
    models = {model.name.casefold(): model for model in listed()}
    asked = f"{store.lower()}:{rest}".casefold()
    if store.lower() == "ollama" and f"{asked}:{_LATEST}" in models:
        asked += f":{_LATEST}"
    if asked in models:
        return models[asked].path
    found = [model for name, model in models.items() if name.startswith((f"{asked}/", f"{asked}:"))]
    if not found and rest:
        words = re.compile(rf"(?<![^\W_]){re.escape(rest.casefold())}(?![^\W_])")
        found = [m for name, m in models.items() if words.search(name, len(store) + 1)]
    if len(found) == 1:
        return found[0].path
    names = [model.name for model in models.values()]
    if found:
        raise SeveralModels(
            f"{word} stands for {len(found)} models", hint=f"name one, such as {found[0].name}"
        )
    raise SourceNotFound(
        f"{word}: there is no such model on this machine",
        hint=did_you_mean(word, names, "`ggufscope list --local` shows what is there"),
    )


def _ollama() -> Iterator[Stored]:
    said = os.environ.get("OLLAMA_MODELS")
    folders = [Path(said)] if said else [_home() / ".ollama" / "models"]
    if not said and sys.platform == "linux":
        folders.append(Path("/usr/share/ollama/.ollama/models"))
    for folder in folders:
        manifests = folder / "manifests"
        for manifest in _files(manifests):
            parts = manifest.relative_to(manifests).parts
            if len(parts) == 4 and not parts[3].startswith("."):
                yield from _layers(_ollama_name(parts), _json(manifest), folder / "blobs")


def _ollama_name(parts: tuple[str, ...]) -> str:
    """Return the name as ``ollama list`` shows it: without the usual host and namespace."""
    host, namespace, model, tag = parts
    owner = "" if namespace == _OLLAMA[1] and host == _OLLAMA[0] else f"{namespace}/"
    return f"ollama:{'' if host == _OLLAMA[0] else f'{host}/'}{owner}{model}:{tag}"


def _layers(name: str, manifest: Any, blobs: Path) -> Iterator[Stored]:
    """Return the layers that are GGUF files: the model, and beside it a vision part or a LoRA."""
    layers = manifest.get("layers") if isinstance(manifest, dict) else None
    for layer in layers if isinstance(layers, list) else ():
        kind = str(layer.get("mediaType")) if isinstance(layer, dict) else ""
        digest = DIGEST.fullmatch(str(layer.get("digest"))) if kind else None
        part = kind.removeprefix(_LAYER)
        if digest and kind.startswith(_LAYER) and part in ("model", "projector", "adapter"):
            blob = blobs / f"sha256-{digest[1]}"
            yield Stored(name if part == "model" else f"{name}/{part}", blob, digest[1])


def _lm_studio() -> Iterator[Stored]:
    home = next((each for each in _lm_studio_homes() if each.is_dir()), None)
    if home is None:
        return
    settings = _json(home / "settings.json")
    moved = settings.get("downloadsFolder") if isinstance(settings, dict) else None
    yield from _tree("lmstudio", Path(moved) if isinstance(moved, str) else home / "models")


def _lm_studio_homes() -> Iterator[Path]:
    pointer = _text(_home() / ".lmstudio-home-pointer").strip()
    if pointer:
        yield Path(pointer)
    yield _home() / ".cache" / "lm-studio"
    yield _home() / ".lmstudio"


def _llama_cpp() -> Iterator[Stored]:
    said = os.environ.get("LLAMA_CACHE")
    folder = Path(said) if said else _caches() / "llama.cpp"
    yield from (
        Stored(f"llama.cpp:{path.name}", path)
        for path in first_shards(_files(folder, deep=False))
        if _is_gguf(path)
    )
    if said:
        for repo, _, file, path in _snapshots(folder):
            yield Stored(f"llama.cpp:{repo}/{file}", path, _linked_hash(path))


def _hub() -> Iterator[Stored]:
    from ggufscope.container.remote.client import cache_folder

    for repo, commit, file, path in _snapshots(cache_folder()):
        revision = f"@{commit}" if commit else ""
        yield Stored(f"{_HUB}:{repo}/{file}{revision}", path, _linked_hash(path))


def _snapshots(folder: Path) -> Iterator[tuple[str, str, str, Path]]:
    """Return (repository, commit, file, path); the commit is empty for the one ``main`` is at."""
    for cached in sorted(folder.glob("models--*--*")):
        repo = cached.name.removeprefix("models--").replace("--", "/")
        main = _text(cached / "refs" / "main").strip()
        for snapshot in sorted((cached / "snapshots").glob("*")):
            commit = "" if snapshot.name == main else snapshot.name
            for path in first_shards(filter(_is_gguf, _files(snapshot))):
                yield repo, commit, path.relative_to(snapshot).as_posix(), path


def _linked_hash(path: Path) -> str:
    """Return the SHA-256 that a link into the Hub's cache leads to; empty where it is none."""
    target = path.readlink().name if path.is_symlink() else ""
    return target if re.fullmatch("[0-9a-f]{64}", target) else ""


def _jan() -> Iterator[Stored]:
    for data in _jan_folders():
        models = data / "llamacpp" / "models"
        for manifest in _files(models):
            line = re.search(r"^model_path:\s*(.+?)\s*$", _text(manifest), re.MULTILINE)
            if manifest.name == "model.yml" and line:
                name = manifest.parent.relative_to(models).as_posix()
                yield Stored(f"jan:{name}", data / line[1].strip("'\""))
        yield from _tree("jan", data / "models")


def _jan_folders() -> Iterator[Path]:
    app = _data() / "Jan"
    settings = _json(app / "settings.json")
    moved = settings.get("data_folder") if isinstance(settings, dict) else None
    found = [Path(moved)] if isinstance(moved, str) else [app / "data"]
    yield from dict.fromkeys([*found, _home() / "jan"])


def _gpt4all() -> Iterator[Stored]:
    own = Path(os.environ.get("LOCALAPPDATA", "")) if sys.platform == "win32" else _data()
    for folder in (own / "nomic.ai" / "GPT4All", _home() / ".cache" / "gpt4all"):
        for path in filter(_is_gguf, _files(folder, deep=False)):
            yield Stored(f"gpt4all:{path.name}", path)


_HUB: Final = "hf"
STORES: Final[dict[str, Callable[[], Iterable[Stored]]]] = {
    "ollama": _ollama,
    "lmstudio": _lm_studio,
    "llama.cpp": _llama_cpp,
    _HUB: _hub,
    "jan": _jan,
    "gpt4all": _gpt4all,
}
"""What begins a name, and what lists the models of that store."""


def _tree(store: str, folder: Path) -> Iterator[Stored]:
    for path in first_shards(filter(_is_gguf, _files(folder))):
        yield Stored(f"{store}:{path.relative_to(folder).as_posix()}", path)


def _files(folder: Path, *, deep: bool = True) -> Iterator[Path]:
    """Return the files in a folder, in order; what may not be read is left out."""
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(folders) if deep else []
        yield from (Path(where, name) for name in sorted(names))


def _is_gguf(path: Path) -> bool:
    return path.suffix.lower() == ".gguf"


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LONGEST:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return ""


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError):
        return None


def _home() -> Path:
    return Path.home()


def _caches() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", ""))
    if sys.platform == "darwin":
        return _home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache")


def _data() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA", ""))
    if sys.platform == "darwin":
        return _home() / "Library" / "Application Support"
    return Path(os.environ.get("XDG_DATA_HOME") or _home() / ".local" / "share")
