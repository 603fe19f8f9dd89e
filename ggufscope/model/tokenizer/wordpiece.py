"""BERT's words as llama.cpp cuts them, before each is looked up piece by piece.

llama.cpp keeps a WordPiece vocabulary the other way round than its makers: a piece that begins a
word is written with U+2581 in front, one that goes on has no mark (``llm_tokenizer_wpm_session``
in ``src/llama-vocab.cpp``).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Final

WORD_START: Final = "\u2581"

# Ideographs are words of their own. One range begins at 2B920, as in Hugging Face's code.
_IDEOGRAPHS: Final = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def split_words(text: str, *, lowercase: bool, strip_accents: bool) -> list[str]:
    """Cut a text into words, each with ``WORD_START`` in front.

    White space ends a word and is dropped, as are control characters; a punctuation mark, an
    ASCII symbol or an ideograph is a word.
    """
    words = [""]
    for character in _decomposed(text) if strip_accents else text:
        if character.isspace() and not "\x1c" <= character <= "\x1f":
            words.append("")
            continue
        category = unicodedata.category(character)
        control = category[0] == "C" and category != "Cn"
        if control or character == "\ufffd" or (strip_accents and category[0] == "M"):
            continue
        letter = character.lower()[0] if lowercase else character
        alone = category[0] == "P" or (category[0] == "S" and character < "\x7f")
        if alone or any(first <= ord(character) <= last for first, last in _IDEOGRAPHS):
            words += [letter, ""]
        else:
            words[-1] += letter
    return [WORD_START + word for word in words if word]


def longest_first(word: str, ids: Mapping[str, int], longest: int) -> list[int]:
    """Cut a word into the longest pieces from the left; return their ids, none if one is missing.

    ``longest``: characters of the longest piece there is, so that a word of any length takes time
    in proportion. `tokenizers` has no such bound.
    """
    found: list[int] = []
    start = 0
    while start < len(word):
        for stop in range(min(len(word), start + longest), start, -1):
            id_ = ids.get(word[start:stop])
            if id_ is not None:
                found.append(id_)
                start = stop
                break
        else:
            return []
    return found


def _decomposed(text: str) -> str:
    """Return the first character of each one's canonical decomposition, and no more."""
    return "".join(unicodedata.normalize("NFD", character)[0] for character in text)
