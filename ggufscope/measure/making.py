"""Is a file well made? The reference, quantized to the file's own types, says how good it can be.

Tensor by tensor the error of the file's weights is held to that of plain quantization, done here
and now. Equal weights settle it. An importance matrix makes the plain error larger, so other
weights may be further off by a factor, which is measured below. Where many of a tensor's rows, or
half of a type's tensors, are just what plain quantization gives, there was none, and no excuse.

What was quantized twice with little extra loss (F16 -> Q8_0 -> Q4_K: 0.3%) is within any factor.
There the hypothesis is tested: if the reference taken through another type first gives the very
weights of the file, that is how it was made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt

from ggufscope.arrays import Doubles, Floats, Mask
from ggufscope.blocks.codec import CODECS, dequantize, quantize
from ggufscope.blocks.layouts import LAYOUTS
from ggufscope.container.file import GGUFFile
from ggufscope.forward.block import Heads
from ggufscope.forward.transformer import Transformer
from ggufscope.forward.weights import Matrix, StoredWeights, Weights, tile_rows
from ggufscope.measure.parts import Part, parts_of
from ggufscope.model.roles import role_of
from ggufscope.pool import in_parallel

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

_UNWEIGHED: Final = frozenset(
    ("F32", "F16", "BF16", "Q8_0", "Q1_0", "Q2_0", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4")
)
"""Types that an importance changes nothing of."""
_ROUNDING: Final = {"F16": 5e-4, "BF16": 3e-3}
"""What a reference of this type may have lost itself: the file may be made from a finer one."""
_TWICE: Final = "quantized twice"
_MIDDLES: Final = (
    *("Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K"),
    *("Q5_1", "Q5_0", "Q4_1", "Q4_0", "IQ4_NL", "IQ4_XS", "MXFP4"),
)
"""What a file may have been before, the likeliest first."""


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
class _Checked:
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

    def packed(self) -> _Checked:
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
    def compared(self) -> Mask:
        """Rows that say something: a row of zeros is the same in any type."""
        return self.rows[:, 0] > 0


@dataclass(slots=True)
class Inspection:
    """Holds a file to its reference, a layer at a time."""

    reference: Weights
    candidate: Weights
    heads: Sequence[Heads]
    """Of each layer."""
    _checked: list[_Checked] = field(default_factory=list)
    _unknown: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, reference: GGUFFile, candidate: GGUFFile) -> Inspection:
        """Return one of two files of the same model."""
        model = Transformer.of(reference)
        heads = [model.block(layer).heads for layer in range(model.n_layers)]
        return cls(StoredWeights(reference), StoredWeights(candidate), heads)

    def look_at(self, layer: int | None, held: Weights | None = None) -> None:
        """Compare a layer's tensors with what ``held`` has of it; None for those of no layer."""
        for name in self.candidate.names():
            if role_of(name).layer == layer and name in self.reference:
                self._look_at(name, layer, (held or self.reference).matrix(name))

    def _look_at(self, name: str, layer: int | None, reference: Matrix) -> None:
        type_, reference_type = self.candidate.type(name), self.reference.type(name)
        if type_ != reference_type and CODECS[type_].quantize is None:
            self._unknown.add(type_)
            return
        matrix = self.candidate.matrix(name)
        shape = self.candidate.shape(name)
        heads = None if layer is None else self.heads[layer]
        parts = parts_of(role_of(name), shape, heads)
        plain = "" if type_ == reference_type else type_
        rows, columns = matrix.shape[0], [part for part in parts if part.columns]
        step = tile_rows(matrix.shape[1])
        work = partial(_tile, reference, matrix, plain, step, columns)
        tiles = in_parallel(work, range(0, rows, step))
        sums = np.concatenate([tile[0] for tile in tiles])
        same = np.concatenate([tile[1] for tile in tiles])
        by_part = [
            (part, sums[part.start : part.stop].sum(axis=0)) for part in parts if not columns
        ]
        by_part += zip(columns, np.sum([tile[2] for tile in tiles], axis=0), strict=True)
        found = _Checked(name, type_, reference_type, rows > 1, sums, same, by_part)
        if not same.all() and reference_type in {"F32", *_ROUNDING}:
            found.through = _middle(reference, matrix, type_, np.flatnonzero(~same))
        self._checked.append(found.packed())

    def result(self) -> Making:
        """Return what was found; call it when all layers were looked at."""
        in_layers = [each for each in self._checked if role_of(each.name).layer is not None]
        tensors = Counter(each.type for each in in_layers if each.matrix)
        plain = Counter(each.type for each in in_layers if each.matrix and each.same.all())
        known = {type_ for type_, count in tensors.items() if 2 * plain[type_] >= count}
        ratios = [_ratio(each.whole) for each in self._checked]
        return Making(
            tensors=len(self._checked),
            identical=sum(bool(each.same.all()) for each in self._checked),
            unknown=tuple(sorted(self._unknown)),
            largest_ratio=max(ratios, default=0.0),
            faults=tuple(
                fault
                for each in self._checked
                if not each.same.all()
                for fault in _faults(each, each.type in known | _UNWEIGHED)
            ),
        )


