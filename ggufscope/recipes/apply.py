"""The stream: read, dequantize, quantize, write.

A plan is cut into independent jobs (see jobs.py), each some rows of one tensor with the places
where its results belong, all known before anything runs. They are handed to an executor, a few
more than it has workers, so that reading, computing and writing overlap and memory stays bounded.
Several targets share one reading of the source.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, closing
from dataclasses import astuple, dataclass
from typing import Any, Final

from ggufscope.blocks.error import NO_ERROR, WeightError
from ggufscope.blocks.layouts import LAYOUTS, Layout
from ggufscope.container.file import GGUFFile, Tensor
from ggufscope.container.partial import UnderWay
from ggufscope.container.unfinished import require_finished
from ggufscope.container.values import Value
from ggufscope.container.writer import GGUFWriter, TensorSpec
from ggufscope.errors import BadUsage, naming
from ggufscope.machine import processors
from ggufscope.model.roles import role_of
from ggufscope.recipes.elsewhere import by_others
from ggufscope.recipes.files import TargetFile, written_shape
from ggufscope.recipes.importance import ImportanceMatrix
from ggufscope.recipes.jobs import Job, Output, cut, threads_serve
from ggufscope.recipes.jobs import run as run_job
from ggufscope.recipes.options import DEFAULTS, PlanOptions
from ggufscope.recipes.plan import Plan, PlannedTensor
from ggufscope.recipes.request import Prepared, Request, Target, prepare
from ggufscope.recipes.resume import Books, facts_of, finished, forget
from ggufscope.recipes.workers import MOST_WORKERS, by_processes, by_threads

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
class Result(Target):
    """What became of one target."""

    costs: Mapping[str, WeightError]
    """What each tensor lost, by its name in the target; nothing where it was copied."""

    @property
    def costs_by_role(self) -> dict[str, WeightError]:
        """What tensors of a role lost together, in the order of loss."""
        sums: dict[str, WeightError] = {}
        for name, cost in self.costs.items():
            group = role_of(name).group
            sums[group] = sums[group] + cost if group in sums else cost
        return dict(sorted(sums.items(), key=lambda item: -item[1].relative))


Place = tuple[GGUFWriter, PlannedTensor]
"""A tensor of a target, and the file that it is in."""
Task = tuple[Job, list[Place]]
"""A job, and what it adds rows to."""


def quantize_model(
    source: str | os.PathLike[str] | GGUFFile,
    targets: Mapping[Any, str | Plan] | Sequence[str | Plan],
    *,
    options: PlanOptions | None = None,
    overrides: Mapping[str, Value] | None = None,
    split_max_size: int | None = None,
    overwrite: bool = False,
    imatrix: str | os.PathLike[str] | ImportanceMatrix | None = None,
    threads: int | None = None,
    executor: Executor | None = None,
    buffer_bytes: int = DEFAULT_BUFFER,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
    warn: Callable[[str], object] = lambda _: None,
) -> list[Result]:
    """Quantize a model into one or several files, reading it once.

    ``targets``: path (str or ``Path``) -> preset (``"Q4_K_M"``), or a ``Plan`` of this source; or
    presets alone, whose files are named after the source. ``imatrix``: an importance matrix, or the
    path of one, that errors are weighed by. What is asked for is a ``Request``, how it is done are
    the arguments of ``run``. Raises what ``prepare`` and ``run`` raise.
    """
    request = Request(
        source,
        targets,
        options=options or DEFAULTS,
        overrides=overrides or {},
        split_max_size=split_max_size,
        overwrite=overwrite,
        imatrix=imatrix,
    )
    return run(
        prepare(request, warn),
        executor=executor,
        threads=threads,
        buffer_bytes=buffer_bytes,
        resume=resume,
        progress=progress,
        warn=warn,
    )


def run(
    prepared: Prepared,
    *,
    executor: Executor | None = None,
    threads: int | None = None,
    buffer_bytes: int = DEFAULT_BUFFER,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
    warn: Callable[[str], object] = lambda _: None,
) -> list[Result]:
    """Write what was prepared, reading the source once.

    ``executor`` does the jobs where one is given, its workers on any machine that sees the files
    under the same paths, twice ``threads`` of them at a time; else ``threads`` workers do, all
    processors by default: processes for a large model, threads for a small one. ``warn`` is told
    where fewer can be had, or slower ones. Each target is complete when it appears under its name,
    or it does not appear. With ``resume`` a run that is ended keeps what is done, and goes on from
    what an earlier one kept.

    Raises what ``Prepared.require_runnable`` raises, ``UnfinishedFile``, ``NonFiniteWeight`` and
    ``SourceChanged`` for what is wrong in the data, ``WorkersLost``, ``ClusterError``,
    ``NotResumable``, ``BadUsage`` for a number of threads that makes no sense.
    """
    count = threads or processors()
    if count < 1 or (count > MOST_WORKERS and executor is None):
        raise BadUsage(f"{count} threads make no sense", hint=f"1 to {MOST_WORKERS} do")
    with naming(prepared.source.path):
        facts = facts_of(prepared, buffer_bytes) if resume else {}
        there = finished(prepared, facts) if resume else []
        prepared.require_runnable(there)
        require_finished(prepared.source)
        files = [file for file in prepared.files if file.path not in there]
        with ExitStack() as stack:
            writers = [
                stack.enter_context(
                    GGUFWriter(
                        file.path,
                        file.metadata,
                        _specs(file),
                        overwrite=prepared.overwrite,
                        facts=facts.get(file.path),
                    )
                )
                for file in files
            ]

            def secure() -> None:
                for writer in writers:
                    writer.secure()

            if executor is not None:
                secure()
            books = Books(secure if resume else None)
            for path in facts:
                books.read(path)
            work = _Work(prepared, list(zip(writers, files, strict=True)), books, progress)
            tasks = work.tasks(buffer_bytes)
            if executor is not None:
                done = by_others(tasks, executor, count, warn)
            elif count > 1 and work.total >= _LARGE and not threads_serve():
                done = by_processes(run_job, tasks, count, warn)
            else:
                done = by_threads(run_job, tasks, count)
            with closing(done):  # what ends this ends the work, before a file under way is removed
                for (job, places), found in done:
                    work.enter(job, places, found)
            prepared.source.require_unchanged()
        forget(facts)
    return [_result(target, books) for target in prepared.targets]


def _specs(file: TargetFile) -> list[TensorSpec]:
    return [
        TensorSpec(tensor.name, written_shape(tensor.shape), tensor.target, tensor.nbytes)
        for tensor in file.tensors
    ]


class _Work:
    """What a run has to do, and how much of it is done."""

    def __init__(
        self,
        prepared: Prepared,
        files: list[tuple[GGUFWriter, TargetFile]],
        books: Books,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._imatrix, self._books, self._progress = prepared.imatrix, books, progress
        wanted: dict[str, list[Place]] = {}
        for writer, file in files:
            for tensor in file.tensors:
                wanted.setdefault(tensor.source_name, []).append((writer, tensor))
        self._read = [(prepared.source.tensors[name], places) for name, places in wanted.items()]
        self.total = sum(tensor.nbytes for tensor, _ in self._read)
        self._done = 0

    def tasks(self, buffer_bytes: int) -> Iterator[Task]:
        """Cut all tensors into jobs; what an earlier run did is left out."""
        for tensor, places in self._read:
            yield from self._of_tensor(tensor, places, buffer_bytes)

    def _of_tensor(self, tensor: Tensor, places: list[Place], buffer_bytes: int) -> Iterator[Task]:
        """Cut a tensor into jobs, each of which makes its rows in every type that is wanted."""
        layout = tensor.type
        assert isinstance(layout, Layout)  # a plan with a foreign type is not runnable
        row = tensor.shape[-1] if tensor.shape else 1
        in_slice = tensor.shape[-2] if len(tensor.shape) > 1 else 1
        converted = [planned for _, planned in places if planned.converted]
        weights = self._imatrix.of(converted[0]) if self._imatrix and converted else None
        of_slice = [b""] if weights is None else [columns.tobytes() for columns in weights]
        for first, rows in cut(tensor.shape, buffer_bytes):
            left = []
            for writer, planned in places:
                if self._books.has(writer.path, planned.name, first):
                    writer.mark_written(planned.name, rows * _row_bytes(planned, row))
                else:
                    left.append((writer, planned))
            if not left:
                self._tell(tensor.name, rows * layout.row_bytes(row))
                continue
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
                outputs=_outputs(left, first, row),
                importance=of_slice[first // in_slice % len(of_slice)],
            )
            yield job, left

    def enter(self, job: Job, places: list[Place], found: Mapping[str, WeightError]) -> None:
        """Count a job that is done, and what each of its types cost."""
        for writer, planned in places:
            cost = found[planned.target.name]
            writer.mark_written(planned.name, job.rows * _row_bytes(planned, job.row_length))
            self._books.add(writer.path, planned.name, cost)
            writer.note([planned.name, job.first_row, *astuple(cost)])
        self._tell(job.tensor, job.nbytes)
        self._books.save()

    def _tell(self, tensor: str, nbytes: int) -> None:
        self._done += nbytes
        if self._progress is not None:
            self._progress(Progress(self._done, self.total, tensor))


def _outputs(places: Sequence[Place], first: int, row: int) -> tuple[Output, ...]:
    """Return the types that rows are wanted in, each with its places; a type is made once."""
    by_type: dict[str, list[tuple[UnderWay, int]]] = {}
    for writer, planned in places:
        region = writer.region(planned.name)
        begin = region.offset + first * _row_bytes(planned, row)
        by_type.setdefault(planned.target.name, []).append((region.file, begin))
    return tuple(Output(type_, tuple(where)) for type_, where in by_type.items())


def _row_bytes(planned: PlannedTensor, row: int) -> int:
    return LAYOUTS[planned.target.name].row_bytes(row)


def _result(target: Target, books: Books) -> Result:
    costs = {
        tensor.name: books.costs.get((file.path, tensor.name), NO_ERROR)
        for file in target.files
        for tensor in file.tensors
        if tensor.converted
    }
    return Result(target.plan, target.files, target.imatrix, costs)
