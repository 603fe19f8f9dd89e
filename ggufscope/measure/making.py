"""Is a file well made? What is wrong with a tensor, by how far it is from plain quantization.

Equal weights settle it. An importance matrix makes the plain error larger, so other weights may be
further off by a factor, which is measured below. Where many of a tensor's rows, or half of a type's
tensors, are just what plain quantization gives, there was none, and no excuse.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from ggufscope.arrays import Doubles, Mask
from ggufscope.measure.parts import Part
from ggufscope.model.roles import role_of

# How much larger ggml_quantize_chunk's plain error gets with an importance, on the sample's
# matrices; the largest ratio of a tensor, and of a head:
#   llama-imatrix's own of the sample       1.09 (Q6_K, Q4_K), 1.02
#   drawn, log-normal with sigma 2          1.16 (IQ3_XXS), 1.29; K-quants 1.15, 1.17
#   10,000 in one column of a hundred       1.63 (Q5_0), 2.3 (Q5_0); Q4_0 1.38, 2.0; Q4_K 1.2, 1.35
WEIGHED: Final = 2.0
"""A tensor's error, over the plain one, that an importance matrix may have caused."""
WEIGHED_PART: Final = 3.0
"""The same of one head: its few columns may all be unimportant."""
PLAIN: Final = 1.05
"""The same where there was none: compilers contract multiplications and round blocks otherwise."""

# The projection of the weights on the reference's, over that of plain quantization: an importance
# makes them shorter (Q2_K 0.89 to 0.96 where plain is 0.98; Q4_0 0.945 and more), never longer.
_LONGER: Final = 0.03
_SHORTER: Final = 0.06
_FOREIGN: Final = 0.5
"""Below this the weights are hardly those of the reference: swapped, or of another model."""

ROUNDING: Final = {"F16": 5e-4, "BF16": 3e-3}
"""What a reference of this type may have lost itself: the file may be made from a finer one."""
_TWICE: Final = "quantized twice"


@dataclass(frozen=True, slots=True)
class Fault:
    """A tensor, or a part of one, that is not what quantizing the reference gives."""

    tensor: str
    type: str
    layer: int | None
    head: int | None
    """A query head, or of W_k and W_v a key head; None where it is not one head's."""
    part: str
    """``head 3``, ``KV head 1``, ``expert 2``, ``row 7``; empty for all of the tensor."""
    reason: str
    """``quantized twice``, ``scaled``, ``other weights`` or ``error``."""
    through: str
    """``F16 -> Q8_0 -> Q4_K``, where it was quantized twice."""
    error: float
    """Relative error of the weights."""
    plain_error: float
    """That of plain quantization."""
    gain: float
    """Length along the reference's weights, over that of plain quantization. 1 is right."""


@dataclass(frozen=True, slots=True)
class Making:
    """How a file compares with what quantizing the reference to its types gives."""

    tensors: int
    """Tensors that were held to it."""
    identical: int
    """Those whose weights are exactly what plain quantization gives."""
    unknown: tuple[str, ...]
    """Types that cannot be made here, so that nothing is said about their tensors."""
    largest_ratio: float
    """Of an error to the plain one, over all tensors that have one."""
    faults: tuple[Fault, ...]

    @property
    def well_made(self) -> bool | None:
        """Whether there is no fault; None where nothing could be held to anything."""
        return not self.faults if self.tensors or self.faults else None


@dataclass(slots=True)
class Checked:
    """Sums over one tensor: r.r, e.e, p.p, r.c and r.q.

    r are the reference's weights, c the file's and q plain ones; e is c - r, and p is q - r.
    """

    name: str
    type: str
    reference_type: str
    matrix: bool
    """Whether it has more than one row."""
    rows: npt.NDArray[np.floating]
    """(R, 5)."""
    same: Mask
    """(R,): rows that are just what plain quantization gives."""
    parts: list[tuple[Part, Doubles]]
    through: tuple[str, ...] = ()

    def packed(self) -> Checked:
        """Return the same in little memory: row by row only where a row is not plain."""
        if not self.same.all():
            return replace(self, rows=self.rows.astype(np.float32))
        return replace(self, rows=self.whole[None], same=self.same[:1], parts=[])

    @property
    def whole(self) -> Doubles:
        """(5,): the sums over all rows."""
        total: Doubles = self.rows.sum(axis=0, dtype=np.float64)
        return total

    @property
    def ratio(self) -> float:
        """The error over that of plain quantization; 0 where that has none."""
        _, error, plain, *_ = self.whole.tolist()
        return float((error / plain) ** 0.5) if plain else 0.0

    @property
    def compared(self) -> Mask:
        """Rows that say something: a row of zeros is the same in any type."""
        return self.rows[:, 0] > 0


