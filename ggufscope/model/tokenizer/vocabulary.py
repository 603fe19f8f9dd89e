"""The vocabulary in the metadata: tokens, their types and scores, and the rules around them.

A GGUF file keeps its tokenizer under ``tokenizer.ggml.*``: ``model`` says how text becomes
tokens, ``tokens`` lists them by id, ``token_type`` and ``scores`` say more of each, ``merges``
is there for BPE. Keys are read in keys.py; what follows from names is in rules.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ggufscope.errors import BadVocabulary, UnknownTokenizer
from ggufscope.model.tokenizer.keys import KEY, USE_IDS, WRONG, Keys
from ggufscope.model.tokenizer.pretokenizers import PRE_TOKENIZERS, PreTokenizer
from ggufscope.model.tokenizer.rules import DEFAULTS, TokenType, Types, stripping, token_types

SPACE: Final = "\u2581"
"""A space as SentencePiece writes it; the labels of all vocabularies write it so."""
MAX_TOKENS: Final = 1 << 20
MAX_MERGES: Final = 1 << 21
"""Most entries that are read: four times what the largest vocabularies have."""


def _printable_bytes() -> dict[int, str]:
    """GPT-2's way to write any byte as a character: printable ones as they are, then from 256."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in kept]
    return {byte: chr(byte) for byte in kept} | {
        byte: chr(256 + n) for n, byte in enumerate(others)
    }


BYTE_OF: Final = {character: byte for byte, character in _printable_bytes().items()}
"""The byte that each character of byte-level BPE stands for."""

_BPE: Final = {"gpt2", "gemma4"}
_BYTE: Final = re.compile("<0x[0-9A-Fa-f]{2}>")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of a model, and the rules for reading text into them."""

    model: str
    """``tokenizer.ggml.model``: gpt2 and gemma4 (BPE), llama (SentencePiece), bert, t5."""
    tokens: list[str]
    """Text of each token as stored, by id; bytes that are not UTF-8 as surrogate escapes."""
    ids: dict[str, int]
    types: Types
    """(V,) ``TokenType`` of each token, as llama.cpp reads it."""
    scores: list[float]
    """By id; empty where the file has none."""
    merges: Sequence[str]
    """Pairs for BPE, best first, each pair's parts with a space between."""
    pre: PreTokenizer
    bos: int | None
    eos: int | None
    unknown: int | None
    separator: int | None
    add_bos: bool
    add_eos: bool
    add_space_prefix: bool
    remove_extra_whitespaces: bool
    lowercase: bool
    strip_accents: bool
    charsmap: bytes
    strip_left: frozenset[int] = frozenset()
    """Special tokens that swallow the white space before them."""
    strip_right: frozenset[int] = frozenset()

    def special(self, *, control: bool) -> list[int]:
        """Return the tokens that are found in a text before all else, the longest first.

        Those that users defined always are, control and unknown tokens only with ``control``.
        """
        wanted = [TokenType.USER_DEFINED]
        wanted += [TokenType.CONTROL, TokenType.UNKNOWN] if control else []
        found = np.flatnonzero(np.isin(self.types, wanted)).tolist()
        return sorted(found, key=lambda id_: -len(self.tokens[id_].encode("utf-8", "replace")))


