"""Where a word stands among the tokens of a text: as one token, or as several pieces."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from ggufscope.errors import BadUsage
from ggufscope.model.tokenizer.vocabulary import SPACE

_INNER: Final = rb"[\w\x80-\xff]"
"""A byte of a word; those of a character beyond ASCII are taken for a letter's."""
_NAMED: Final = 12
"""Places, or tokens, that an error names."""


@dataclass(frozen=True, slots=True)
class Place:
    """The token that is meant, and how it was found."""

    position: int
    word: str | None
    """The word that was asked for; None where a position alone was."""
    found: tuple[range, ...]
    """Every place where the word stands: the positions of its pieces."""

    @property
    def pieces(self) -> range:
        """The positions of the pieces that the token is one of."""
        mine = (pieces for pieces in self.found if self.position in pieces)
        return next(mine, range(self.position, self.position + 1))

    @property
    def others(self) -> tuple[range, ...]:
        """The places where the word stands, too."""
        return tuple(pieces for pieces in self.found if self.position not in pieces)


def find_word(pieces: Sequence[bytes], word: str) -> list[range]:
    """Return the places where a word stands, each the positions of the tokens that it is made of.

    ``pieces`` are the bytes of each token. A word stands where no letter comes before and after it,
    or where it fills whole tokens, but for a space before it: so words of a text without spaces are
    found, and ``at`` is not found in ``cat``.
    """
    text, wanted = b"".join(pieces), word.encode("utf-8", "surrogateescape")
    ends = [*accumulate(map(len, pieces))]
    begins = [end - len(piece) for end, piece in zip(ends, pieces, strict=True)]
    begins_of_words = {
        begin + len(piece) - len(piece.lstrip())
        for begin, piece in zip(begins, pieces, strict=True)
    } | {*begins}
    places = []
    for match in re.finditer(b"(?=" + re.escape(wanted) + b")", text):
        start, stop = match.start(), match.start() + len(wanted)
        before, after = text[max(0, start - 1) : start], text[stop : stop + 1]
        whole = not (_joined(before, wanted[:1]) or _joined(wanted[-1:], after))
        if whole or (start in begins_of_words and stop in ends):
            inside = [n for n in range(len(pieces)) if begins[n] < stop and ends[n] > start]
            places.append(range(inside[0], inside[-1] + 1))
    return places


def _joined(a: bytes, b: bytes) -> bool:
    return bool(re.match(_INNER, a) and re.match(_INNER, b))


def place_of(
    pieces: Sequence[bytes],
    labels: Sequence[str],
    word: str | None,
    position: int | None,
    *,
    before: int | None = None,
) -> Place:
    """Return the token that is meant: by a word, by its position, by both, or the last one.

    ``labels`` are what a token is shown as: a word may be written as they write it, too.
    Of a word of several pieces the last piece is taken, which alone has seen all of it; of several
    places the last one, or the last one ``before`` a position. Raises ``BadUsage``.
    """
    tokens = len(pieces)
    if position is not None and not 0 <= position < tokens:
        raise BadUsage(
            f"there is no token {position}: the prompt has tokens 0 to {tokens - 1}",
            hint="count from 0; what begins a text counts, too",
        )
    if word is None:
        return Place(tokens - 1 if position is None else position, None, ())
    if not word:
        raise BadUsage("the word that is looked for is empty", hint="name a word of the prompt")
    found = find_word(pieces, word) or find_word(pieces, word.replace(SPACE, " "))
    found = found or [range(n, n + 1) for n, label in enumerate(labels) if label == word]
    if not found:
        listed = " ".join(labels[:_NAMED]) + (" ..." if tokens > _NAMED else "")
        raise BadUsage(f"the prompt has no {word!r}", hint=f"its tokens are {listed}")
    if position is None:
        earlier = [each for each in found if before is None or each[-1] < before]
        return Place((earlier or found)[-1][-1], word, tuple(found))
    if not any(position in each for each in found):
        stand = ", ".join(str(each[-1]) for each in found[:_NAMED])
        raise BadUsage(
            f"token {position} is {labels[position]}, not {word!r}", hint=f"that stands at {stand}"
        )
    return Place(position, word, tuple(found))
