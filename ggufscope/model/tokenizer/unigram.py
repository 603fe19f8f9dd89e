"""SentencePiece's normalization, as llama.cpp does it before it cuts a text by Unigram.

``llm_tokenizer_ugm_session::normalize`` in ``src/llama-vocab.cpp``: a table in the file, the
"precompiled charsmap", replaces sequences of characters by others; then white space is merged,
and written as U+2581.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from ggufscope.errors import BadVocabulary
from ggufscope.model.tokenizer.keys import DAMAGED
from ggufscope.model.tokenizer.rules import TokenType
from ggufscope.model.tokenizer.vocabulary import SPACE, Vocabulary


def normalizer(vocabulary: Vocabulary) -> Callable[[str], str]:
    """Return the function that normalizes a text for this vocabulary; raises ``BadVocabulary``."""
    defined = np.flatnonzero(vocabulary.types == TokenType.USER_DEFINED).tolist()
    own = [vocabulary.tokens[id_] for id_ in defined]
    # What users defined is never replaced; the longest first.
    kept = re.compile("|".join(map(re.escape, sorted(own, key=len, reverse=True))) or r"(?!)")
    charsmap = Charsmap(vocabulary.charsmap) if vocabulary.charsmap else None

    def replaced(text: str) -> str:
        if charsmap is None:
            return text
        raw, position, found = text.encode(), 0, bytearray()
        starts = {len(text[: m.start()].encode()): len(m[0].encode()) for m in kept.finditer(text)}
        while position < len(raw):
            length = starts.get(position, 0)
            if length:
                found += raw[position : position + length]
            else:
                length, replacement = charsmap.longest(raw, position)
                length = length or _character(raw[position])
                found += raw[position : position + length] if replacement is None else replacement
            position += length
        return found.decode("utf-8", "replace")

    def normalize(text: str) -> str:
        text = replaced(text)
        merged, prefixed = vocabulary.remove_extra_whitespaces, vocabulary.add_space_prefix
        if merged:  # a space before each word, and none behind the last
            return "".join(SPACE + word for word in text.split(" ") if word)
        first = next((n for n, character in enumerate(text) if character != " "), len(text))
        prefix = SPACE if prefixed and first < len(text) else ""
        return (text[:first] + prefix + text[first:]).replace(" ", SPACE)

    return normalize


def _character(first: int) -> int:
    """Return the number of bytes of the UTF-8 character with this first byte."""
    return 1 if first < 0xC0 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4


class Charsmap:
    """The replacement table: an XOR-compressed double array, then strings that end in NUL.

    Kanda et al., "Space- and time-efficient string dictionaries" (2018). An entry is 32 bits::

        31 ......... 10   9   8   7 ..... 0
        base              x8  leaf  label        or, where a leaf points, bit 31 and an offset
    """

    def __init__(self, raw: bytes) -> None:
        size = int.from_bytes(raw[:4], "little")
        if len(raw) < 4 or size % 4 or 4 + size >= len(raw):
            raise BadVocabulary(
                f"key 'tokenizer.ggml.precompiled_charsmap' has {len(raw)} bytes, and says that "
                f"its first table takes {size}",
                hint=DAMAGED,
            )
        self._nodes = np.frombuffer(raw, "<u4", size // 4, 4).tolist()
        self._strings = raw[4 + size :]

    def longest(self, raw: bytes, start: int) -> tuple[int, bytes | None]:
        """Return how long the longest sequence at ``start`` is that is replaced, and by what.

        (0, None) where none is.
        """
        best: tuple[int, bytes | None] = (0, None)
        index = self._base(self._node(0))
        for position in range(start, len(raw)):
            label = raw[position]
            if label == 0:
                break
            index ^= label
            node = self._node(index)
            if node & 0x800000FF != label:
                break
            index ^= self._base(node)
            if node >> 8 & 1:
                at = self._node(index) & 0x7FFFFFFF
                end = self._strings.find(0, at)
                if end < 0:
                    raise self._broken()
                best = (position - start + 1, self._strings[at:end])
        return best

    def _node(self, index: int) -> int:
        if index >= len(self._nodes):
            raise self._broken()
        return int(self._nodes[index])

    @staticmethod
    def _base(node: int) -> int:
        return (node >> 10) << ((node & 1 << 9) >> 6)

    @staticmethod
    def _broken() -> BadVocabulary:
        return BadVocabulary(
            "key 'tokenizer.ggml.precompiled_charsmap' points beyond its own end",
            hint=DAMAGED,
        )
