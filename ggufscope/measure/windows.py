"""A text cut into windows that begin as texts begin.

A model leans on the token that begins a text, and on the words that do. Where windows begin in the
middle, what is measured are the sensitivities of another model.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ggufscope.errors import BadUsage, TooFewTokens
from ggufscope.model.tokenizer.keys import KEY

_LEAST: Final = 8
"""Tokens of a window that is worth running."""

Encode = Callable[[str], Sequence[int]]
"""Text -> token ids, with the token that begins a text where the model wants one."""


@dataclass(frozen=True, slots=True)
class Halves:
    """Windows of token ids to choose by, and others to verify with."""

    chosen_by: tuple[tuple[int, ...], ...]
    verified_with: tuple[tuple[int, ...], ...]
    name: str = ""
    """What the text is called."""


def halves(text: str, encode: Encode, *, length: int, tokens: int, name: str = "") -> Halves:
    """Cut a text into windows of ``length`` tokens at the most, and deal them out in turn.

    Each half gets ``tokens`` at the most, so that a long text is not read to its end. The windows
    of a short text are shorter. Raises ``TooFewTokens`` where there are not two.
    """
    while length >= _LEAST:
        sides = _dealt(windows(text, encode, length), tokens)
        if all(sides):
            return Halves(tuple(sides[0]), tuple(sides[1]), name)
        length //= 2  # all of a short text may be in one window
    raise TooFewTokens(
        "the text is too short: one part of it is to choose by, another to verify with",
        hint=f"give two paragraphs of {_LEAST} tokens at the least; thousands are better",
    )


def _dealt(
    found: Iterable[tuple[int, ...]], tokens: int
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    sides: tuple[list[tuple[int, ...]], list[tuple[int, ...]]] = ([], [])
    left = [tokens, tokens]
    for number, window in enumerate(found):
        side = number % 2
        cut = window[: left[side]]
        if len(cut) >= _LEAST:
            sides[side].append(cut)
            left[side] -= len(cut)
        if max(left) < _LEAST:
            break
    return sides


def windows(text: str, encode: Encode, length: int) -> Iterator[tuple[int, ...]]:
    """Yield the token ids of each window; each begins where a paragraph does.

    Paragraphs stand between blank lines, and a window has as many as fit. In a text without blank
    lines each line is a text of its own. What is longer than a window loses its end.
    """
    paragraphs = [part for part in re.split(r"\n[ \t\r]*\n\s*", text.strip()) if part.strip()]
    if len(paragraphs) == 1:
        for line in text.splitlines():
            if line.strip():
                yield from _worth(encode(line), length)
        return
    together: list[str] = []
    ids: Sequence[int] = ()
    for paragraph in paragraphs:
        longer = encode("\n\n".join([*together, paragraph]))
        if together and len(longer) > length:
            yield from _worth(ids, length)
            together, longer = [], encode(paragraph)
        together.append(paragraph)
        ids = longer
    yield from _worth(ids, length)


def _worth(ids: Sequence[int], length: int) -> Iterator[tuple[int, ...]]:
    if min(len(ids), length) >= _LEAST:
        yield tuple(ids[:length])


def in_windows(
    ids: Sequence[int], longest: int | None, metadata: Mapping[str, Any]
) -> tuple[tuple[int, ...], ...]:
    """ids (T,) -> windows of ``longest`` tokens at the most, as few and as even as may be.

    Where the text begins with the token that begins a text, each window does: together they have
    more than T tokens. The first one is the longest. ``longest`` of None: one window. Raises
    ``BadUsage`` where a window has no room for more than that.
    """
    ids = tuple(map(int, ids))
    if longest is None or len(ids) <= longest:
        return (ids,)
    begins = ids[:1] if ids[0] == metadata.get(f"{KEY}bos_token_id") else ()
    if longest <= len(begins):
        raise BadUsage(
            "a context of 1 token has room for the token that begins a text, and for no other",
            hint="give a longer --context",
        )
    rest = ids[len(begins) :]
    count = -(-len(rest) // (longest - len(begins)))
    edges = [-(-len(rest) * number // count) for number in range(count + 1)]
    return tuple(begins + rest[a:b] for a, b in itertools.pairwise(edges))
