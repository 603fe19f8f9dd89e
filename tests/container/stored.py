"""Models laid out on a disk as other tools do it; `container/stores.py` cites who says so."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path


def ollama(models: Path, name: str, *layers: tuple[str, bytes]) -> None:
    """Lay out a model as `ollama pull` does; `name` is HOST/NAMESPACE/MODEL/TAG."""
    listed = []
    for kind, data in layers:
        digest = hashlib.sha256(data).hexdigest()
        blob = models / "blobs" / f"sha256-{digest}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        kind = f"application/vnd.ollama.image.{kind}"
        listed.append({"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)})
    manifest = models / "manifests" / name
    manifest.parent.mkdir(parents=True, exist_ok=True)
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    manifest.write_text(json.dumps({"schemaVersion": 2, "mediaType": kind, "layers": listed}))


def hub_cache(cache: Path, repo: str, commit: str, file: str, data: bytes) -> Path:
    """Lay out a file as `hf download` does."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    blob = folder / "blobs" / hashlib.sha256(data).hexdigest()
    path = folder / "snapshots" / commit / file
    for each in (blob, path, folder / "refs" / "main"):
        each.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(data)
    path.symlink_to(blob)
    (folder / "refs" / "main").write_text(commit)
    return path
