"""What ``ggufscope quantize`` shows: the plan before, the bar meanwhile, the cost afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

from rich.console import RenderableType

from ggufscope.blocks.error import WeightError
from ggufscope.model.roles import role_of
from ggufscope.recipes.apply import Outlook, Result
from ggufscope.recipes.files import free_bytes
from ggufscope.recipes.plan import Plan
from ggufscope.report.console import (
    cell,
    facts,
    left,
    name_cell,
    paragraph,
    plain_table,
    right,
    title,
    words,
)
from ggufscope.report.units import bits, extents, size

SCHEMA: Final = "ggufscope.quantize/1"
MOST_ROWS: Final = 2000
"""Tensors that the table of a plan shows."""
WORST: Final = 8
"""Tensors that the table of costs shows; ``--json`` has all of them."""


def outlook_views(outlook: Outlook) -> Iterator[RenderableType]:
    """Give the whole plan: each tensor's type, size and the rule that chose it."""
    plan = outlook.plan
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
    if len(plan.tensors) > MOST_ROWS:
        hidden = len(plan.tensors) - MOST_ROWS
        yield paragraph(f"... and {hidden:,} tensors more: --json has them", "dim")
    yield ""
    yield facts(_outlook_facts(outlook))


def _outlook_facts(outlook: Outlook) -> list[tuple[str, str]]:
    plan = outlook.plan
    rows = [("types", _types(plan)), ("bits", f"{bits(plan.bits_per_weight)} per weight")]
    rows += [
        ("file", f"{path}: {nbytes:,} bytes, {size(nbytes)}") for path, nbytes in outlook.files
    ]
    free = free_bytes(outlook.files[0][0].parent)
    if free is not None:
        fits = "enough" if free >= outlook.nbytes else "NOT ENOUGH"
        rows.append(("room", f"{size(free)} free: {fits}"))
    if plan.needs_importance:
        rows.append(("needs", "an importance matrix: without one this plan is refused"))
    return rows


def result_views(result: Result) -> Iterator[RenderableType]:
    """Give sizes before and after, the types used, and what it cost."""
    plan = result.plan
    before = 8 * plan.source_nbytes / plan.n_elements if plan.n_elements else 0.0
    rows = [("wrote", ", ".join(str(path) for path in result.paths))]
    rows.append(("size", f"{size(plan.source_nbytes)} > {size(plan.nbytes)} of tensors"))
    rows.append(("bits", f"{bits(before)} > {bits(plan.bits_per_weight)} per weight"))
    rows.append(("types", _types(plan)))
    yield facts(rows)
    if not result.costs:
        return
    yield ""
    yield paragraph("What it cost: root mean square error, relative to the weights", "bold")
    yield _cost_table("role", _by_role(result))
    yield ""
    worst = sorted(result.costs.items(), key=lambda item: -item[1].relative)
    yield _cost_table("tensor", worst[:WORST])
    if len(worst) > WORST:
        yield paragraph(f"... and {len(worst) - WORST} tensors that lost less", "dim")
    yield ""


def _cost_table(head: str, costs: Sequence[tuple[str, WeightError]]) -> RenderableType:
    table = plain_table(left(head), right("relative error"))
    for name, cost in costs:
        table.add_row(cell(name), f"{100 * cost.relative:.3f}%")
    return table


def _by_role(result: Result) -> list[tuple[str, WeightError]]:
    sums: dict[str, WeightError] = {}
    for name, cost in result.costs.items():
        group = role_of(name).group
        sums[group] = sums[group] + cost if group in sums else cost
    return sorted(sums.items(), key=lambda item: -item[1].relative)


def _types(plan: Plan) -> str:
    counts = Counter(tensor.target.name for tensor in plan.tensors)
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def outlook_json(outlook: Outlook) -> dict[str, Any]:
    """Give the plan for machines."""
    return {
        "schema": SCHEMA,
        **_plan_json(outlook.plan),
        "files": [{"path": str(path), "nbytes": nbytes} for path, nbytes in outlook.files],
    }


def result_json(result: Result) -> dict[str, Any]:
    """Give the result for machines: the plan, and what each tensor and role lost."""
    return {
        "schema": SCHEMA,
        **_plan_json(result.plan),
        "files": [{"path": str(path), "nbytes": path.stat().st_size} for path in result.paths],
        "relative_rms_error": {
            "tensors": {name: cost.relative for name, cost in result.costs.items()},
            "roles": {name: cost.relative for name, cost in _by_role(result)},
        },
    }


def _plan_json(plan: Plan) -> dict[str, Any]:
    return {
        "preset": plan.preset,
        "file_type": plan.file_type,
        "bits_per_weight": plan.bits_per_weight,
        "tensor_bytes": plan.nbytes,
        "source_tensor_bytes": plan.source_nbytes,
        "needs_importance_matrix": plan.needs_importance,
        "pruned": list(plan.pruned),
        "tensors": [
            {
                "name": tensor.name,
                "source_name": tensor.source_name,
                "shape": list(tensor.shape),
                "source_type": tensor.source.name,
                "type": tensor.target.name,
                "nbytes": tensor.nbytes,
                "rule": tensor.rule,
                "fallback_from": tensor.fallback_from.name if tensor.fallback_from else None,
                "needs_importance_matrix": tensor.needs_importance,
            }
            for tensor in plan.tensors
        ],
    }
