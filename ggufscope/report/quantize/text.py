"""What ``ggufscope quantize`` shows: the plan before, the bar meanwhile, the cost afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import RenderableType

from ggufscope.blocks.error import WeightError
from ggufscope.recipes.apply import Result
from ggufscope.recipes.files import free_bytes
from ggufscope.recipes.plan import Plan
from ggufscope.recipes.request import Target
from ggufscope.report.console import (
    MOST_ROWS,
    cell,
    facts,
    hidden_rows,
    left,
    name_cell,
    paragraph,
    plain_table,
    right,
    title,
    words,
)
from ggufscope.report.units import bits, extents, percent, size

WORST: Final = 8
"""Tensors that the table of costs shows; ``--json`` has all of them."""


def target_views(target: Target, file_type: str | None = None) -> Iterator[RenderableType]:
    """Return the views of what was prepared, or of what became of a source of ``file_type``."""
    if isinstance(target, Result):
        return _result_views(target, file_type)
    return _plan_views(target)


def _plan_views(target: Target) -> Iterator[RenderableType]:
    """Yield the whole plan: each tensor's type, size and the rule that chose it."""
    plan = target.plan
    table = plain_table(left("name"), right("shape"), left("type"), right("size"), words("why"))
    for tensor in plan.tensors[:MOST_ROWS]:
        types = f"{tensor.source.name} > {tensor.target.name}" if tensor.converted else "as it is"
        table.add_row(
            name_cell(tensor.name),
            extents(tensor.shape),
            types,
            size(tensor.nbytes),
            paragraph(tensor.rule),
        )
    yield title(f"Plan for {plan.preset}: {len(plan.tensors)} tensors")
    yield table
    yield from hidden_rows(len(plan.tensors), "tensors", "--json has them")
    yield ""
    yield facts(_target_facts(target))


def _target_facts(target: Target) -> list[tuple[str, str]]:
    plan = target.plan
    rows = [("types", _types(plan)), ("bits", f"{bits(plan.bits_per_weight)} per weight")]
    rows += [
        ("file", f"{file.path}: {file.nbytes:,} bytes, {size(file.nbytes)}")
        for file in target.files
    ]
    free = free_bytes(target.paths[0].parent)
    if free is not None:
        fits = "enough" if free >= target.nbytes else "NOT ENOUGH"
        rows.append(("room", f"{size(free)} free: {fits}"))
    if plan.needs_importance:
        rows.append(("needs", "an importance matrix: without one this plan is refused"))
    return rows


def _result_views(result: Result, file_type: str | None) -> Iterator[RenderableType]:
    """Yield sizes before and after, the types used, and what it cost."""
    plan = result.plan
    rows = [("wrote", ", ".join(str(path) for path in result.paths))]
    rows.append(("size", f"{size(plan.source_nbytes)} > {size(plan.nbytes)} of tensors"))
    rows.append(
        ("bits", f"{bits(plan.source_bits_per_weight)} > {bits(plan.bits_per_weight)} per weight")
    )
    rows.append(("types", _types(plan)))
    yield facts(rows)
    if not result.costs:
        return
    yield ""
    # A source that is quantized has lost something before, which these numbers leave out.
    quantized = file_type not in {None, "F32", "F16", "BF16"}
    against = f"against the {file_type} source" if quantized else "relative to the weights"
    yield paragraph(f"What it cost: root mean square error, {against}", "bold")
    yield _cost_table("role", [*result.costs_by_role.items()])
    yield ""
    worst = sorted(result.costs.items(), key=lambda item: -item[1].relative)
    yield _cost_table("tensor", worst[:WORST])
    if len(worst) > WORST:
        yield paragraph(f"... and {len(worst) - WORST} tensors that lost less", "dim")
    yield ""


def _cost_table(head: str, costs: Sequence[tuple[str, WeightError]]) -> RenderableType:
    table = plain_table(left(head), right("relative error"))
    for name, cost in costs:
        table.add_row(cell(name), percent(cost.relative))
    return table


def _types(plan: Plan) -> str:
    counts = Counter(tensor.target.name for tensor in plan.tensors)
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())
