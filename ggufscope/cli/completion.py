"""What the Tab key offers after an option or an argument: presets, types, known shapes.

A shell starts the program for each Tab, so what knows the names is imported when it is asked.
"""

from __future__ import annotations

from collections.abc import Iterable


def presets(incomplete: str) -> list[str]:
    """Return the presets that a word, or the last word of a list with commas, begins."""
    from ggufscope.recipes.mixes import MIXES

    return _begun(incomplete, MIXES)


def types(incomplete: str) -> list[str]:
    """Return the types of weights that it begins."""
    from ggufscope.blocks.layouts import LAYOUTS, NOT_CONVERTIBLE

    return _begun(incomplete, (name for name in LAYOUTS if name not in NOT_CONVERTIBLE))


def cache_types(incomplete: str) -> list[str]:
    """Return the types of a cache that it begins."""
    from ggufscope.sizing.settings import CACHE_TYPES

    return _begun(incomplete, CACHE_TYPES)


def shapes(incomplete: str) -> list[str]:
    """Return the known shapes that it begins; of no letter, none, so that files are offered."""
    from ggufscope.sizing.shapes import SHAPES

    return _begun(incomplete, SHAPES) if incomplete else []


def _begun(incomplete: str, names: Iterable[str]) -> list[str]:
    """Return the names in the case that was begun in: typer drops what begins otherwise."""
    before, comma, word = incomplete.rpartition(",")
    fit = (name for name in names if name.casefold().startswith(word.casefold()))
    lower = word.islower()
    return [f"{before}{comma}{name.lower() if lower else name}" for name in fit]
