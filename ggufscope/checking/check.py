"""Is a model sound? All checks of one model, in order, and what was found.

::

    checked = check("model.gguf")
    print(checked.verdict)
    for finding in checked.findings:
        print(finding.grade, finding.what)
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ggufscope.checking.belonging import belonging_findings
from ggufscope.checking.findings import Checked, Finding, Grade, TensorHash, error
from ggufscope.checking.hashes import (
    FileHashes,
    TensorHashes,
    blob_findings,
    in_order,
    strongest,
    verify_findings,
)
from ggufscope.checking.hyperparameters import hyperparameters_are_read, metadata_findings
from ggufscope.checking.payload import Progress, payload_findings
from ggufscope.checking.recipe import recipe_findings, type_rules
from ggufscope.checking.structure import kind_of, refusal, structure_findings
from ggufscope.checking.template import template_findings
from ggufscope.checking.tensors import tensor_findings
from ggufscope.checking.vocabulary import tokenizer_findings
from ggufscope.container.file import GGUFFile, open_gguf
from ggufscope.errors import FormatError, GGUFScopeError, ShardError
from ggufscope.model.keys import architecture_of
from ggufscope.model.required import REQUIRED
from ggufscope.recipes.fit import Fit, fits_of, recipe_in_words

_MODELS: Final = ("model", "vocabulary", "metadata")
"""Kinds whose metadata are those of a model."""


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What is looked at beside the header."""

    quick: bool = False
    """The header alone."""
    algorithm: str | None = None
    """Of the hashes that are made: a name of ``hashes.ALGORITHMS``."""
    layers: bool = True
    """A hash for each tensor, not for each file alone."""
    manifest: Sequence[TensorHash] = ()
    """What the hashes are held against."""
    belonging: Sequence[Path] = ()
    """Other files, each of which is to belong to the model."""
    threads: int | None = None


DEFAULTS: Final = CheckOptions()


def check(
    model: str | os.PathLike[str],
    options: CheckOptions = DEFAULTS,
    progress: Progress = lambda *_: None,
) -> Checked:
    """Look at all that can be wrong with a model, by the path of its file or of any shard.

    A file that is no GGUF, or is cut off, is an answer: ``Checked.readable`` is false. Raises
    ``SourceError`` where the bytes cannot be had.
    """
    path = Path(model)
    try:
        file = open_gguf(path)
    except (FormatError, ShardError) as refused:
        return unreadable(path, refused)
    with file:
        return check_file(file, options, progress)


def unreadable(path: Path, refused: GGUFScopeError) -> Checked:
    """Return what is said of a file that cannot be read at all."""
    return Checked(path, "", (refusal(refused),), ("structure",), readable=False)


def check_file(
    file: GGUFFile, options: CheckOptions = DEFAULTS, progress: Progress = lambda *_: None
) -> Checked:
    """Look at all that can be wrong with an open model.

    Raises what ``check`` raises, and what ``open_gguf`` does for a file of ``options.belonging``:
    before any weight is read.
    """
    with ExitStack() as stack:
        others = [stack.enter_context(open_gguf(path)) for path in options.belonging]
        return _check_file(file, others, options, progress)


def _check_file(
    file: GGUFFile, others: Sequence[GGUFFile], options: CheckOptions, progress: Progress
) -> Checked:
    kind = kind_of(file)
    fits = fits_of(list(file.tensors.values()), file.metadata) if kind in _MODELS else []
    found = [*header_findings(file, fits)]
    looked_at = _looked_at(file, kind, fits)
    hashes: list[TensorHash] = []
    if not options.quick and file.no_file is None:
        looked_at.append("weights")
        hashes = _read_all(file, options, found, progress)
    if options.manifest and not options.quick:
        looked_at.append("hash")
        found += verify_findings(hashes, options.manifest)
    for other in others:
        looked_at.append("with")
        found += _with(file, other)
    order = [*Grade]
    found.sort(key=lambda finding: order.index(finding.grade))
    return Checked(
        file.path,
        kind,
        tuple(found),
        tuple(dict.fromkeys(looked_at)),
        tensors=len(file.tensors),
        nbytes=file.nbytes,
        recipe=recipe_in_words(file.metadata, fits),
        type_rules=type_rules(file),
        hashes=tuple(hashes) if options.algorithm else (),
    )


def _looked_at(file: GGUFFile, kind: str, fits: list[Fit]) -> list[str]:
    """Return what ``header_findings`` can judge of this file: names of ``SUBJECTS``."""
    if kind not in _MODELS:
        return ["structure"]
    judged = {
        "structure": True,
        "metadata": hyperparameters_are_read(file),
        "tensors": kind == "model" and architecture_of(file.metadata) in REQUIRED,
        "tokenizer": True,
        "template": True,
        "recipe": bool(fits),
    }
    return [name for name, is_judged in judged.items() if is_judged]


def header_findings(
    file: GGUFFile, fits: list[Fit] | None = None, *, tokenizer: bool = True
) -> Iterator[Finding]:
    """Yield what the header says against itself; ``tokenizer``: the vocabulary as well.

    ``fits``: what ``fits_of`` has found, where that is known already.
    """
    yield from structure_findings(file)
    if kind_of(file) not in _MODELS:
        return
    yield from metadata_findings(file)
    yield from tensor_findings(file)
    if tokenizer:
        yield from tokenizer_findings(file.metadata)
    yield from template_findings(file.metadata)
    if fits is None:
        fits = fits_of(list(file.tensors.values()), file.metadata)
    yield from recipe_findings(file, fits)


def _read_all(
    file: GGUFFile, options: CheckOptions, found: list[Finding], progress: Progress
) -> list[TensorHash]:
    """Read every weight once, for whoever wants to see it; return the hashes."""
    algorithm = options.algorithm or (strongest(options.manifest) if options.manifest else None)
    wholes = [FileHashes(algorithm, file)] if algorithm else []
    each = [TensorHashes(algorithm)] if algorithm and options.layers else []
    found += payload_findings(file, [*wholes, *each], options.threads, progress)
    found += blob_findings(file.path, lambda done, total: progress(done, total, "SHA-256"))
    files = wholes[0].found if wholes else []
    return [*in_order(file, each[0].found, files)] if each else files


def _with(file: GGUFFile, other: GGUFFile) -> list[Finding]:
    """Return whether another file belongs to a model: none does that cannot be loaded itself."""
    found = [*belonging_findings(file, other)]
    if any(each.grade is Grade.ERROR for each in found):
        return found
    wrong = (each for each in header_findings(other) if each.grade is Grade.ERROR)
    first = next(wrong, None)
    if first is None:
        return found
    name = other.path.name
    return [
        error(
            "with",
            f"{name} is not sound itself: {first.what}",
            "it would have to be loaded beside the model, and cannot be",
            f"`ggufscope check {name}` says all that is wrong with it",
            first.llama_cpp,
            key=first.key,
        )
    ]
