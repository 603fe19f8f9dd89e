"""What ``ggufscope quantize`` shows: the plan before, the bar meanwhile, the cost afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import RenderableType

from ggufscope.blocks.error import WeightError
from ggufscope.model.inventory import fold_alike
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
    text,
    title,
)
from ggufscope.report.units import bits, extents, percent, size, spans

WORST: Final = 8
"""Tensors that the table of costs shows; ``--json`` has all of them."""


def target_views(target: Target, *, brief: bool = False) -> Iterator[RenderableType]:
    """Return the views of what was prepared, or of what became of it."""
    if isinstance(target, Result):
        yield from _result_views(target, brief=brief)
        return
    if not brief:
        yield from _plan_views(target.plan)
    yield facts(_target_facts(target))


def _plan_views(plan: Plan) -> Iterator[RenderableType]:
    """Yield the plan: types and sizes, those of layers alike as one, and the rules that chose."""
    table = plain_table(
        left("name"),
        text("layers"),
        right("shape"),
        left("type"),
        right("size"),
        left("why"),
    )
    folds = fold_alike(
        plan.tensors, lambda t: t.name, lambda t: (t.shape, t.source.name, t.target.name, t.rule)
    )
    rules: dict[str, int] = {}
    for name, numbers, tensors in folds[:MOST_ROWS]:
        first = tensors[0]
        types = f"{first.source.name} > {first.target.name}" if first.converted else "as it is"
        table.add_row(
            name_cell(name),
            paragraph(spans(numbers)),
            extents(first.shape),
            types,
            size(sum(tensor.nbytes for tensor in tensors)),
            f"[{rules.setdefault(_rule_words(first.rule, plan.preset), len(rules) + 1)}]",
        )
    yield title(f"Plan for {plan.preset}: {len(plan.tensors)} tensors")
    yield table
    yield from hidden_rows(len(folds), "lines", "--json has every tensor")
    yield ""
    for rule, number in rules.items():
        yield paragraph(f"[{number}] {rule}", "dim")
    yield ""


def _rule_words(rule: str, preset: str) -> str:
    """Return what a rule says, without the preset and the name, which stand beside it."""
    own = rule.removeprefix(f"{preset}: ")
    if own == rule:
        return rule
    name, _, condition = own.partition(", ")
    return condition or f"{name}: its own type in {preset}"


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


def _result_views(result: Result, *, brief: bool) -> Iterator[RenderableType]:
    """Yield sizes before and after, the types used, and what it cost."""
    plan = result.plan
    rows = [("wrote", ", ".join(str(path) for path in result.paths))]
    rows.append(("size", f"{size(plan.source_nbytes)} > {size(plan.nbytes)} of tensors"))
    rows.append(
        ("bits", f"{bits(plan.source_bits_per_weight)} > {bits(plan.bits_per_weight)} per weight")
    )
    rows.append(("types", _types(plan)))
    worst = sorted(result.costs.items(), key=lambda item: -item[1].relative)
    if brief and worst:
        name, cost = worst[0]
        rows.append(("cost", f"{percent(cost.relative)} of the weights at most, in {name}"))
    yield facts(rows)
    if brief or not worst:
        return
    yield ""
    yield paragraph("What it cost: root mean square error, relative to the weights", "bold")
    yield _cost_table("role", [*result.costs_by_role.items()])
    yield ""
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
