"""How a model is going to be run: the part of llama.cpp's settings that memory depends on.

Follows ``llama_context``'s constructor in llama.cpp's ``llama-context.cpp``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ggufscope.blocks.layouts import LAYOUTS, Layout, layout_named
from ggufscope.container.tensor_info import padded
from ggufscope.errors import BadUsage

CELLS: Final = 256
"""Cells of a cache come in multiples of this."""
CACHE_TYPES: Final = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "IQ4_NL", "Q5_0", "Q5_1"]
"""What keys and values can be kept in (``kv_cache_types`` of llama.cpp's ``common/arg.cpp``)."""
DEFAULT_BATCH: Final = 512
"""Tokens that are computed at once, where nothing else is asked for."""


def cache_type(name: str | None) -> Layout:
    """Return the layout of this name, F16 for None. Raises ``UnknownType``, ``BadUsage``."""
    layout = layout_named(name or "F16", CACHE_TYPES)
    if layout.name not in CACHE_TYPES:
        raise BadUsage(
            f"llama.cpp keeps no cache in {layout.name}",
            hint=f"the types are {', '.join(CACHE_TYPES)}",
        )
    return layout


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What is asked of a run; defaults are llama.cpp's.

    Raises ``BadUsage`` for a number below 1 and for what llama.cpp refuses, and what ``cache_type``
    raises.
    """

    context: int
    """Tokens of all sequences together (``-c``)."""
    parallel: int = 1
    """Sequences side by side (``-np``)."""
    batch: int = DEFAULT_BATCH
    """Tokens computed at once (``-ub``)."""
    type_k: Layout | str = LAYOUTS["F16"]
    """What keys are kept in, or its name."""
    type_v: Layout | str = LAYOUTS["F16"]
    unified: bool = False
    """All sequences in one cache (``--kv-unified``), rather than each in its own."""
    swa_full: bool = False
    """Windowed layers keep all tokens (``--swa-full``)."""
    flash_attention: bool = True
    """Scores are never all in memory; llama.cpp does so wherever the device can."""

    def __post_init__(self) -> None:
        for name in ("context", "parallel", "batch"):
            if getattr(self, name) < 1:
                raise BadUsage(f"no run has {name}={getattr(self, name)}", hint="give 1 or more")
        _, values = self.layouts  # a name that is no type is refused at once
        if values.block_length > 1 and not self.flash_attention:
            raise BadUsage(
                f"llama.cpp keeps no V cache in {values.name} without flash attention",
                hint="leave --no-flash-attention out, or keep values in F16: --type-v f16",
            )

    @property
    def layouts(self) -> tuple[Layout, Layout]:
        """The types of keys and of values."""
        k, v = (
            cache_type(each) if isinstance(each, str) else each
            for each in (self.type_k, self.type_v)
        )
        return k, v

    @property
    def streams(self) -> int:
        """Caches of equal size: one for each sequence, or one for all."""
        return 1 if self.unified else self.parallel

    @property
    def cells(self) -> int:
        """Cells of one stream in a layer that sees everything."""
        whole = padded(self.context, CELLS)
        return whole if self.unified else padded(whole // self.parallel, CELLS)

    @property
    def tokens_at_once(self) -> int:
        """No more than the context."""
        return min(self.context, self.batch)

    def window_cells(self, window: int) -> int:
        """Cells of one stream in a layer that sees the last ``window`` tokens."""
        if self.swa_full:
            return self.cells
        seen = window * (self.parallel if self.unified else 1)
        return padded(min(self.cells, seen + self.tokens_at_once), CELLS)
