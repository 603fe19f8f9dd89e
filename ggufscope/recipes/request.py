"""The road of quantizing, up to the first byte: what is asked for, and all that follows from it.

::

    prepared = prepare(Request("model-f16.gguf", ["Q8_0", "Q4_K_M"]))
    print(prepared.targets[0].plan, prepared.targets[0].files)
    run(prepared)                                                   # see apply.py

Nothing here opens a tensor or makes a file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ggufscope.container.file import GGUFFile, open_gguf
from ggufscope.container.values import Value
from ggufscope.errors import BadUsage, NotWhole, naming
from ggufscope.model.keys import architecture_of
from ggufscope.model.required import flaws_of, in_words
from ggufscope.recipes.files import TargetFile, check_targets, default_target, target_files
from ggufscope.recipes.imatrix_file import read_imatrix
from ggufscope.recipes.importance import ImportanceMatrix, importance_of
from ggufscope.recipes.jobs import require_makeable
from ggufscope.recipes.metadata import overridden, written_metadata
from ggufscope.recipes.options import DEFAULTS, PlanOptions
from ggufscope.recipes.order import layers_of
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
    imatrix: str | os.PathLike[str] | ImportanceMatrix | None = None
    """The importance matrix that errors are weighed by; a ``Plan`` has to count on it."""
    include_weights: tuple[str, ...] = ()
    """Parts of names: only what the matrix says of these tensors is used."""
    exclude_weights: tuple[str, ...] = ()
    """Parts of names: what the matrix says of these tensors is not used."""


@dataclass(frozen=True, slots=True)
class Target:
    """One target of a run: its plan, and the files that it becomes."""

    plan: Plan
    files: tuple[TargetFile, ...]
    imatrix: ImportanceMatrix | None
    """What its errors are weighed by."""

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
    imatrix: ImportanceMatrix | None

    @property
    def files(self) -> list[TargetFile]:
        """All files of all targets."""
        return [file for target in self.targets for file in target.files]

    def require_runnable(self, finished: Collection[Path] = ()) -> None:
        """Raise what keeps this from being run; a plan is worth reading all the same.

        ``finished``: files that an earlier run has written, and that are left as they are.

        What ``Plan.require_runnable`` raises, ``ImportanceNeeded`` and ``ImportanceMismatch`` for
        a matrix that lacks what is needed, ``NotConvertible`` for a type that cannot be made, and a
        ``WriteError`` for a target that cannot be written.
        """
        given = self.imatrix.path if self.imatrix else None
        for target in self.targets:
            target.plan.require_runnable()
            if target.plan.options.importance and self.imatrix is None:
                raise BadUsage(
                    f"the plan of {target.plan.preset} counts on an importance matrix",
                    hint="give one, or plan without",
                )
            converted = [tensor for tensor in target.plan.tensors if tensor.converted]
            for tensor in converted:
                weighed = importance_of(target.plan, tensor, self.imatrix) is not None
                require_makeable(tensor.target.name, tensor.name, importance=weighed, given=given)
        also = [given] if given else []
        files = [file for file in self.files if file.path not in finished]
        check_targets(self.source, files, also, overwrite=self.overwrite)


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
    matrix = imatrix_of(request, warn)
    overrides, options = request.overrides, request.options
    if matrix is not None:
        own = matrix.keys()  # set after what the user sets, and so at the end
        overrides = {key: value for key, value in overrides.items() if key not in own} | own
        options = replace(options, importance=True)
    with naming(file.path):
        for words in file.warnings():
            warn(words)
        tensors, targets = file.tensors.values(), {}
        metadata = overridden(file.metadata, overrides)
        asked = [request.targets] if isinstance(request.targets, str) else request.targets
        pairs = asked.items() if isinstance(asked, Mapping) else ((None, each) for each in asked)
        for path, made in pairs:
            if isinstance(made, str):
                made = plan(tensors, metadata, made, options)
            elif matrix is not None and not made.options.importance:
                raise BadUsage(
                    f"the plan of {made.preset} counts on no importance matrix",
                    hint="plan with PlanOptions(importance=True), or give no matrix",
                )
            if path is None:
                path = default_target(file.stem, made.preset, request.directory)
            path = Path(path)
            if path in targets:
                raise BadUsage("two of the types give one target", hint="name each type once")
            written = written_metadata(file.metadata, overrides, made, architecture_of(metadata))
            files = target_files(file, made, path, written, request.split_max_size)
            targets[path] = Target(made, tuple(files), matrix)
        for pattern in _unmatched(request.options, targets.values()):
            warn(f"no tensor has a name that --tensor-type {pattern!r} is found in")
        for words in _pruned(request.options.prune_layers, file.tensors):
            warn(words)
        if matrix is not None:
            for words in _left_alone(matrix, file, targets.values()):
                warn(words)
        return Prepared(file, tuple(targets.values()), request.overwrite, matrix)


def imatrix_of(request: Request, warn: Warn = lambda _: None) -> ImportanceMatrix | None:
    """Return the matrix that is asked for, or None where nothing is left of it."""
    if request.imatrix is None:
        if request.include_weights or request.exclude_weights:
            raise BadUsage(
                "entries are chosen, and there is no importance matrix", hint="give --imatrix FILE"
            )
        return None
    if request.include_weights and request.exclude_weights:
        raise BadUsage(
            "--include-weights and --exclude-weights cannot be used together",
            hint="give one of the two",
        )
    given = request.imatrix
    whole = given if isinstance(given, ImportanceMatrix) else read_imatrix(given)
    matrix = whole.selected(request.include_weights, request.exclude_weights)
    matrix.require_usable()
    if matrix.unfinished:
        warn(f"{matrix.path} is a checkpoint: `ggufscope imatrix --resume` goes on from it")
    if not matrix.entries:
        chosen = "--exclude-weights" if request.exclude_weights else "--include-weights"
        warn(f"{chosen} leaves nothing of {matrix.path}: it weighs no error")
    return matrix if matrix.entries else None


def _left_alone(
    matrix: ImportanceMatrix, file: GGUFFile, targets: Iterable[Target]
) -> Iterator[str]:
    """Yield what a matrix does not do for a model that it may have been expected to do.

    Of embeddings and the output projection one knows nothing, most of the time.
    """
    blocks = {
        tensor.source_name: None
        for target in targets
        for tensor in target.plan.tensors
        if tensor.converted and tensor.source_name.startswith("blk.")
    }
    missing = [name for name in blocks if name not in matrix.entries]
    if missing:
        yield (
            f"{matrix.path} has nothing for {len(missing)} of {len(blocks)} tensors, the first "
            f"{missing[0]!r}: they are quantized without it"
        )
    strangers = [name for name in matrix.entries if name not in file.tensors]
    if strangers:
        yield (
            f"{matrix.path} has {len(strangers)} entries that name no tensor of {file.path}, the "
            f"first {strangers[0]!r}"
        )


def _pruned(prune: Sequence[int], names: Iterable[str]) -> Iterator[str]:
    """Yield what is odd about the layers to leave out; llama-quantize says nothing of it."""
    layers = layers_of(names) if prune else []
    missing = [layer for layer in prune if layer not in layers]
    if missing:
        there = f"they are {layers[0]} to {layers[-1]}" if layers else "there are none"
        yield f"--prune-layers: there is no layer {', '.join(map(str, missing))}; {there}"
    if layers and set(layers) <= {*prune}:
        yield "--prune-layers leaves no layer: what is written is no model that runs"


def _unmatched(options: PlanOptions, targets: Iterable[Target]) -> list[str]:
    """Return the patterns of rules by hand that name no tensor: misspelt, most of the time."""
    names = {tensor.name for target in targets for tensor in target.plan.tensors}
    return [
        rule.pattern.pattern for rule in options.tensor_types if not any(map(rule.names, names))
    ]
