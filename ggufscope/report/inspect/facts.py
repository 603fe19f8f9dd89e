"""One tensor in a few facts, as the terminal and the page both show them."""

from __future__ import annotations

from dataclasses import dataclass

from ggufscope.blocks.apart import Apart
from ggufscope.measure.costs import Costs
from ggufscope.measure.statistics import FAR, Norms, Part, Statistics
from ggufscope.model.hf_names import HFName
from ggufscope.model.roles import role_of
from ggufscope.report.units import bits, extents, percent, size, small


@dataclass(frozen=True, slots=True)
class Inspected:
    """One tensor, and all that was found out about it."""

    part: Part
    statistics: Statistics
    costs: Costs
    hf_name: HFName
    block: int | None = None
    """The number of the block that is taken apart."""
    apart: Apart | None = None

    @property
    def name(self) -> str:
        """Its GGUF name."""
        return self.part.tensor.name


def tensor_facts(found: Inspected) -> list[tuple[str, str]]:
    """Return what it is and where it lies."""
    tensor = found.part.tensor
    role = role_of(tensor.name)
    said = [role.label or role.group] + ([f"layer {role.layer}"] if role.layer is not None else [])
    note = f"; {found.hf_name.note}" if found.hf_name.note else ""
    width = tensor.info.bits_per_weight
    rows = [
        ("tensor", f"{tensor.name}: {', '.join(said)}"),
        ("HF name", f"{found.hf_name.short or 'none'}{note}"),
        (
            "stored",
            f"{extents(tensor.shape)} {tensor.type.name}: {tensor.info.n_elements:,} weights, "
            f"{size(tensor.nbytes)}" + (f", {bits(width)} bits each" if width else ""),
        ),
        (
            "where",
            f"bytes {tensor.offset:,} to {tensor.offset + tensor.nbytes:,} of "
            f"{tensor.shard.source.path.name}",
        ),
    ]
    if found.part.n != tensor.info.n_elements:
        rows.append(("looked at", f"rows {found.part.start:,} to {found.part.stop - 1:,}"))
    return rows


def number_facts(found: Inspected) -> list[tuple[str, str]]:
    """Return its weights in numbers."""
    s, part = found.statistics, found.part
    rows = []
    if s.finite:
        at = [_place(part, place) for place in (s.smallest_at, s.largest_at)]
        rows += [
            ("smallest", f"{small(s.smallest)} at {at[0]}"),
            ("largest", f"{small(s.largest)} at {at[1]}"),
            ("mean", small(s.mean_weight)),
            ("deviation", f"{small(s.deviation)}; kurtosis {small(s.kurtosis)} (normal: 3)"),
            ("zeros", f"{s.zeros:,} ({percent(s.zeros / s.finite)})"),
            (
                "outliers",
                f"{s.outliers:,} further than {FAR:g} deviations from the mean "
                f"({percent(s.outliers / s.finite)})",
            ),
        ]
    if s.finite < s.n:
        rows.append(("no number", f"{s.n - s.finite:,} weights are NaN or infinite"))
    for word, norms, first in (
        ("rows", s.row_norms, part.start),
        ("columns", s.column_norms, 0),
    ):
        if norms is not None:
            rows.append((word, _norms(norms, first)))
    return rows


def _place(part: Part, place: int) -> str:
    return f"[{', '.join(map(str, part.index(place)))}]"


def _norms(norms: Norms, first: int) -> str:
    values = norms.values
    ordered = sorted(values.tolist())
    middle = ordered[len(ordered) // 2]
    longest = ", ".join(f"{at + first:,} ({small(norm)})" for at, norm in norms.largest[:3])
    return (
        f"norms {small(ordered[0])} to {small(ordered[-1])}, {small(middle)} in the middle; "
        f"the longest {longest}"
    )


def how_tried(found: Inspected) -> str:
    """Return how the errors of other types were found."""
    tried, n = found.costs.tried, found.part.n
    which = "all weights" if tried == n else f"{tried:,} of {n:,} weights"
    width = found.part.tensor.info.bits_per_weight or 32
    more = "; on top of what it has lost already" if width < 16 else ""
    return f"relative root mean square error of {which}, without an importance matrix{more}"
