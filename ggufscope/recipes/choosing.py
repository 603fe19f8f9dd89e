"""One tensor after the other: the type that a mix and the options give it.

The counters make this a walk, not a function of one tensor: the third ``ffn_down`` to be asked
about is the third. Follows ``llama_tensor_get_type`` in llama.cpp's ``llama-quant.cpp``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from ggufscope.blocks.layouts import LAYOUTS, ForeignType, Layout
from ggufscope.errors import LayerUnknown, TypeDoesNotFit
from ggufscope.recipes.categories import (
    LAYER_TABLE_NAME,
    OUTPUT_NAME,
    Category,
    category_of,
    fitting,
    why_kept,
)
from ggufscope.recipes.mixes import LIFTED
from ggufscope.recipes.options import PlanOptions, TypeRule
from ggufscope.recipes.order import leading_layer
from ggufscope.recipes.rules import Mix, MixGroup, Situation
from ggufscope.recipes.traits import Traits


class Choice(NamedTuple):
    """A type, and why."""

    type: Layout | ForeignType
    rule: str
    kept: bool = False
    """Not up for quantization at all."""
    fallback_from: Layout | None = None


class Chooser:
    """Hands out types to the tensors of one model, in the order in which they are written."""

    def __init__(
        self, mix: Mix, traits: Traits, options: PlanOptions, names: Iterable[str]
    ) -> None:
        """Take all names first: some rules go by how many there are of a category."""
        self._mix = mix
        self._traits = traits
        self._options = options
        self._seen: Counter[Category] = Counter()
        categories = [category_of(name) for name in names]
        self._values = sum(category.holds_values for category in categories)
        self._tied = Category.OUTPUT not in categories

    def choose(self, name: str, shape: tuple[int, ...], type_: Layout | ForeignType) -> Choice:
        """Return the type of the next tensor.

        Raises ``NoFallback``, ``TypeDoesNotFit``, ``HeadsUnknown`` or ``LayerUnknown``.
        """
        main = self._mix.type
        kept = why_kept(name, shape, self._traits.architecture)
        if isinstance(type_, ForeignType):
            kept = "a type that ggml does not have"
        elif main is None:
            kept = "COPY keeps every type"
        elif not kept and self._options.leave_output_tensor and name == OUTPUT_NAME:
            kept = "--leave-output-tensor"
        if kept or main is None:
            return Choice(type_, f"kept: {kept}", kept=True)
        asked = self._asked_for(name, category_of(name), shape[-1])
        if asked is not None:
            return asked
        if self._mix.group is MixGroup.FLOAT:
            return Choice(main, f"{self._mix.name}: every matrix")
        rule = self._by_hand(name)
        if rule is not None:
            wanted, why = rule.type, f"--tensor-type {rule.pattern.pattern}={rule.type.name}"
        elif self._options.pure:
            wanted, why = main, "--pure"
        else:
            wanted, why = self._by_mix(name, shape, main)
        return _fit(wanted, why, name, shape[-1])

    def _asked_for(self, name: str, category: Category, row: int) -> Choice | None:
        """Return what --token-embedding-type or --output-tensor-type says; no fallback there."""
        asked, option = None, ""
        if category is Category.TOKEN_EMBD:
            asked, option = self._options.token_embedding_type, "--token-embedding-type"
            if name == LAYER_TABLE_NAME and self._by_hand(name) is not None:
                return None
        elif category is Category.OUTPUT:
            asked, option = self._options.output_tensor_type, "--output-tensor-type"
        if asked is None:
            return None
        if row % asked.block_length:
            raise TypeDoesNotFit(
                f"{option} {asked.name} is not for {name!r}: rows of {row} weights do not divide "
                f"into blocks of {asked.block_length}",
                hint="choose a type of shorter blocks: Q8_0, or F16, which fits any row",
            )
        return Choice(asked, option)

    def _by_hand(self, name: str) -> TypeRule | None:
        return next((rule for rule in self._options.tensor_types if rule.names(name)), None)

    def _by_mix(self, name: str, shape: tuple[int, ...], main: Layout) -> tuple[Layout, str]:
        mix, traits, category = self._mix, self._traits, category_of(name)
        if traits.architecture == "glm5-next" and any(
            part in name for part in ("attn_q_a", "attn_q_b", "nextn.eh_proj")
        ):
            return LAYOUTS["Q8_0"], "glm5-next: never below Q8_0"
        stands_for = f"{category}" if category is not Category.OTHER else "others"
        if self._tied and category is Category.TOKEN_EMBD:
            stands_for, category = "token_embd stands in for output", Category.OUTPUT
        if category is Category.OUTPUT and self._options.output_tensor_type is not None:
            return self._options.output_tensor_type, f"--output-tensor-type: {stands_for}"
        rules = mix.rules_for(category)
        # Asked for the layer in a name, upstream gives up even where nothing depends on it.
        needed = rules or category.is_feed_forward
        situation = self._situation(name, shape, category, main) if needed else None
        if category is not Category.OUTPUT:
            self._seen[Category.ATTN_V if category.holds_values else category] += 1
        for condition, type_ in rules:
            if situation is not None and condition.holds(situation):
                words = f", {condition.words}" if condition.words else ""
                chosen, why = type_, f"{mix.name}: {stands_for}{words}"
                break
        else:
            chosen, why = main.name, f"{mix.name}: {stands_for}, the main type"
        lifts = mix.group is MixGroup.ORDINARY and category.holds_values and traits.seventy_b
        if lifts and chosen in LIFTED:
            chosen, why = LIFTED[chosen], f"{why}, raised: the 70B shape"
        return LAYOUTS[chosen], why

    def _situation(
        self, name: str, shape: tuple[int, ...], category: Category, main: Layout
    ) -> Situation:
        traits = self._traits
        position, count = self._seen[category], traits.layers
        if category.holds_values:
            position, count = self._seen[Category.ATTN_V], self._values
        elif (
            category.is_feed_forward and traits.experts > 1 and self._mix.group is MixGroup.ORDINARY
        ):
            position = _layer_of(name, traits.layers)
        stacked = len(shape) > 2 and shape[-3] > 1
        if traits.architecture == "bailingmoe3":  # its attention is stacked too
            stacked = stacked and category.is_feed_forward
        ragged = shape[-1] % main.block_length != 0
        return Situation(position, count, traits, self._options.importance, ragged, stacked)


def _layer_of(name: str, layers: int) -> int:
    """Return the layer in a name: experts of one layer are not always next to each other."""
    layer = leading_layer(name)
    if layer is None or not 0 <= layer < layers:
        raise LayerUnknown(
            f"the name of tensor {name!r} gives none of the {layers} layers",
            hint="in a model of experts every feed-forward tensor is named blk.N., N a layer",
        )
    return layer


def _fit(wanted: Layout, why: str, name: str, row: int) -> Choice:
    fits = fitting(wanted, name, row)
    if fits is wanted:
        return Choice(wanted, why)
    said = (
        f"{why}; {wanted.name} takes blocks of {wanted.block_length}, rows of {row} do not divide"
    )
    return Choice(fits, said, fallback_from=wanted)
