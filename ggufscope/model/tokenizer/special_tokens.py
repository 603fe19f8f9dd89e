"""Finding special tokens in a text, before the rest of it is cut into pieces."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ggufscope.model.tokenizer.vocabulary import Vocabulary

_SPACE: Final = " \t\n\v\f\r"


def split_at_special(text: str, vocabulary: Vocabulary, special: Iterable[int]) -> list[str | int]:
    """Cut a text at its special tokens: text stays a string, a token becomes its id.

    One token after the other, in the order given (the longest first), is looked for in what is
    still text, as ``tokenizer_st_partition`` of llama.cpp does. That is not the leftmost match:
    of two tokens that overlap the longer one wins, wherever it begins.
    """
    parts: list[str | int] = [text] if text else []
    for id_ in special:
        token = vocabulary.tokens[id_]
        if token in text:
            left, right = id_ in vocabulary.strip_left, id_ in vocabulary.strip_right
            parts = [
                piece
                for part in parts
                for piece in (
                    [part] if isinstance(part, int) else _split(part, token, id_, left, right)
                )
            ]
    return parts


def _split(part: str, token: str, id_: int, left: bool, right: bool) -> list[str | int]:
    found: list[str | int] = []
    while True:
        before, match, after = part.partition(token)
        if not match:
            return [*found, part] if part else found
        before = before.rstrip(_SPACE) if left else before
        found += [before, id_] if before else [id_]
        part = after.lstrip(_SPACE) if right else after
