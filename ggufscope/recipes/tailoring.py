"""A plan made to measure: for each tensor the types it may have, and a plan of those chosen.

The plan is one of llama-quantize's: a preset, and a ``--tensor-type`` rule for each tensor.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from ggufscope.blocks.layouts import Layout, layout_named
from ggufscope.errors import BadUsage, GGUFScopeError
from ggufscope.recipes.categories import fitting, needs_importance
from ggufscope.recipes.jobs import require_makeable
from ggufscope.recipes.options import PlanOptions, TypeRule
from ggufscope.recipes.plan import Plan, PlannedTensor, TensorLike, plan

USUAL_TYPES: Final = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0")
"""What is chosen from where nothing else is said: types that run fast everywhere."""


def is_free(tensor: PlannedTensor) -> bool:
    """Whether the type of a tensor is a preset's choice: it is not kept, nor set by an option."""
    return not tensor.rule.startswith(("kept:", "--")) and isinstance(tensor.source, Layout)


def choices(
    base: Plan,
    types: Iterable[str] = USUAL_TYPES,
    floor: str | None = None,
    weighed: frozenset[str] = frozenset(),
) -> dict[str, tuple[str, ...]]:
    """Return the types that each free tensor of a plan may have, the smallest first.

    A type that its rows do not divide into gives way as in llama-quantize; none smaller than
    ``floor`` is taken, none that would need importance for a tensor not ``weighed``. Raises
    ``UnknownType``, ``BadUsage`` for a tensor that no type is left for.
    """
    wanted = [layout_named(name) for name in types]
    least = layout_named(floor).bits_per_weight if floor else 0.0
    found = {}
    for tensor in filter(is_free, base.tensors):
        fits = {
            fitted.name: fitted
            for fitted in (_fitting(layout, tensor) for layout in wanted)
            if fitted is not None
            and fitted.bits_per_weight >= least
            and _makeable(fitted, tensor, weighed=tensor.source_name in weighed)
        }
        if not fits:
            said = ", ".join(layout.name for layout in wanted)
            raise BadUsage(
                f"none of {said} is for {tensor.name!r}" + (f" above {floor}" if floor else ""),
                hint="name more in --types, or give this one a type with --tensor-type",
            )
        found[tensor.source_name] = tuple(sorted(fits, key=lambda name: fits[name].bits_per_weight))
    return found


def _fitting(layout: Layout, tensor: PlannedTensor) -> Layout | None:
    try:
        return fitting(layout, tensor.name, tensor.shape[-1])
    except GGUFScopeError:
        return None


def _makeable(layout: Layout, tensor: PlannedTensor, *, weighed: bool) -> bool:
    if layout is tensor.source:
        return True
    if needs_importance(tensor.name, layout, "") and not weighed:
        return False
    try:
        require_makeable(layout.name, tensor.name, importance=weighed)
    except GGUFScopeError:
        return False
    return True


def tailored(
    tensors: Iterable[TensorLike],
    metadata: Mapping[str, Any],
    preset: str,
    options: PlanOptions,
    types: Mapping[str, str],
) -> Plan:
    """Return a preset's plan with these types for these tensors. Raises what ``plan`` does."""
    rules = tuple(rule_for(name, type_) for name, type_ in types.items())
    return plan(
        tensors, metadata, preset, replace(options, tensor_types=(*options.tensor_types, *rules))
    )


def rule_for(tensor: str, type_: str) -> TypeRule:
    """Return the rule that gives one tensor a type, and no other tensor."""
    return TypeRule(re.compile(f"^{re.escape(tensor)}$", re.ASCII), layout_named(type_))


def rules_text(rules: Sequence[TypeRule]) -> str:
    """Return rules as a ``--tensor-type-file`` has them, a line each."""
    return "".join(f"{rule.pattern.pattern}={rule.type.name.lower()}\n" for rule in rules)
