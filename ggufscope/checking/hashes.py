"""Hashes of the tensors, in the manifest of ``llama-gguf-hash``: made, and held against one.

A manifest has a line for each tensor and one for all of them, one after the other, without the
header and the padding: ``xxh64     f66e9cd66a4396a0  model.gguf:output.weight``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

from ggufscope.blocks.xxh64 import XXH64
from ggufscope.checking.findings import Finding, TensorHash, error, note, warning
from ggufscope.container.file import GGUFFile, Tensor
from ggufscope.container.source import LocalFile, read_into
from ggufscope.container.stores import DIGEST
from ggufscope.errors import BadUsage


class _Hash(Protocol):
    def update(self, data: memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


def _of_openssl(name: str) -> _Hash:
    import hashlib  # it loads OpenSSL, which a check without hashes need not wait for

    return hashlib.new(name, usedforsecurity=False)


ALGORITHMS: Final[dict[str, Callable[[], _Hash]]] = {
    "sha256": lambda: _of_openssl("sha256"),
    "sha1": lambda: _of_openssl("sha1"),
    "xxh64": XXH64,
}
"""The strongest first."""

_LINE: Final = re.compile(r"(\w+)\s+([0-9a-fA-F]+)\s+(.+?)(?:  -  [\w ]+)?\s*")
_LONGEST_LINE: Final = 1 << 13
"""Characters: a path has 4,096 at the most, a tensor's name 63."""
_SLAB: Final = 1 << 22
_AGAIN: Final = "download it again, and check it again; or the manifest is of another file"


class TensorHashes:
    """The hash of each tensor, as their bytes come by (a ``payload.Sink``)."""

    def __init__(self, algorithm: str) -> None:
        self._algorithm, self._make = algorithm, ALGORITHMS[algorithm]
        self._hash = self._make()
        self.found: list[TensorHash] = []

    def take(self, tensor: Tensor, start: int, data: memoryview) -> None:
        """Take the bytes of a tensor from ``start`` on."""
        if start == 0:
            self._hash = self._make()
        self._hash.update(data)
        if start + len(data) == tensor.nbytes:
            path = tensor.shard.source.name
            self.found.append(
                TensorHash(self._algorithm, self._hash.hexdigest(), path, tensor.name)
            )


class FileHashes:
    """The hash of all tensors of each file of a model (a ``payload.Sink``)."""

    def __init__(self, algorithm: str, file: GGUFFile) -> None:
        self._algorithm = algorithm
        make = ALGORITHMS[algorithm]
        self._hashes = {shard.source.name: make() for shard in file.shards}

    def take(self, tensor: Tensor, start: int, data: memoryview) -> None:
        """Take the bytes of a tensor from ``start`` on."""
        self._hashes[tensor.shard.source.name].update(data)

    @property
    def found(self) -> list[TensorHash]:
        """The hash of each file, when all bytes were taken."""
        return [
            TensorHash(self._algorithm, each.hexdigest(), path)
            for path, each in self._hashes.items()
        ]


def in_order(
    file: GGUFFile, tensors: Iterable[TensorHash], files: Iterable[TensorHash]
) -> Iterator[TensorHash]:
    """Yield the lines of a manifest: the tensors of a file, empty ones too, then the file."""
    by_name = {(each.path, each.tensor): each for each in tensors}
    for whole in files:
        for tensor in file.tensors.values():
            if tensor.shard.source.name != whole.path:
                continue
            found = by_name.get((whole.path, tensor.name))
            empty = ALGORITHMS[whole.algorithm]().hexdigest()
            yield found or TensorHash(whole.algorithm, empty, whole.path, tensor.name)
        yield whole


def parse_manifest(text: str, name: object) -> list[TensorHash]:
    """Read the lines of a manifest that are hashes; other lines are passed over, as upstream does.

    Raises ``BadUsage`` where there is none.
    """
    found = []
    for line in text.splitlines():
        match = _LINE.fullmatch(line) if len(line) <= _LONGEST_LINE else None
        if match and match[1] in ALGORITHMS:
            path, colon, tensor = match[3].rpartition(":")
            whole = not colon or match[3].endswith(".gguf")
            found.append(
                TensorHash(match[1], match[2].lower(), match[3])
                if whole
                else TensorHash(match[1], match[2].lower(), path, tensor)
            )
    if not found:
        raise BadUsage(
            f"{name} has no line with a hash of {', '.join(ALGORITHMS)}",
            hint="`ggufscope check MODEL --hash sha256` and llama-gguf-hash write such lines",
        )
    return found