def read_vocabulary(metadata: Mapping[str, Any]) -> Vocabulary:
    """Read the vocabulary of a model.

    Raises ``UnknownTokenizer`` for a model, or a way to cut words, that is not read here, and
    ``BadVocabulary``, naming the key, for metadata that cannot be true.
    """
    keys = Keys(metadata)
    model, pre = _model(keys)
    defaults = DEFAULTS[model]
    tokens = [
        text or f"[EMPTY_{id_}]" for id_, text in enumerate(keys.strings("tokens", MAX_TOKENS))
    ]
    ids = {text: id_ for id_, text in enumerate(tokens)}
    if len(ids) != len(tokens):
        twice = next(text for id_, text in enumerate(tokens) if ids[text] != id_)
        raise BadVocabulary(
            f"key '{KEY}tokens' has the token {twice[:60]!r} twice",
            hint="the file was converted wrongly; llama.cpp refuses it too",
        )
    size, types = len(tokens), token_types(keys, tokens, ids)
    _check_bytes(tokens, types)
    add_bos = keys.flag("add_bos_token", defaults.add_bos or pre.add_bos)
    lowercase = keys.flag("normalizer.lowercase", model == "bert")
    left, right = stripping(metadata, ids, types)
    return Vocabulary(
        model=model,
        tokens=tokens,
        ids=ids,
        types=types,
        scores=_scores(keys, size),
        merges=keys.strings("merges", MAX_MERGES) if model in _BPE else [],
        pre=pre,
        bos=keys.token("bos_token_id", None if pre.no_bos else defaults.bos, size),
        eos=keys.token("eos_token_id", defaults.eos, size),
        unknown=keys.token("unknown_token_id", defaults.unknown, size),
        separator=keys.token("seperator_token_id", defaults.separator, size),
        # llama.cpp overrides the file here: Gemma 4 was published with a wrong flag.
        add_bos=add_bos or pre.whole_newlines,
        add_eos=keys.flag("add_eos_token", defaults.add_eos),
        add_space_prefix=keys.flag("add_space_prefix", defaults.add_space_prefix),
        remove_extra_whitespaces=keys.flag("remove_extra_whitespaces", False),
        lowercase=lowercase,
        strip_accents=keys.flag("normalizer.strip_accents", lowercase),
        charsmap=keys.whole_numbers("precompiled_charsmap").astype(np.uint8).tobytes(),
        strip_left=left,
        strip_right=right,
    )


def is_unicode(text: str) -> bool:
    """Return whether a text is Unicode: whether it has no surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _model(keys: Keys) -> tuple[str, PreTokenizer]:
    """Return ``tokenizer.ggml.model``, and how it cuts words."""
    model = keys.string("model")
    if not model or model in {"none", "no_vocab"}:
        raise UnknownTokenizer("the file has no tokenizer: text cannot become tokens", hint=USE_IDS)
    if model not in DEFAULTS:
        raise UnknownTokenizer(
            f"key '{KEY}model' is {model[:60]!r}, a kind of tokenizer that is not read here",
            hint=f"known are {', '.join(DEFAULTS)}; for others pass token numbers with --ids",
        )
    if model not in _BPE:
        return model, PRE_TOKENIZERS["default"]
    pre = "gemma4" if model == "gemma4" else keys.string("pre") or "default"
    if pre not in PRE_TOKENIZERS:
        raise UnknownTokenizer(
            f"key '{KEY}pre' is {pre[:60]!r}, a way to cut words that is not known here",
            hint=USE_IDS,
        )
    return model, PRE_TOKENIZERS[pre]


def _check_bytes(tokens: list[str], types: Types) -> None:
    """Raise ``BadVocabulary`` for a token that is said to stand for a byte, and names none."""
    for id_ in np.flatnonzero(types == TokenType.BYTE).tolist():
        text = tokens[id_]
        if len(text) == len("<0x00>") and not _BYTE.fullmatch(text):
            raise BadVocabulary(
                f"token {id_}, {text!r}, is of type BYTE in key '{KEY}token_type', and names none",
                hint=WRONG,
            )


def _scores(keys: Keys, tokens: int) -> list[float]:
    """Return the score of each token; none at all where the file has none."""
    scores = keys.numbers("scores").astype(np.float32)
    if 0 < len(scores) < tokens or np.isnan(scores).any():
        said = f"{len(scores)} entries for {tokens} tokens" if len(scores) < tokens else "a NaN"
        raise BadVocabulary(f"key '{KEY}scores' has {said}", hint=WRONG)
    return scores.tolist()
