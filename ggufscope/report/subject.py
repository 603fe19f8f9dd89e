"""What was run: a model and a prompt, as the reports of runs say it."""

from __future__ import annotations

from collections.abc import Callable
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

    @property
    def file_name(self) -> str:
        """The name of its file, without the folder."""
        return self.path.name

    @property
    def counted(self) -> str:
        """The number of its tokens: ``7 tokens``."""
        return f"{len(self.ids)} token{'s' if len(self.ids) > 1 else ''}"
