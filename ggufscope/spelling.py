"""Which of the known names a misspelt one stands for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

MOST: Final = 3
"""Names that are offered."""
_ALIKE: Final = 0.75
"""How alike two words are at least, as difflib has it: ``Q9_K`` is not offered ``Q6_K``."""
_LONGEST: Final = 100
"""Characters of a word; a longer one is no slip of the hand, and would take long to compare."""
_HEAD: Final = 2
_TAIL: Final = 4
"""Letters from which on the beginning or the end of a name stands for it: ``head_count``."""


def did_you_mean(word: str, names: Iterable[str], otherwise: str = "") -> str:
    """Return a hint that offers the names most like a word: ``did you mean Q4_K_M?``.

    Case and punctuation do not count: ``q4km`` is ``Q4_K_M``. Where no name is like it, the hint
    is ``otherwise``.
    """
    return question(closest(word, names)) or otherwise


def question(names: Sequence[str]) -> str:
    """Return ``did you mean a, b or c?``; nothing where there are no names."""
    *others, last = names or [""]
    listed = f"{', '.join(others)} or {last}" if others else last
    return f"did you mean {listed}?" if names else ""


def closest(word: str, names: Iterable[str], alike: float = _ALIKE) -> list[str]:
    """Return the names that a word may stand for: those of the same letters, else those like it."""
    from difflib import get_close_matches  # costs as much as the rest of this command's errors

    letters = _letters(word)
    if not letters or len(word) > _LONGEST:
        return []
    by_letters: dict[str, list[str]] = {}
    for name in names:
        by_letters.setdefault(_letters(name), []).append(name)
    found = [letters] if letters in by_letters else []
    if not found and len(letters) >= _HEAD:
        found = [each for each in by_letters if each.startswith(letters)]
    if not found and len(letters) >= _TAIL:
        found = [each for each in by_letters if each.endswith(letters)]
    found = found or get_close_matches(letters, by_letters, MOST, alike)
    return [name for each in found for name in by_letters[each]][:MOST]


def _letters(word: str) -> str:
    return "".join(filter(str.isalnum, word.casefold()))