def strongest(manifest: Sequence[TensorHash]) -> str:
    """Return the best algorithm of a manifest."""
    used = {each.algorithm for each in manifest}
    return next(name for name in ALGORITHMS if name in used)


def verify_findings(
    hashes: Sequence[TensorHash], manifest: Sequence[TensorHash]
) -> Iterator[Finding]:
    """Yield where the hashes are not those of a manifest.

    Names are paths as they were typed when it was made: where none is the same, those of the same
    file name are taken.
    """
    used = {each.algorithm for each in hashes}
    wanted = [each for each in manifest if each.algorithm in used]
    said = {(each.path, each.tensor): each.digest for each in wanted}
    named = {(each.file, each.tensor): each.digest for each in wanted}
    matched, missing = 0, []
    for each in hashes:
        digest = said.get((each.path, each.tensor)) or named.get((each.file, each.tensor))
        if digest is None:
            missing.append(each)
        elif digest != each.digest:
            what = f"tensor {each.tensor!r}" if each.tensor else f"{each.file}, all tensors of it"
            yield error(
                "hash",
                f"{what}: {each.algorithm} is {each.digest}, the manifest has {digest}",
                "the bytes are not those that the manifest was made of",
                _AGAIN,
                "Mismatch",
                tensor=each.tensor,
            )
        else:
            matched += 1
    whole = any(each.tensor is None and each not in missing for each in hashes)
    if not matched and len(missing) == len(hashes):
        yield error(
            "hash",
            f"the manifest has no line for {hashes[0].file} in {sorted(used)[0]}"
            if hashes
            else "there is nothing to hash",
            "nothing was verified",
            "name the manifest of this file; its lines name the file that they are of",
            "Manifest Missing Entry",
        )
    elif missing and not whole:
        first = missing[0].tensor or missing[0].file
        yield warning(
            "hash",
            f"the manifest has no line for {len(missing)} of {len(hashes)} hashes, the first of "
            f"{first!r}",
            "these bytes were not verified",
            "make the manifest anew from the file that is known to be right",
            "Not Found",
        )
    files = {each.file for each in hashes}
    here = {(each.file, each.tensor) for each in hashes}
    gone = [
        each
        for each in wanted
        if each.file in files and each.tensor is not None and (each.file, each.tensor) not in here
    ]
    if gone:
        yield error(
            "hash",
            f"{len(gone)} tensors of the manifest are not in the file, the first "
            f"{gone[0].tensor!r}",
            "the file is not the one that the manifest was made of",
            _AGAIN,
            tensor=gone[0].tensor,
        )


def blob_findings(path: Path, progress: Callable[[int, int], object]) -> Iterator[Finding]:
    """Yield whether a blob of Ollama's, which is named by its own hash, still has that hash."""
    named = DIGEST.fullmatch(path.name)
    if named is None:
        return
    source, found = LocalFile(path), _of_openssl("sha256")
    buffer = memoryview(bytearray(_SLAB))
    for start in range(0, source.size, _SLAB):
        part = buffer[: min(_SLAB, source.size - start)]
        read_into(path, source.identity, start, part, "the file")
        found.update(part)
        progress(start + len(part), source.size)
    if found.hexdigest() == named[1]:
        yield note(
            "hash",
            "it is a blob of Ollama's, and has the SHA-256 that its name says",
            "every byte is as Ollama downloaded it",
            "nothing has to be done",
        )
    else:
        yield error(
            "hash",
            f"it is a blob of Ollama's, and its SHA-256 is {found.hexdigest()}, not its name",
            "the file was damaged or changed after Ollama downloaded it",
            "have Ollama download it again: `ollama rm` and `ollama pull` of the model",
        )
