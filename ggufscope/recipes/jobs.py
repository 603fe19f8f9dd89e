"""One job: some rows of one tensor, read, converted and written at a place known beforehand.

A job says all that is needed, in plain numbers and strings, so it can be done in any process on
any machine that sees the files: by a thread here, by a process pool, by a cluster. Jobs share
nothing and can be done in any order. Doing one again writes the same bytes again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ggufscope.blocks.codec import CODECS, dequantize, quantize
from ggufscope.blocks.floats import row_not_finite
from ggufscope.blocks.layouts import LAYOUTS
from ggufscope.container.partial import UnderWay
from ggufscope.container.source import Identity, read_into
from ggufscope.errors import NonFiniteWeight, NotConvertible


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

    @property
    def nbytes(self) -> int:
        """Bytes to read."""
        return self.rows * LAYOUTS[self.type].row_bytes(self.row_length)


@dataclass(frozen=True, slots=True)
class Misfit:
    """What storing in a type cost some rows: sums that add up over jobs."""

    squared_error: float
    squared_weights: float

    def __add__(self, other: Misfit) -> Misfit:
        return Misfit(
            self.squared_error + other.squared_error, self.squared_weights + other.squared_weights
        )

    @property
    def relative(self) -> float:
        """The root mean square of the error, against that of the weights; 0 where both are 0."""
        if self.squared_weights == 0:
            return 0.0
        return float(np.sqrt(self.squared_error / self.squared_weights))


NOTHING: Final = Misfit(0.0, 0.0)
"""What a tensor without weights loses."""


def require_makeable(type_: str, tensor: str) -> None:
    """Raise ``NotConvertible`` where this program cannot quantize to a type."""
    if CODECS[type_].quantize is None:
        raise NotConvertible(
            f"tensor {tensor!r} would become {type_}, which this program cannot make yet",
            hint=CODECS[type_].missing,
        )


def run(job: Job) -> dict[str, Misfit]:
    """Do a job; give what each of its types cost.

    Raises ``SourceChanged`` or ``SourceUnreadable``, ``NonFiniteWeight`` naming tensor and row, and
    ``TargetUnwritable``.
    """
    raw = _read(job)
    blocks = _blocks(raw, job)
    # Each job is one of many that run side by side, so it takes one thread itself.
    weights = dequantize(blocks, job.type, (job.rows, job.row_length), threads=1)
    _check_finite(weights, job)
    squared = _sum_of_squares(weights.reshape(-1))
    costs: dict[str, Misfit] = {}
    for output in job.outputs:
        if output.type == job.type:
            data = blocks.view(np.uint8).data
            costs[output.type] = Misfit(0.0, squared)
        else:
            made = quantize(weights, output.type, threads=1, check_finite=False)
            data = made.reshape(-1).view(np.uint8).data
            costs[output.type] = Misfit(_squared_error(weights, made, output.type), squared)
        for file, offset in output.places:
            file.write(offset, data)
    return costs


def _read(job: Job) -> bytearray:
    raw = bytearray(job.nbytes)
    read_into(job.path, job.identity, job.offset, memoryview(raw), f"tensor {job.tensor!r}")
    return raw


def _blocks(raw: bytearray, job: Job) -> npt.NDArray[Any]:
    layout = LAYOUTS[job.type]
    dtype = layout.dtype.newbyteorder(job.byte_order)  # type: ignore[arg-type]  # "<" or ">"
    blocks = np.frombuffer(raw, dtype)
    return blocks if job.byte_order == "<" else blocks.astype(layout.dtype)


def _check_finite(weights: npt.NDArray[np.float32], job: Job) -> None:
    row = row_not_finite(weights)
    if row is not None:
        raise NonFiniteWeight(
            f"tensor {job.tensor!r} has a NaN or an infinity in row {job.first_row + row}",
            hint="the source is damaged, or was converted from a damaged model",
        )


def _squared_error(weights: npt.NDArray[np.float32], made: npt.NDArray[Any], type: str) -> float:
    """Sum the squares of the difference, a stretch at a time so that it stays in the cache."""
    flat = weights.reshape(-1)
    layout = LAYOUTS[type]
    blocks = made.reshape(-1)
    step = max(1, (1 << 17) // layout.block_length)
    total = 0.0
    for start in range(0, len(blocks), step):
        near = dequantize(blocks[start : start + step], layout, threads=1)
        first = start * layout.block_length
        near -= flat[first : first + near.size]
        total += _sum_of_squares(near)
    return total


def _sum_of_squares(x: npt.NDArray[np.float32]) -> float:
    with np.errstate(all="ignore"):
        total = float(np.vdot(x, x))
    return total if np.isfinite(total) else float(np.square(x, dtype=np.float64).sum())


def cut(shape: tuple[int, ...], buffer_bytes: int) -> Iterator[tuple[int, int]]:
    """Cut a tensor into jobs: (first row, rows), of no more float32 weights than a buffer holds."""
    row = shape[-1] if shape else 1
    rows = prod(shape[:-1]) if row else 0
    step = max(1, buffer_bytes // (4 * max(1, row)))
    for first in range(0, rows, step):
        yield first, min(step, rows - first)
