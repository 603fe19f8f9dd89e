"""Options that several commands share, and how they are read."""

from __future__ import annotations


def split_types(values: list[str] | None) -> list[str]:
    """Return the types that ``--type A,B`` and a repeated ``--type`` name, in their order."""
    return [word for value in values or [] for word in value.split(",") if word]
