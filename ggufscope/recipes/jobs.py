"""One job: some rows of one tensor, read, converted and written at a place known beforehand.

A job says all that is needed, in plain numbers and strings, so it can be done in any process on
any machine that sees the files: by a thread here, by a process pool, by a cluster. Jobs share
nothing and can be done in any order. Doing one again writes the same bytes again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from ggufscope.arrays import Array, Floats
from ggufscope.blocks import codec
from ggufscope.blocks.codec import dequantize, quantize
from ggufscope.blocks.error import WeightError
from ggufscope.blocks.floats import require_finite
from ggufscope.blocks.layouts import LAYOUTS
from ggufscope.container.partial import UnderWay
from ggufscope.container.source import Identity, read_into


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


def require_makeable(type_: str, tensor: str) -> None:
    """Raise ``NotConvertible`` where this program cannot quantize to a type."""
    codec.require_makeable(type_, f"tensor {tensor!r}")


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


def run(job: Job) -> dict[str, WeightError]:
    """Do a job; return what each of its types cost.

    Raises ``SourceChanged`` or ``SourceUnreadable``, ``NonFiniteWeight`` naming tensor and row, and
    ``TargetUnwritable``.
    """
    raw = bytearray(job.nbytes)
    read_into(job.path, job.identity, job.offset, memoryview(raw), f"tensor {job.tensor!r}")
    blocks = _blocks(raw, job)
    # Each job is one of many that run side by side, so it takes one thread itself.
    weights = dequantize(blocks, job.type, (job.rows, job.row_length), threads=1)
    require_finite(weights, job.tensor, job.first_row)
    squared = _sum_of_squares(weights.reshape(-1))
    importance = np.frombuffer(job.importance, np.float32) if job.importance else None
    costs: dict[str, WeightError] = {}
    for output in job.outputs:
        if output.type == job.type:
            data = blocks.view(np.uint8).data
            costs[output.type] = WeightError(0.0, squared, 0.0, weights.size)
        else:
            made = quantize(
                weights, output.type, importance=importance, threads=1, check_finite=False
            )
            data = made.reshape(-1).view(np.uint8).data
            costs[output.type] = _error(weights, squared, made, output.type)
        for file, offset in output.places:
            file.write(offset, data)
    return costs


def _blocks(raw: bytearray, job: Job) -> Array:
    layout = LAYOUTS[job.type]
    dtype = layout.dtype.newbyteorder(job.byte_order)  # type: ignore[arg-type]  # "<" or ">"
    blocks = np.frombuffer(raw, dtype)
    return blocks if job.byte_order == "<" else blocks.astype(layout.dtype)


def _error(weights: Floats, squared_weights: float, made: Array, type: str) -> WeightError:
    """Read what was made, a stretch at a time so that it stays in the cache, and compare."""
    flat, blocks = weights.reshape(-1), made.reshape(-1)
    layout = LAYOUTS[type]
    step = max(1, (1 << 17) // layout.block_length)
    squared_error = largest = 0.0
    for start in range(0, len(blocks), step):
        gap = dequantize(blocks[start : start + step], layout, threads=1)
        first = start * layout.block_length
        gap -= flat[first : first + gap.size]
        squared_error += _sum_of_squares(gap)
        largest = max(largest, float(gap.max()), -float(gap.min()))
    return WeightError(squared_error, squared_weights, largest, flat.size)


def _sum_of_squares(x: Floats) -> float:
    with np.errstate(all="ignore"):
        total = float(np.vdot(x, x))
    return total if np.isfinite(total) else float(np.square(x, dtype=np.float64).sum())
