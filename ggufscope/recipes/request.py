"""The road of quantizing, up to the first byte: what is asked for, and all that follows from it.

::

    prepared = prepare(Request("model-f16.gguf", ["Q8_0", "Q4_K_M"]))
    print(prepared.targets[0].plan, prepared.targets[0].files)
    run(prepared)                                                   # see apply.py

Nothing here opens a tensor or makes a file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ggufscope.container.file import GGUFFile, open_gguf
from ggufscope.container.values import Value
from ggufscope.errors import BadUsage, naming
from ggufscope.recipes.files import (
    TargetFile,
    check_targets,
    default_target,
    free_bytes,
    target_files,
)
from ggufscope.recipes.jobs import require_makeable
from ggufscope.recipes.metadata import overridden, written_metadata
from ggufscope.recipes.options import DEFAULTS, PlanOptions
from ggufscope.recipes.plan import Plan, plan


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for."""

    source: str | os.PathLike[str] | GGUFFile
    targets: Mapping[Any, str | Plan] | Sequence[str | Plan]
    """Path (str or ``Path``) -> preset (``"Q4_K_M"``), or a ``Plan`` of this source. A list of
    presets has its targets named after the source."""
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
    def free_nbytes(self) -> int | None:
        """Bytes that are free where it goes, or None where it cannot be told."""
        return free_bytes(self.files[0].path.parent)


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
        files = [(file.path, file.nbytes) for file in self.files]
        check_targets(self.source, files, overwrite=self.overwrite)


def prepare(request: Request, warn: Callable[[str], object] = lambda _: None) -> Prepared:
    """Plan each target, name it and lay out its files; ``warn`` is told what is odd in the source.

    Raises what ``open_gguf`` and ``plan`` raise, and ``BadUsage`` for two targets of one name.
    """
    source = request.source
    file = source if isinstance(source, GGUFFile) else open_gguf(source)
    with naming(file.path):
        for words in file.warnings():
            warn(words)
        metadata = overridden(file.metadata, request.overrides)
        tensors, targets = file.tensors.values(), {}
        for path, wanted in _wanted(request):
            each = (
                wanted
                if isinstance(wanted, Plan)
                else plan(tensors, metadata, wanted, request.options)
            )
            path = path or default_target(file.path, each.preset, request.directory)
            if path in targets:
                raise BadUsage("two of the types give one target", hint="name each type once")
            written = written_metadata(file.metadata, request.overrides, each)
            files = target_files(file, each, path, written, request.split_max_size)
            targets[path] = Target(each, tuple(files))
        return Prepared(file, tuple(targets.values()), request.overwrite)


def _wanted(request: Request) -> Iterator[tuple[Path | None, str | Plan]]:
    """Give each target with its path, None where that is still to be named."""
    if isinstance(request.targets, Mapping):
        for path, wanted in request.targets.items():
            yield Path(path), wanted
    else:
        for wanted in request.targets:
            yield None, wanted
