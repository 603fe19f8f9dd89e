"""The stream: read, dequantize, quantize, write.

A plan is cut into independent jobs (see jobs.py), each some rows of one tensor with the places
where its results belong, all known before anything runs. They are handed to an executor, a few
more than it has hands, so that reading, computing and writing overlap and memory stays bounded.
Several targets share one reading of the source.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ggufscope.blocks.error import NO_ERROR, WeightError
from ggufscope.blocks.layouts import LAYOUTS, Layout
from ggufscope.container.file import GGUFFile, Tensor, open_gguf
from ggufscope.container.header import alignment_of
from ggufscope.container.partial import UnderWay
from ggufscope.container.tensor_info import padded
from ggufscope.container.values import Value
from ggufscope.container.writer import GGUFWriter, TensorSpec, header_nbytes
from ggufscope.errors import BadUsage
from ggufscope.machine import processors
from ggufscope.recipes.files import TargetFile, check_targets, target_files, written_shape
from ggufscope.recipes.jobs import Job, Output, cut, require_makeable, run, threads_serve
from ggufscope.recipes.options import PlanOptions
from ggufscope.recipes.plan import Plan, PlannedTensor, plan
from ggufscope.recipes.workers import MOST_WORKERS, by_executor, by_processes, by_threads

DEFAULT_BUFFER: Final = 16 << 20
"""Bytes of float32 weights that one job holds at a time."""

_LARGE: Final = 64 << 20
"""Bytes of tensors from which on processes of their own pay for their start."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come."""

    done: int
    """Bytes of the source that have been converted and written."""
    total: int
    tensor: str
    """The tensor that was worked on last."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one target."""

    plan: Plan
    paths: tuple[Path, ...]
    nbytes: int
    """Bytes of the files."""
    costs: Mapping[str, WeightError]
    """What each tensor lost, by its name in the target; nothing where it was copied."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a run would write."""

    plan: Plan
    files: tuple[tuple[Path, int], ...]
    """Each file and its bytes, to the byte."""

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(nbytes for _, nbytes in self.files)


def preview(
    source: GGUFFile,
    targets: Mapping[Path, Plan],
    *,
    overrides: Mapping[str, Value] | None = None,
    split_max_size: int | None = None,
) -> list[Outlook]:
    """Tell what ``quantize_model`` would write, without opening a tensor or a target."""
    return [
        Outlook(
            each,
            tuple(
                (file.path, _file_nbytes(file))
                for file in target_files(source, each, path, overrides, split_max_size)
            ),
        )
        for path, each in targets.items()
    ]


def quantize_model(
    source: str | os.PathLike[str] | GGUFFile,
    targets: Mapping[Any, str | Plan],
    *,
    options: PlanOptions | None = None,
    overrides: Mapping[str, Value] | None = None,
    split_max_size: int | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    executor: Executor | None = None,
    buffer_bytes: int = DEFAULT_BUFFER,
    progress: Callable[[Progress], None] | None = None,
    warn: Callable[[str], object] = lambda _: None,
) -> list[Result]:
    """Quantize a model into one or several files, reading it once.

    ``targets``: path (str or ``Path``) -> preset (``"Q4_K_M"``), or a ``Plan`` of this source.
    ``executor`` does the jobs where one is given; else ``threads`` workers do, all processors by
    default: processes for a large model, threads for a small one. ``warn`` is told where fewer can
    be had. Each target is complete when it appears under its name, or it does not appear.

    Raises what ``plan`` and ``Plan.require_runnable`` raise, a ``WriteError`` for a target that
    cannot be written, ``NonFiniteWeight`` and ``SourceChanged`` for what is wrong in the data,
    ``WorkersLost``, ``BadUsage`` for a number of threads that makes no sense.
    """
    count = threads or processors()
    if not 0 < count <= MOST_WORKERS:
        raise BadUsage(f"{count} threads make no sense", hint=f"1 to {MOST_WORKERS} do")
    file = source if isinstance(source, GGUFFile) else open_gguf(source)
    plans = [_as_plan(file, each, options) for each in targets.values()]
    for each in plans:
        each.require_runnable()
        for tensor in each.tensors:
            if tensor.converted:
                require_makeable(tensor.target.name, tensor.name)
    files = [
        target_files(file, each, Path(path), overrides, split_max_size)
        for each, path in zip(plans, targets, strict=True)
    ]
    with ExitStack() as stack:
        writers = {
            each.path: GGUFWriter(each.path, each.metadata, _specs(each), overwrite=overwrite)
            for group in files
            for each in group
        }
        check_targets(
            file, [(path, writer.nbytes) for path, writer in writers.items()], overwrite=overwrite
        )
        for writer in writers.values():
            stack.enter_context(writer)
        work = _Work(file, [each for group in files for each in group], writers, buffer_bytes)
        costs = _carry_out(work, executor, count, progress, warn)
        file.require_unchanged()
    return [
        Result(
            each,
            tuple(target.path for target in group),
            sum(writers[target.path].nbytes for target in group),
            {
                tensor.name: costs.get((tensor.source_name, tensor.target.name), NO_ERROR)
                for tensor in each.tensors
                if tensor.converted
            },
        )
        for each, group in zip(plans, files, strict=True)
    ]


