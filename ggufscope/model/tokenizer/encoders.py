"""A vocabulary as an object of Hugging Face's `tokenizers`, where that library can say it.

It can say BPE, WordPiece and Unigram. What is llama.cpp's own stands around it, each in its room:
how words are cut (``pretokenizers``, ``wordpiece``), how text is normalized (``unigram``), and
SentencePiece's joining (``sentencepiece``), which no list of merges can express.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from ggufscope.errors import BadVocabulary
from ggufscope.model.tokenizer.keys import USE_IDS
from ggufscope.model.tokenizer.rules import TokenType
from ggufscope.model.tokenizer.sentencepiece import join_pieces
from ggufscope.model.tokenizer.unigram import normalizer
from ggufscope.model.tokenizer.vocabulary import BYTE_OF, SPACE, Vocabulary, is_unicode
from ggufscope.model.tokenizer.wordpiece import longest_first, split_words

Encode = Callable[[str], list[int]]
"""Text between special tokens, or at an end of the text: its ids."""


def _bpe(vocabulary: Vocabulary) -> Encode:
    """Byte-level BPE, and BPE over UTF-8 (Gemma 4), through `tokenizers`."""
    pre, known = vocabulary.pre, _unicode(vocabulary.ids)
    pairs = _pairs([*vocabulary.merges])
    # What merges make without its being a token: llama.cpp makes it too, and writes its bytes.
    needed = set(map("".join, pairs)).union(*pairs, BYTE_OF if pre.byte_level else ())
    missing = needed - known.keys()
    spare = {text: len(vocabulary.tokens) + n for n, text in enumerate(sorted(missing))}
    expanded = {id_: _bytes_of(text, vocabulary) for text, id_ in spare.items()}
    tokenizer = Tokenizer(
        models.BPE(
            known | spare,
            pairs,
            byte_fallback=not pre.byte_level,
            ignore_merges=pre.ignore_merges,
        )
    )
    cuts: list[Any] = [pre_tokenizers.Split(Regex(p), "isolated") for p in pre.patterns]
    if pre.byte_level:
        cuts.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)

    def encode(text: str) -> list[int]:
        found = tokenizer.encode(text, add_special_tokens=False).ids
        if not spare:
            return found
        return [each for id_ in found for each in expanded.get(id_, (id_,))]

    if pre.byte_level:
        return encode

    def encode_escaped(text: str) -> list[int]:
        escaped = text.replace(" ", SPACE)
        if not pre.whole_newlines:
            return encode(escaped)
        runs = (run for run in re.split("(\n+)", escaped) if run)
        return [
            id_
            for run in runs
            for id_ in ([ids[run]] if run[0] == "\n" and run in ids else encode(run))
        ]

    ids = vocabulary.ids
    return encode_escaped


def _pairs(merges: list[str]) -> list[tuple[str, str]]:
    """Return the two parts of each merge; of one that comes twice the first, as llama.cpp."""
    split = [tuple(merge.split(" ", 1)) for merge in merges]
    pairs = cast("list[tuple[str, str]]", split)  # most are; the odd ones are looked at next
    odd = [n for n, pair in enumerate(pairs) if len(pair) != 2 or not pair[0]]
    for n in odd:  # a part that begins with a space, or no pair at all
        at = merges[n].find(" ", 1)
        pairs[n] = (merges[n][:at], merges[n][at + 1 :]) if at > 0 else ("", "")
    pairs = list(dict.fromkeys(pairs))
    if not odd and is_unicode("".join(merges)):
        return pairs
    return [pair for pair in pairs if pair != ("", "") and is_unicode("".join(pair))]


def _unicode(ids: Mapping[str, int]) -> dict[str, int]:
    """Return the tokens that are Unicode: no text has the others, and `tokenizers` cannot."""
    if is_unicode("".join(ids)):
        return dict(ids)
    return {text: id_ for text, id_ in ids.items() if is_unicode(text)}


def _bytes_of(text: str, vocabulary: Vocabulary) -> list[int]:
    """Return the ids that llama.cpp writes for a piece that is no token: those there are."""
    names = (chr(byte) if vocabulary.pre.byte_level else _byte_name(byte) for byte in text.encode())
    return [vocabulary.ids[name] for name in names if name in vocabulary.ids and name < "\x80"]


def _byte_name(byte: int) -> str:
    return f"<0x{byte:02X}>"


def _sentencepiece(vocabulary: Vocabulary) -> Encode:
    """SentencePiece's BPE: scores for merges, and bytes for what no token fits."""
    ids, unknown = vocabulary.ids, vocabulary.unknown

    def of_byte(byte: int) -> int:
        # The byte itself may be a token; one that is no character reads as a surrogate escape.
        own = chr(byte) if byte < 0x80 else chr(0xDC00 + byte)
        id_ = ids.get(_byte_name(byte), ids.get(own, unknown))
        if id_ is None:
            raise BadVocabulary(
                f"the vocabulary has no token for byte 0x{byte:02X}, nor one for the unknown",
                hint=USE_IDS,
            )
        return id_

    def encode(text: str) -> list[int]:
        prefix = SPACE if vocabulary.add_space_prefix else ""
        pieces = join_pieces(prefix + text.replace(" ", SPACE), ids, vocabulary.scores)
        found: list[int] = []
        for piece in pieces:
            found += [ids[piece]] if piece in ids else map(of_byte, piece.encode())
        return found

    return encode


def _wordpiece(vocabulary: Vocabulary) -> Encode:
    """WordPiece: the longest piece first; a word that some piece is missing for is unknown."""
    unknown = vocabulary.unknown
    if unknown is None:
        raise BadVocabulary(
            "the vocabulary has no unknown token, and WordPiece does not work without one",
            hint=USE_IDS,
        )
    ids, longest = vocabulary.ids, max(map(len, vocabulary.ids), default=0)

    def encode(text: str) -> list[int]:
        words = split_words(
            text, lowercase=vocabulary.lowercase, strip_accents=vocabulary.strip_accents
        )
        return [id_ for word in words for id_ in longest_first(word, ids, longest) or (unknown,)]

    return encode


def _unigram(vocabulary: Vocabulary) -> Encode:
    """Unigram through `tokenizers`: the cut of the greatest sum of scores."""
    unknown = vocabulary.unknown
    if unknown is None or not vocabulary.scores:
        raise BadVocabulary(
            "the vocabulary has no unknown token or no scores, and Unigram needs both",
            hint=USE_IDS,
        )
    scored = {int(TokenType.NORMAL), int(TokenType.UNUSED)}
    types, scores, whole = vocabulary.types.tolist(), vocabulary.scores, _unicode(vocabulary.ids)
    pieces = [
        (text, scores[id_] if types[id_] in scored else 0.0)
        if text in whole and (types[id_] in scored or types[id_] == TokenType.USER_DEFINED)
        else (f"\0{id_}", 0.0)  # never matched: no text holds a NUL before a token's number
        for id_, text in enumerate(vocabulary.tokens)
    ]
    tokenizer = Tokenizer(models.Unigram(pieces, unknown, byte_fallback=False))
    normalize = normalizer(vocabulary)

    def encode(text: str) -> list[int]:
        return tokenizer.encode(normalize(text), add_special_tokens=False).ids

    return encode


ENCODERS: Final[dict[str, Callable[[Vocabulary], Encode]]] = {
    "gpt2": _bpe,
    "gemma4": _bpe,
    "llama": _sentencepiece,
    "bert": _wordpiece,
    "t5": _unigram,
}
"""How text becomes ids, by ``tokenizer.ggml.model``."""
