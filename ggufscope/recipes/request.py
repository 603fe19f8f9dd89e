"""The road of quantizing, up to the first byte: what is asked for, and all that follows from it.

::

    prepared = prepare(Request("model-f16.gguf", ["Q8_0", "Q4_K_M"]))
    print(prepared.targets[0].plan, prepared.targets[0].files)
    run(prepared)                                                   # see apply.py

Nothing here opens a tensor or makes a file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ggufscope.container.file import GGUFFile, open_gguf
from ggufscope.container.values import Value
from ggufscope.errors import BadUsage, NotWhole, naming
from ggufscope.model.keys import architecture_of
from ggufscope.model.required import flaws_of, in_words
from ggufscope.recipes.files import TargetFile, check_targets, default_target, target_files
from ggufscope.recipes.jobs import require_makeable
from ggufscope.recipes.metadata import overridden, written_metadata
from ggufscope.recipes.options import DEFAULTS, PlanOptions
from ggufscope.recipes.plan import Plan, plan

Warn = Callable[[str], object]
"""What is told of what is odd."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for."""

    source: str | os.PathLike[str] | GGUFFile
    targets: Mapping[Any, str | Plan] | Sequence[str | Plan]
    """Path (str or ``Path``) -> preset (``"Q4_K_M"``), or a ``Plan`` of this source. A list of
    presets, or one preset, has its targets named after the source."""
    options: PlanOptions = DEFAULTS
    """For the presets; a ``Plan`` has its own."""
    overrides: Mapping[str, Value] = field(default_factory=dict)
    """Metadata to set. It can change types: llama-quantize reads the model as overridden too."""
    split_max_size: int | None = None
    """Bytes of tensor data that a shard has at the most; None for one file."""
    directory: Path | None = None
    """Where targets go that are named after the source; None for beside it."""
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """One target of a run: its plan, and the files that it becomes."""

    plan: Plan
    files: tuple[TargetFile, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all files, to the byte."""
        return sum(file.nbytes for file in self.files)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where they go."""
        return tuple(file.path for file in self.files)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A whole run, decided: what will be written where."""

    source: GGUFFile
    targets: tuple[Target, ...]
    overwrite: bool

    @property
    def files(self) -> list[TargetFile]:
        """All files of all targets."""
        return [file for target in self.targets for file in target.files]

    def require_runnable(self) -> None:
        """Raise what keeps this from being run; a plan is worth reading all the same.

        What ``Plan.require_runnable`` raises, ``NotConvertible`` for a type that cannot be made,
        and a ``WriteError`` for a target that cannot be written.
        """
        for target in self.targets:
            target.plan.require_runnable()
            for tensor in target.plan.tensors:
                if tensor.converted:
                    require_makeable(tensor.target.name, tensor.name)
        check_targets(self.source, self.files, overwrite=self.overwrite)


def prepare(request: Request, warn: Warn = lambda _: None) -> Prepared:
    """Plan each target, name it and lay out its files; ``warn`` is told what is odd.

    Raises what ``open_gguf`` and ``plan`` raise, ``BadUsage`` for two targets of one name, and
    ``NotWhole``.
    """
    prepared = outlook(request, warn)
    with naming(prepared.source.path):
        require_whole(prepared.source, request.overrides, warn)
    return prepared


def require_whole(source: GGUFFile, overrides: Mapping[str, Value], warn: Warn) -> None:
    """Raise ``NotWhole`` where tensors are missing or misshapen, by the metadata as overridden too.

    llama-quantize makes files of such models that llama.cpp cannot load. Where more is wrong than
    right nothing was lost on the way: it is a part of a model, or a slice, as they are made for
    tests. Then ``warn`` is told.
    """
    shapes = {tensor.name: tensor.shape for tensor in source.tensors.values()}
    flaws = flaws_of(shapes, source.metadata)
    if not flaws or (overrides and not flaws_of(shapes, overridden(source.metadata, overrides))):
        return
    if 2 * len(flaws) > len(shapes):
        warn(f"{source.path}: {in_words(flaws)}. llama.cpp will not load what is made of it")
        return
    raise NotWhole(
        in_words(flaws),
        hint="llama.cpp would not load it either: download it again, or convert it anew",
    )


def outlook(request: Request, warn: Warn = lambda _: None) -> Prepared:
    """Prepare without asking whether the model is whole; raises what else ``prepare`` raises."""
    source = request.source
    file = source if isinstance(source, GGUFFile) else open_gguf(source)
    with naming(file.path):
        for words in file.warnings():
            warn(words)
        tensors, targets = file.tensors.values(), {}
        metadata = overridden(file.metadata, request.overrides)
        asked = [request.targets] if isinstance(request.targets, str) else request.targets
        pairs = asked.items() if isinstance(asked, Mapping) else ((None, each) for each in asked)
        for path, made in pairs:
            if isinstance(made, str):
                made = plan(tensors, metadata, made, request.options)
            if path is None:
                path = default_target(file.stem, made.preset, request.directory)
            path = Path(path)
            if path in targets:
                raise BadUsage("two of the types give one target", hint="name each type once")
            written = written_metadata(
                file.metadata, request.overrides, made, architecture_of(metadata)
            )
            files = target_files(file, made, path, written, request.split_max_size)
            targets[path] = Target(made, tuple(files))
        for pattern in _unmatched(request.options, targets.values()):
            warn(f"no tensor has a name that --tensor-type {pattern!r} is found in")
        return Prepared(file, tuple(targets.values()), request.overwrite)


def _unmatched(options: PlanOptions, targets: Iterable[Target]) -> list[str]:
    """Return the patterns of rules by hand that name no tensor: misspelt, most of the time."""
    names = {tensor.name for target in targets for tensor in target.plan.tensors}
    return [
        rule.pattern.pattern for rule in options.tensor_types if not any(map(rule.names, names))
    ]