def _as_plan(file: GGUFFile, wanted: str | Plan, options: PlanOptions | None) -> Plan:
    if isinstance(wanted, Plan):
        return wanted
    tensors = file.tensors.values()
    return plan(tensors, file.metadata, wanted, options or PlanOptions())


@dataclass(frozen=True, slots=True)
class _Share:
    """Bytes of a tensor that a job puts into one of the files."""

    writer: GGUFWriter
    tensor: str
    nbytes: int


Task = tuple[Job, list[_Share]]
"""A job, and what it adds to which files."""


@dataclass(slots=True)
class _Books:
    """What has been done, and what it cost."""

    total: int
    """Bytes of the source."""
    progress: Callable[[Progress], None] | None
    costs: dict[tuple[str, str], WeightError] = field(default_factory=dict)
    done: int = 0

    def enter(self, task: Task, found: Mapping[str, WeightError]) -> None:
        """Count a job that is done."""
        job, shares = task
        for type_, cost in found.items():
            key = (job.tensor, type_)
            self.costs[key] = self.costs.get(key, NO_ERROR) + cost
        for share in shares:
            share.writer.mark_written(share.tensor, share.nbytes)
        self.done += job.nbytes
        if self.progress is not None:
            self.progress(Progress(self.done, self.total, job.tensor))


@dataclass(frozen=True, slots=True)
class _Work:
    """All jobs of a run."""

    source: GGUFFile
    files: Sequence[TargetFile]
    writers: Mapping[Path, GGUFWriter]
    buffer_bytes: int

    @property
    def nbytes(self) -> int:
        """Bytes to read."""
        return sum(tensor.nbytes for tensor, _ in self.tensors())

    def tensors(self) -> Iterator[tuple[Tensor, list[tuple[GGUFWriter, PlannedTensor]]]]:
        """Give each tensor of the source, in the order of writing, with all who want it."""
        wanted: dict[str, list[tuple[GGUFWriter, PlannedTensor]]] = {}
        for file in self.files:
            for tensor in file.tensors:
                wanted.setdefault(tensor.source_name, []).append((self.writers[file.path], tensor))
        for name, places in wanted.items():
            yield self.source.tensors[name], places

    def tasks(self) -> Iterator[Task]:
        for tensor, places in self.tensors():
            layout = tensor.type
            assert isinstance(layout, Layout)  # a plan with a foreign type is not runnable
            row = tensor.shape[-1] if tensor.shape else 1
            for first, rows in cut(tensor.shape, self.buffer_bytes):
                job = Job(
                    tensor=tensor.name,
                    path=tensor.shard.source.name,
                    identity=tensor.shard.source.identity,
                    offset=tensor.offset + first * layout.row_bytes(row),
                    type=layout.name,
                    byte_order=tensor.shard.header.order,
                    first_row=first,
                    rows=rows,
                    row_length=row,
                    outputs=_outputs(places, first, row),
                )
                yield (
                    job,
                    [
                        _Share(writer, planned.name, job.rows * _row_bytes(planned, row))
                        for writer, planned in places
                    ],
                )


def _carry_out(
    work: _Work,
    executor: Executor | None,
    count: int,
    progress: Callable[[Progress], None] | None,
    warn: Callable[[str], object],
) -> dict[tuple[str, str], WeightError]:
    """Have all jobs done; return what each tensor lost in each type."""
    books = _Books(work.nbytes, progress)
    if executor is not None:
        done = by_executor(run, work.tasks(), executor, count)
    elif count > 1 and work.nbytes >= _LARGE and not threads_serve():
        done = by_processes(run, work.tasks(), count, warn)
    else:
        done = by_threads(run, work.tasks(), count)
    with closing(done):  # what ends this ends the work, before a file under way is removed
        for task, found in done:
            books.enter(task, found)
    return books.costs


def _file_nbytes(file: TargetFile) -> int:
    """Return what ``GGUFWriter.nbytes`` says of it, without laying it out."""
    named = [(tensor.name, len(written_shape(tensor.shape))) for tensor in file.tensors]
    alignment = alignment_of(file.metadata)
    data = sum(padded(tensor.nbytes, alignment) for tensor in file.tensors)
    head = header_nbytes(file.metadata, named)
    return padded(head, alignment) + data if named else head


def _specs(file: TargetFile) -> list[TensorSpec]:
    return [
        TensorSpec(tensor.name, written_shape(tensor.shape), tensor.target, tensor.nbytes)
        for tensor in file.tensors
    ]


def _outputs(
    places: Sequence[tuple[GGUFWriter, PlannedTensor]], first: int, row: int
) -> tuple[Output, ...]:
    """Give the types that rows are wanted in, each with its places; a type is made once."""
    by_type: dict[str, list[tuple[UnderWay, int]]] = {}
    for writer, planned in places:
        region = writer.region(planned.name)
        begin = region.offset + first * _row_bytes(planned, row)
        by_type.setdefault(planned.target.name, []).append((region.file, begin))
    return tuple(Output(type_, tuple(where)) for type_, where in by_type.items())


def _row_bytes(planned: PlannedTensor, row: int) -> int:
    return LAYOUTS[planned.target.name].row_bytes(row)
