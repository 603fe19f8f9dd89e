"""What a check found: each with its grade, what it means, what to do, and llama.cpp's words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path, PurePath
from typing import Final


class Grade(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """The file cannot be used, or gives wrong results."""
    WARNING = "warning"
    """The file can be used, and something is likely not as it was meant."""
    NOTE = "note"
    """Good to know; nothing to mend."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found."""

    grade: Grade
    subject: str
    """What was looked at: a name of ``SUBJECTS``."""
    what: str
    """What is there: which tensor, key or byte."""
    meaning: str
    advice: str
    llama_cpp: str = ""
    """What llama.cpp says of it; empty where it says nothing."""
    tensor: str | None = None
    key: str | None = None


error: Final = partial(Finding, Grade.ERROR)
warning: Final = partial(Finding, Grade.WARNING)
note: Final = partial(Finding, Grade.NOTE)

SUBJECTS: Final = {
    "structure": "header, offsets, sizes, shards",
    "metadata": "hyperparameters",
    "tensors": "the tensors that the architecture needs, and their shapes",
    "tokenizer": "tokens, merges, special tokens",
    "template": "chat templates",
    "recipe": "types against general.file_type",
    "weights": "every block",
    "hash": "hashes against the manifest, or the file's name",
    "with": "whether another file belongs to it",
}
"""What can be looked at."""


@dataclass(frozen=True, slots=True)
class TensorHash:
    """The hash of a tensor's bytes, or of all tensors of a file one after the other."""

    algorithm: str
    digest: str
    path: str
    tensor: str | None = None

    @property
    def file(self) -> str:
        """The last part of the path."""
        return PurePath(self.path).name

    def line(self) -> str:
        """Return it as ``llama-gguf-hash`` prints it."""
        name = self.path if self.tensor is None else f"{self.path}:{self.tensor}"
        return f"{self.algorithm:<8}  {self.digest}  {name}"


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of the check of one model."""

    path: Path
    kind: str
    """``model``, ``vocabulary``, ``adapter``, ``projector`` and so on; empty where unreadable."""
    findings: tuple[Finding, ...]
    looked_at: tuple[str, ...]
    """Names of ``SUBJECTS``."""
    readable: bool = True
    tensors: int = 0
    nbytes: int = 0
    """Bytes of all its files."""
    recipe: str | None = None
    """What it is by its tensors' types, in words; None where that was not told."""
    type_rules: str = field(default="", repr=False)
    """The types of its matrices, as a ``--tensor-type-file``."""
    hashes: tuple[TensorHash, ...] = field(default=(), repr=False)

    def count(self, grade: Grade) -> int:
        """Return how many findings there are of a grade."""
        return sum(finding.grade is grade for finding in self.findings)

    @property
    def clean(self) -> bool:
        """Whether there is neither an error nor a warning."""
        return all(finding.grade is Grade.NOTE for finding in self.findings)

    @property
    def outcome(self) -> str:
        """In a word: ``sound``, ``usable``, ``not sound`` or ``unreadable``."""
        if not self.readable:
            return "unreadable"
        if self.count(Grade.ERROR):
            return "not sound"
        return "sound" if self.clean else "usable"

    @property
    def verdict(self) -> str:
        """All of it in one line."""
        if not self.readable:
            return "unreadable"
        counts = _counted(self.count(grade) for grade in Grade)
        scope = "" if "weights" in self.looked_at else "; no weight was looked at"
        return f"{self.outcome}{': ' if counts else ''}{counts}{scope}"


def _counted(counts: Iterable[int]) -> str:
    pairs = zip(Grade, counts, strict=True)
    return ", ".join(f"{n} {grade}{'s' if n > 1 else ''}" for grade, n in pairs if n)
