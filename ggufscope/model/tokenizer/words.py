"""A word as tokens, and sums of words such as ``king-man+woman``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ggufscope.errors import BadUsage
from ggufscope.model.tokenizer.text import TextTokenizer
from ggufscope.model.tokenizer.vocabulary import SPACE

_TERM: Final = re.compile(r"\s*([+-]?)\s*([^+-]+?)\s*(?=[+-]|$)")
MOST: Final = 16
"""Words of a sum."""


@dataclass(frozen=True, slots=True)
class Term:
    """One word of a sum."""

    word: str
    ids: tuple[int, ...]
    """Its tokens: one, or its pieces."""
    sign: int = 1


def word_ids(tokenizer: TextTokenizer, word: str) -> tuple[int, ...]:
    """Return the tokens of a word as it stands within a text: with a space before it.

    As it stands at the beginning only where it takes fewer tokens so; as the label of one token
    (``\u2581dog``, ``<0xE2>``) where it is several otherwise. Raises ``BadUsage`` for a word that
    has no tokens, and ``UnreadableText``.
    """
    found = _shortest(tokenizer, word)
    if len(found) > 1:
        labelled = tokenizer.shown_as(word)
        if len(labelled) == 1:
            found = labelled
        elif SPACE in word:
            spaced = _shortest(tokenizer, word.replace(SPACE, " ").removeprefix(" "))
            found = spaced if len(spaced) < len(found) else found
    if not found:
        raise BadUsage(f"{word!r} becomes no token", hint="name a word with letters")
    return tuple(found)


def _shortest(tokenizer: TextTokenizer, word: str) -> list[int]:
    within, alone = (tokenizer.encode(each, add_special=False) for each in (f" {word}", word))
    return alone if not within or 0 < len(alone) < len(within) else within


def read_sum(tokenizer: TextTokenizer, text: str) -> list[Term]:
    """Read ``king-man+woman``; a text that is one token as it stands is one word, ``-`` and all.

    Raises ``BadUsage`` for what is no sum of words.
    """
    whole = text.strip()
    if whole and len(ids := word_ids(tokenizer, whole)) == 1:
        return [Term(whole, ids)]
    terms, at = [], 0
    while at < len(text) and (match := _TERM.match(text, at)):
        sign, word = match.groups()
        terms.append(Term(word, word_ids(tokenizer, word), -1 if sign == "-" else 1))
        at = match.end()
    if not terms or at != len(text) or len(terms) > MOST:
        raise BadUsage(
            f"{text[:60]!r} is no word, and no sum of up to {MOST} words",
            hint="write, say, --near king or --near king-man+woman",
        )
    return terms