def _tile(
    reference: Matrix, candidate: Matrix, type_: str, step: int, columns: Sequence[Part], start: int
) -> tuple[Doubles, Mask, Doubles]:
    """Rows from ``start`` on -> sums of rows (n, 5), rows that are plain (n,), sums of columns."""
    stop = min(start + step, reference.shape[0])
    r, c = reference.rows(start, stop), candidate.rows(start, stop)
    q = _through(r, type_) if type_ else r
    x, e, p = (part.astype(np.float64) for part in (r, c - r, q - r))
    pairs = ((x, x), (e, e), (p, p), (x, c.astype(np.float64)), (x, q.astype(np.float64)))
    rows = np.stack([np.einsum("ij,ij->i", a, b) for a, b in pairs], axis=-1)
    by_column = np.stack([np.einsum("ij,ij->j", a, b) for a, b in pairs], axis=-1)
    cut = [by_column[part.start : part.stop].sum(axis=0) for part in columns]
    return rows, (c == q).all(axis=1), np.array(cut)


def _through(weights: Floats, type_: str) -> Floats:
    blocks = quantize(weights, type_, threads=1, check_finite=False)
    return dequantize(blocks, type_, weights.shape, threads=1)


def _middle(
    reference: Matrix, candidate: Matrix, type_: str, other: npt.NDArray[np.intp]
) -> tuple[str, ...]:
    """Return the types that lead from the reference to the very weights; none if none do.

    Of the rows that are not plain the first and the last are tried.
    """
    at = sorted({int(other[0]), int(other[-1])})
    r = np.concatenate([reference.rows(row, row + 1) for row in at])
    c = np.concatenate([candidate.rows(row, row + 1) for row in at])
    for middle in _MIDDLES:
        if r.shape[1] % LAYOUTS[middle].block_length:
            continue
        once = _through(r, middle)
        # A file between the two may have been made F16 again.
        for steps, weights in (((), once), (("F16",), _through(once, "F16"))):
            if np.array_equal(c, _through(weights, type_)):
                return (middle, *steps)
    return ()


def _ratio(sums: Doubles) -> float:
    return float(np.sqrt(sums[1] / sums[2])) if sums[2] else 0.0


def _faults(of: _Checked, is_plain: bool) -> list[Fault]:
    """Return what is wrong with a tensor: of all of it, else of its parts, else of its rows."""
    floor = _ROUNDING.get(of.reference_type, 1e-6)
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


def _has_plain_rows(of: _Checked, rows: slice) -> bool:
    """Whether a fifth of the rows are plain: an importance leaves next to none of them so."""
    compared = of.compared[rows]
    return bool(5 * np.count_nonzero(of.same[rows] & compared) >= np.count_nonzero(compared) > 0)


def _faults_of_rows(of: _Checked, differing: Mask, is_plain: bool, floor: float) -> list[Fault]:
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


def _fault(of: _Checked, part: Part | None, sums: Doubles, reason: str) -> Fault:
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
