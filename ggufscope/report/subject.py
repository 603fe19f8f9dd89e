"""What was run: a model and a prompt, as the reports of runs say it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ggufscope.model.summary import Summary


@dataclass(frozen=True, slots=True)
class Subject:
    """What was run: a model's name and facts, and a prompt."""

    path: Path
    summary: Summary
    text: str | None
    """None where token ids were given."""
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    """A printable label of each."""
    label: Callable[[int], str]
    """The label of any token of the vocabulary."""
    long_rope: str | None = None
    """Which of LongRoPE's factors it ran with: ``"long"``, ``"short"``, None without LongRoPE."""

    @property
    def file_name(self) -> str:
        """The name of its file, without the folder."""
        return self.path.name

    @property
    def rope_facts(self) -> list[tuple[str, str]]:
        """Which of LongRoPE's factors ran, and what chose them; nothing without LongRoPE."""
        hparams = self.summary.hparams
        if self.long_rope is None or hparams is None:
            return []
        than = "more" if self.long_rope == "long" else "no more"
        limit = hparams.rope_scaling_original_context_length
        words = f"for {than} than {limit} tokens; --context chooses"
        return [("rope", f"LongRoPE's {self.long_rope} factors, {words}")]

    def kv_heads(self, layers: Iterable[int]) -> dict[int, int]:
        """Return how many heads of keys and values each of these layers has; none where unknown."""
        hparams = self.summary.hparams
        counts = hparams.head_count_kv if hparams else None
        return {layer: counts[layer] for layer in layers} if counts else {}

    @property
    def counted(self) -> str:
        """The number of its tokens: ``7 tokens``."""
        return f"{len(self.ids):,} token{'s' if len(self.ids) > 1 else ''}"
