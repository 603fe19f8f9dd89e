"""A vocabulary in a few facts: its kind, its sizes, its special tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ggufscope.model.keys import text_of
from ggufscope.model.tokenizer.keys import KEY
from ggufscope.model.tokenizer.rules import TokenType
from ggufscope.model.tokenizer.vocabulary import Vocabulary

KINDS: Final = {
    "gpt2": "byte-level BPE",
    "gemma4": "BPE on characters",
    "llama": "SentencePiece, pairs joined by their scores",
    "bert": "WordPiece",
    "t5": "Unigram",
}
"""``tokenizer.ggml.model`` in words."""

TYPES: Final = {
    TokenType.NORMAL: "normal",
    TokenType.UNKNOWN: "unknown",
    TokenType.CONTROL: "control",
    TokenType.USER_DEFINED: "user-defined",
    TokenType.UNUSED: "unused",
    TokenType.BYTE: "byte",
}
"""What a token is, in words."""

SPECIAL: Final = ("bos", "eos", "unknown", "separator")


@dataclass(frozen=True, slots=True)
class VocabularyFacts:
    """A vocabulary in a few facts."""

    model: str
    """``tokenizer.ggml.model``."""
    pre: str | None
    """How it cuts words (``tokenizer.ggml.pre``), where it says so."""
    tokens: int
    merges: int
    types: dict[str, int]
    """How many tokens there are of each type that there is."""
    special: dict[str, int]
    """``bos``, ``eos``, ``unknown``, ``separator`` -> id; those that there are."""
    control: tuple[int, ...]
    """All tokens that are commands to the model, not text."""
    add_bos: bool
    add_eos: bool
    longest: int
    """The token with the longest text, among those that are text."""


def vocabulary_facts(metadata: Mapping[str, Any], vocabulary: Vocabulary) -> VocabularyFacts:
    """Return the facts of a vocabulary that was read from this metadata."""
    types = vocabulary.types
    counts = {words: int((types == type_).sum()) for type_, words in TYPES.items()}
    counts["of no type"] = len(types) - sum(counts.values())
    ids = {name: getattr(vocabulary, name) for name in SPECIAL}
    text = np.flatnonzero(types == TokenType.NORMAL).tolist() or [0]
    return VocabularyFacts(
        model=vocabulary.model,
        pre=text_of(metadata, KEY + "pre"),
        tokens=len(vocabulary.tokens),
        merges=len(vocabulary.merges),
        types={words: count for words, count in counts.items() if count},
        special={name: id_ for name, id_ in ids.items() if id_ is not None},
        control=tuple(np.flatnonzero(types == TokenType.CONTROL).tolist()),
        add_bos=vocabulary.add_bos,
        add_eos=vocabulary.add_eos,
        longest=max(text, key=lambda id_: (len(vocabulary.tokens[id_]), -id_)),
    )


def type_words(vocabulary: Vocabulary, id_: int) -> str:
    """Return what a token is where it is no ordinary text: ``control, EOS``; else nothing."""
    type_ = int(vocabulary.types[id_])
    words = (
        []
        if type_ == TokenType.NORMAL
        else [TYPES.get(TokenType(type_), "") if type_ in TYPES else "of no type"]
    )
    words += [name.upper() for name in SPECIAL[:2] if getattr(vocabulary, name) == id_]
    return ", ".join(words)
