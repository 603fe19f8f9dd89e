"""What can be asked of a plan, by llama-quantize's names.

Follows the command line of llama.cpp's ``tools/quantize/quantize.cpp``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

from ggufscope.blocks.layouts import Layout, layout_named
from ggufscope.errors import BadPruning, BadTypeRule, UnknownType

_LAST_LAYER: Final = (1 << 31) - 1
"""llama-quantize counts layers in 32 bits."""


@dataclass(frozen=True, slots=True)
class TypeRule:
    """A type for every tensor whose name the pattern is found in: ``--tensor-type``."""

    pattern: re.Pattern[str]
    type: Layout

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``NAME=TYPE``; the name is a regex, taken in lower case. Raises ``BadTypeRule``."""
        name, equals, type_ = text.partition("=")
        if not (name and equals and type_):
            raise BadTypeRule(
                f"{text!r:.60} gives no tensor a type",
                hint="write NAME=TYPE, such as ffn_down=q6_k",
            )
        try:
            return cls(re.compile(name.lower(), re.ASCII), layout_named(type_))
        except re.error as error:
            raise BadTypeRule(f"{name!r:.60} is not a valid regex: {error}") from None
        except UnknownType as error:
            raise BadTypeRule(f"{text!r:.60}: {error.message}", hint=error.hint) from None

    def names(self, tensor: str) -> bool:
        """Whether it is about the tensor of this name."""
        return self.pattern.search(tensor) is not None


def parse_type_rules(text: str) -> tuple[TypeRule, ...]:
    """Read rules separated by blanks or line ends: the text of a ``--tensor-type-file``."""
    return tuple(TypeRule.parse(word) for word in text.split())


def parse_layers(text: str) -> tuple[int, ...]:
    """Read ``L0,L1,...``: the layers of ``--prune-layers``. Raises ``BadPruning``."""
    try:
        layers = {int(number) for number in text.split(",")}
    except ValueError:
        layers = {-1}
    if not 0 <= min(layers) <= max(layers) <= _LAST_LAYER:
        raise BadPruning(
            f"{text!r:.60} does not list layers", hint="write their numbers, such as 3,4,5"
        )
    return tuple(sorted(layers))


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What is asked of a plan beside its preset."""

    allow_requantize: bool = False
    """Quantize again what is quantized; llama.cpp warns that this can cost much quality."""
    leave_output_tensor: bool = False
    """Let ``output.weight`` keep its type."""
    pure: bool = False
    """Return every tensor the main type."""
    output_tensor_type: Layout | None = None
    token_embedding_type: Layout | None = None
    tensor_types: tuple[TypeRule, ...] = ()
    """The first rule that names a tensor counts; none does in F32, F16, BF16 and COPY."""
    prune_layers: tuple[int, ...] = ()
    """Layers to leave out, ascending; those above them move down."""
    keep_split: bool = False
    """Keep the source's order, and its shards, rather than sort the tensors."""
    importance: bool = False
    """Whether there will be an importance matrix: some types depend on it."""


DEFAULTS = PlanOptions()
