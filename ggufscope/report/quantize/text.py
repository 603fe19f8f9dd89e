"""What ``ggufscope quantize`` shows: the plan before, the bar meanwhile, the cost afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from rich.console import RenderableType

from ggufscope.blocks.error import NO_ERROR
from ggufscope.model.inventory import fold_alike
from ggufscope.recipes.apply import Result
from ggufscope.recipes.files import free_bytes
from ggufscope.recipes.jobs import weighs
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
from ggufscope.report.units import bits, counted, extents, percent, size, spans

WORST: Final = 5
"""Tensors that the table of costs shows; ``--json`` has all of them."""
_MOST_SHARDS: Final = 4
"""Shards of which each is named."""


def target_views(
    targets: Sequence[Target],
    file_type: str | None = None,
    *,
    brief: bool = False,
    overwrite: bool = False,
) -> Iterator[RenderableType]:
    """Return the views of what was prepared, or of what became of a source of ``file_type``.

    What it cost comes last. ``overwrite``: what is there may be.
    """
    results = [target for target in targets if isinstance(target, Result)]
    for number, target in enumerate(targets):
        if isinstance(target, Result):
            if number:
                yield ""
            yield facts(_result_facts(target, brief=brief))
            continue
        if not brief:
            yield from _plan_views(target.plan)
        yield facts(_target_facts(target, overwrite=overwrite))
        yield ""
    lossy = [result for result in results if result.costs and not brief]
    if lossy:
        # A source that is quantized has lost something before, which these numbers leave out.
        quantized = file_type not in {None, "F32", "F16", "BF16"}
        against = f"against the {file_type} source" if quantized else "relative to the weights"
        yield ""
        yield paragraph(f"What it cost: root mean square error, {against}", "bold")
    for number, result in enumerate(lossy):
        if number:
            yield ""
        yield _costs(result)


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


def _target_facts(target: Target, *, overwrite: bool) -> list[tuple[str, str]]:
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
    there = [path for path in target.paths if os.path.lexists(path)]
    if there and not overwrite:
        rows.append(("needs", f"--force: {there[0]} exists"))
    if plan.requantizes and not plan.options.allow_requantize:
        rows.append(("needs", "--allow-requantize: some tensors are quantized already"))
    if plan.needs_importance and target.imatrix is None:
        rows.append(("needs", "an importance matrix: --imatrix, or this plan is refused"))
    return rows + _imatrix_facts(target)


def _result_facts(result: Result, *, brief: bool) -> list[tuple[str, str]]:
    """Return sizes before and after and the types used; in brief the worst cost, too."""
    plan = result.plan
    bits_now = f"{bits(plan.source_bits_per_weight)} > {bits(plan.bits_per_weight)} per weight"
    rows = [
        ("wrote", _paths(result.paths)),
        ("size", f"{size(plan.source_nbytes)} > {size(plan.nbytes)} of tensors"),
        ("bits", bits_now),
        ("types", _types(plan)),
        *_imatrix_facts(result),
    ]
    if brief and result.costs:
        name, cost = max(result.costs.items(), key=lambda item: item[1].relative)
        worst = f"largest relative error {percent(cost.relative)}, in {name}"
        rows.append(("cost", worst if cost.relative else "nothing was lost"))
    return rows


def _paths(paths: Sequence[Path]) -> str:
    """Return what files were written; of many shards the first and the last."""
    if len(paths) > _MOST_SHARDS:
        return f"{paths[0]} to {paths[-1]}"
    return ", ".join(map(str, paths))


def _imatrix_facts(target: Target) -> list[tuple[str, str]]:
    matrix = target.imatrix
    if matrix is None:
        return []
    converted = [tensor for tensor in target.plan.tensors if tensor.converted]
    weighed = sum(
        tensor.source_name in matrix.entries and weighs(tensor.target.name) for tensor in converted
    )
    chunks = f", of {matrix.chunk_count:,} chunks" if matrix.chunk_count else ""
    made = f"{matrix.path}{chunks}: {weighed} of {len(converted)} tensors are weighed by it"
    return [("imatrix", made)]


def _costs(result: Result) -> RenderableType:
    """Return what tensors lost: the worst few, and all together."""
    if not any(cost.relative for cost in result.costs.values()):
        return paragraph(f"{result.plan.preset}: nothing was lost")
    table = plain_table(left(result.plan.preset), right("relative error"))
    worst = sorted(result.costs.items(), key=lambda item: -item[1].relative)
    for name, cost in worst[:WORST]:
        table.add_row(cell(name), percent(cost.relative))
    if len(worst) > WORST:
        table.add_row(f"... {len(worst) - WORST} that lost less", "")
    table.add_row(
        f"all {len(worst)} tensors", percent(sum(result.costs.values(), NO_ERROR).relative)
    )
    return table


def _types(plan: Plan) -> str:
    return counted(tensor.target.name for tensor in plan.tensors)