def faults_of(of: Checked, is_plain: bool) -> list[Fault]:
    """Return what is wrong with a tensor: of all of it, else of its parts, else of its rows."""
    floor = ROUNDING.get(of.reference_type, 1e-6)
    differing = ~of.same & of.compared
    touched = [part for part, _ in of.parts if _is_touched(part, differing)]
    few = touched if 0 < 2 * len(touched) <= len(of.parts) else []
    whole = of.whole
    if of.through:
        said = [_fault(of, part, sums, _TWICE) for part, sums in of.parts if part in few]
        return said or [_fault(of, None, whole, _TWICE)]
    # Of experts, those that an importance knows nothing of are plain, and the others are not.
    stacked = any(part.head is None for part, _ in of.parts)
    is_plain = is_plain or (not stacked and _has_plain_rows(of, slice(None)))
    parts = []
    for part, sums in of.parts:
        plain = is_plain or (stacked and _has_plain_rows(of, slice(part.start, part.stop)))
        if reason := _reason(sums, PLAIN if plain else WEIGHED_PART, floor):
            parts.append((part, sums, reason))
    reason = _reason(whole, PLAIN if is_plain else WEIGHED, floor)
    if parts and 2 * len(parts) <= len(of.parts):
        return [_fault(of, part, sums, reason) for part, sums, reason in parts]
    if 2 * np.count_nonzero(differing) <= np.count_nonzero(of.compared):
        rows = _faults_of_rows(of, differing, is_plain, floor)
        if rows:
            return rows
    if reason or parts:
        return [_fault(of, None, whole, reason or parts[0][2])]
    return _faults_of_rows(of, differing, is_plain, floor)


def _has_plain_rows(of: Checked, rows: slice) -> bool:
    """Whether a fifth of the rows are plain: an importance leaves next to none of them so."""
    compared = of.compared[rows]
    return bool(5 * np.count_nonzero(of.same[rows] & compared) >= np.count_nonzero(compared) > 0)


def _faults_of_rows(of: Checked, differing: Mask, is_plain: bool, floor: float) -> list[Fault]:
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = of.rows[:, 3] / of.rows[:, 4]
        error = of.rows[:, 1] / of.rows[:, 0]
    rows = np.flatnonzero(differing & (gain < _FOREIGN) & (error > 1)).tolist()
    if (
        not rows
        and is_plain
        and _reason(of.rows[differing].sum(axis=0, dtype=np.float64), PLAIN, floor)
    ):
        rows = np.flatnonzero(differing).tolist()
    found = []
    for row in rows[:1]:
        parts = [part for part, _ in of.parts if not part.columns and part.start <= row < part.stop]
        part = parts[0] if parts else Part(f"row {row}", None, row, row + 1)
        sums = of.rows[row]
        found.append(_fault(of, part, sums, _reason(sums, PLAIN, floor) or "error"))
    return found


def _is_touched(part: Part, differing: Mask) -> bool:
    return not part.columns and bool(differing[part.start : part.stop].any())


def _reason(sums: Doubles, limit: float, floor: float) -> str:
    """Say in a word what is wrong; nothing where the error is one that may be."""
    weights, error, plain, along, plain_along = sums.tolist()
    if not weights:
        return "error" if error else ""
    off, best = (error / weights) ** 0.5, (plain / weights) ** 0.5
    gain = along / plain_along if plain_along > 0 else 1.0
    scaled = gain > 1 + _LONGER or gain < 1 - _SHORTER - plain / weights
    if off <= limit * best + floor and not scaled:
        return ""
    if gain < _FOREIGN:
        return "other weights"
    # Scaled, if the length alone is most of what there is too much of error.
    return "scaled" if (along - plain_along) ** 2 / weights > 0.5 * (error - plain) else "error"


def _fault(of: Checked, part: Part | None, sums: Doubles, reason: str) -> Fault:
    weights, error, plain, along, plain_along = sums.tolist()
    return Fault(
        tensor=of.name,
        type=of.type,
        layer=role_of(of.name).layer,
        head=part.head if part else None,
        part=part.name if part else "",
        reason=reason,
        through=" -> ".join((of.reference_type, *of.through, of.type)) if of.through else "",
        error=(error / weights) ** 0.5 if weights else np.inf,
        plain_error=(plain / weights) ** 0.5 if weights else 0.0,
        gain=along / plain_along if plain_along else np.inf,
    )
