"""One job: some rows of one tensor, read, converted and written at a place known beforehand.

A job says all that is needed, in plain numbers and strings, so it can be done in any process on
any machine that sees the files: by a thread here, by a process pool, by a cluster. Jobs share
nothing and can be done in any order. Doing one again writes the same bytes again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import isfinite, prod
from pathlib import Path
from typing import Final

import numpy as np

from ggufscope.arrays import Array, Blocks, Floats
from ggufscope.blocks import codec
from ggufscope.blocks.codec import dequantize, quantize
from ggufscope.blocks.error import NO_ERROR, WeightError
from ggufscope.blocks.floats import require_finite
from ggufscope.blocks.layouts import LAYOUTS, Layout
from ggufscope.blocks.neighbours import squares_overflow
from ggufscope.container.partial import UnderWay
from ggufscope.container.source import Identity, reading
from ggufscope.errors import NotConvertible, UnmakeableBlock

TILE: Final = 1 << 20
"""Weights that are read, converted and written before the next ones are, in whole rows. What is
made of them stays in a cache of some megabytes; with fewer, more time would go into calls."""
STRETCH: Final = 1 << 17
"""Weights that are compared at a time."""


def threads_serve() -> bool:
    """Whether threads do jobs as fast as processes."""
    return codec.engine().releases_gil


@dataclass(frozen=True, slots=True)
class Output:
    """One type that the rows are wanted in, and every place that wants them so."""

    type: str
    places: tuple[tuple[UnderWay, int], ...]
    """(file, offset in it) of the first of these rows."""


@dataclass(frozen=True, slots=True)
class Job:
    """Some rows of one tensor."""

    tensor: str
    path: str
    identity: Identity
    """The file that is there, as it was when the run began."""
    offset: int
    """Of the first of these rows in the source file."""
    type: str
    byte_order: str
    first_row: int
    """Counted over all but the last axis of the tensor."""
    rows: int
    row_length: int
    outputs: tuple[Output, ...]
    importance: bytes = b""
    """Float32, one number a column; empty where nothing is known of them."""

    @property
    def nbytes(self) -> int:
        """Bytes to read."""
        return self.rows * LAYOUTS[self.type].row_bytes(self.row_length)

    def elsewhere(self) -> Job:
        """Return the same job as another machine can do it, that sees the same files."""
        outputs = (
            replace(output, places=tuple((file.elsewhere(), at) for file, at in output.places))
            for output in self.outputs
        )
        return replace(
            self,
            path=str(Path(self.path).absolute()),
            identity=self.identity.elsewhere(),
            outputs=tuple(outputs),
        )

    @property
    def paths(self) -> Iterator[str]:
        """The files that it reads and writes."""
        yield self.path
        for output in self.outputs:
            yield from (file.path for file, _ in output.places)


def why_slow() -> str:
    """Return why NumPy converts where compiled kernels could, or nothing."""
    return codec.missing_kernels()


def require_makeable(
    type_: str, tensor: str, *, importance: bool, given: Path | None = None
) -> None:
    """Raise ``NotConvertible`` where a tensor cannot be made a type, with or without importance.

    ``given``: an importance matrix, which may have nothing for the tensor.
    """
    if given and not importance and codec.engine().codecs[type_].needs_importance:
        makes = "`ggufscope imatrix --process-output` makes one with it, or "
        raise NotConvertible(
            f"tensor {tensor!r} would become {type_}, for which {given} has nothing: it cannot be "
            "made without",
            hint=f"{makes if tensor == 'output.weight' else ''}choose a type for it that needs no "
            "importance, such as Q2_K",
        )
    codec.require_makeable(type_, f"tensor {tensor!r}", importance=importance)


def weighs(type_: str) -> bool:
    """Whether errors in a type are weighed, where there is an importance."""
    return codec.engine().codecs[type_].weighs


def cut(shape: tuple[int, ...], buffer_bytes: int) -> Iterator[tuple[int, int]]:
    """Cut a tensor (..., rows, row) into jobs: the first row and the rows of each.

    A job has no more float32 weights than a buffer holds, one row at least, and never leaves a
    slice of a stack of experts: each expert has an importance of its own.
    """
    *_, in_slice, row = (1, 1, *shape)
    step = max(1, buffer_bytes // (4 * max(1, row)))
    for start in range(0, prod(shape[:-1]) if row else 0, max(1, in_slice)):
        for first in range(start, start + in_slice, step):
            yield first, min(step, start + in_slice - first)


def run(job: Job, *, durable: bool = False) -> dict[str, WeightError]:
    """Do a job, a tile of rows at a time; return what each of its types cost.

    ``durable``: what was written is on the disk when it returns. Raises ``SourceChanged`` or
    ``SourceUnreadable``, ``NonFiniteWeight`` naming tensor and row, and ``TargetUnwritable``, or
    ``UnmakeableBlock`` where ggml would end.
    """
    layout = LAYOUTS[job.type]
    step = min(job.rows, max(1, TILE // job.row_length))
    raw = bytearray(step * layout.row_bytes(job.row_length))
    costs = dict.fromkeys((output.type for output in job.outputs), NO_ERROR)
    with ExitStack() as stack:
        where = job.path, job.identity, job.offset, f"tensor {job.tensor!r}"
        fill = stack.enter_context(reading(*where))
        open_at = [
            [
                (stack.enter_context(file.opened(durable=durable)), offset)
                for file, offset in output.places
            ]
            for output in job.outputs
        ]
        importance = np.frombuffer(job.importance, np.float32) if job.importance else None
        weights = np.empty((step, job.row_length), np.float32)
        scratch = np.empty(min(weights.size, STRETCH), np.float32)
        for first in range(0, job.rows, step):
            rows = min(step, job.rows - first)
            part = memoryview(raw)[: rows * layout.row_bytes(job.row_length)]
            fill(part)
            blocks = _blocks(part, layout, job.byte_order)
            x = weights[:rows]
            # Each job is one of many that run side by side, so it takes one thread itself.
            dequantize(blocks, layout, x.shape, out=x, threads=1)
            squared = _sum_of_squares(x)
            if not isfinite(squared):
                require_finite(x, job.tensor, job.first_row + first)
            for output, places in zip(job.outputs, open_at, strict=True):
                if output.type == job.type:
                    made, cost = blocks, WeightError(0.0, squared, 0.0, x.size)
                else:
                    made = _made(x, output.type, job, first, importance)
                    cost = _error(x, squared, made, output.type, scratch)
                costs[output.type] += cost
                before = first * LAYOUTS[output.type].row_bytes(job.row_length)
                for write, offset in places:
                    write(offset + before, made.reshape(-1).view(np.uint8).data)
    return costs


def _made(x: Floats, type_: str, job: Job, first: int, importance: Floats | None) -> Blocks:
    """x (rows, row), of which ``first`` is the first of the job -> blocks."""
    try:
        return quantize(x, type_, importance=importance, threads=1, check_finite=False)
    except UnmakeableBlock as error:
        row = job.first_row + first + error.row
        raise squares_overflow(f"tensor {job.tensor!r}, row {row}, as {type_}") from None


def _blocks(raw: memoryview, layout: Layout, byte_order: str) -> Array:
    dtype = layout.dtype.newbyteorder(byte_order)  # type: ignore[arg-type]  # "<" or ">"
    blocks = np.frombuffer(raw, dtype)
    return blocks if byte_order == "<" else blocks.astype(layout.dtype)


def _error(
    weights: Floats, squared_weights: float, made: Array, type: str, scratch: Floats
) -> WeightError:
    """Read what was made, a stretch at a time so that it stays in the cache, and compare."""
    layout, kernels = LAYOUTS[type], codec.engine().kernels
    if kernels is not None and kernels.multiplies(layout):
        return kernels.error(layout, made, weights)
    flat, blocks = weights.reshape(-1), made.reshape(-1)
    step = max(1, scratch.size // layout.block_length)
    squared_error = largest = 0.0
    for start in range(0, len(blocks), step):
        part = blocks[start : start + step]
        gap = scratch[: part.size * layout.block_length]
        dequantize(part, layout, gap.shape, out=gap, threads=1)
        first = start * layout.block_length
        gap -= flat[first : first + gap.size]
        squared_error += _sum_of_squares(gap)
        largest = max(largest, float(gap.max()), -float(gap.min()))
    return WeightError(squared_error, squared_weights, largest, flat.size)


def _sum_of_squares(x: Floats) -> float:
    """Return the sum of squares; not finite where a weight is not."""
    with np.errstate(all="ignore"):
        total = float(np.vdot(x, x))
        return total if isfinite(total) else float(np.square(x, dtype=np.float64).sum())
