"""The vocabulary in the metadata: tokens, their types and scores, and the rules around them.

A GGUF file keeps its tokenizer under ``tokenizer.ggml.*``: ``model`` says how text becomes
tokens, ``tokens`` lists them by id, ``token_type`` and ``scores`` say more of each, ``merges``
is there for BPE. Much is not in the file and follows from names, as in ``llama_vocab::impl::load``
of llama.cpp's ``src/llama-vocab.cpp``; this room holds those rules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, NoReturn

import numpy as np

from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Array
from ggufscope.errors import BadVocabulary, UnknownTokenizer
from ggufscope.model.hparams import text_of, value_of
from ggufscope.model.tokenizer.pretokenizers import PRE_TOKENIZERS, PreTokenizer

_KEY: Final = "tokenizer.ggml."
MAX_TOKENS: Final = 1 << 20
MAX_MERGES: Final = 1 << 21
"""Most entries that are read: four times what the largest vocabularies have."""

_WRONG: Final = "the metadata contradicts itself: the file was converted wrongly"
_BYTE: Final = re.compile("<0x[0-9A-Fa-f]{2}>")
_NO_NUMBERS: Final = {ValueType.STRING, ValueType.ARRAY}


class TokenType(IntEnum):
    """What ``tokenizer.ggml.token_type`` says of a token."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class _Kind:
    """The defaults of one ``tokenizer.ggml.model``."""

    bos: int | None
    eos: int | None
    unknown: int | None = None
    separator: int | None = None
    add_bos: bool = False
    add_eos: bool = False
    add_space_prefix: bool = False


_KINDS: Final[dict[str, _Kind]] = {
    "llama": _Kind(bos=1, eos=2, unknown=0, add_bos=True, add_space_prefix=True),
    "gpt2": _Kind(bos=11, eos=11),
    "gemma4": _Kind(bos=None, eos=None),
    "bert": _Kind(bos=101, eos=None, unknown=100, separator=102, add_bos=True),
    "t5": _Kind(bos=None, eos=1, unknown=2, add_eos=True),
}

# llama.cpp takes a token with one of these texts for a control token, whatever its type says.
_ENDS: Final = (
    "<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> "
    "<|endoftext|> </s> <|eom_id|> <EOT> _<EOT> [EOT] [EOS] <|end_of_text|> <end_of_utterance> "
    "<eos> <turn|> <|tool_response> <｜end▁of▁sentence｜> [e~["
)
# The same for filling in the middle, one token of each row, unless the file names it by the key.
_FILL_IN: Final = (
    ("fim_pre", "prefix", "<|fim_prefix|> <fim-prefix> <fim_prefix> <｜fim▁begin｜> <PRE> ▁<PRE> "
     "<|code_prefix|> <|prefix|>"),
    ("fim_suf", "suffix", "<|fim_suffix|> <fim-suffix> <fim_suffix> <｜fim▁hole｜> <SUF> ▁<SUF> "
     "<|code_suffix|> <|suffix|>"),
    ("fim_mid", "middle", "<|fim_middle|> <fim-middle> <fim_middle> <｜fim▁end｜> <MID> ▁<MID> "
     "<|code_middle|> <|middle|>"),
    ("fim_pad", "", "<|fim_pad|> <fim-pad> <fim_pad> <PAD> [PAD]"),
    ("fim_rep", "", "<|fim_repo|> <|repo_name|> <fim-repo> <REPO> <reponame>"),
    ("fim_sep", "", "<|file_sep|>"),
)  # fmt: skip
# gpt-oss writes these into its answers: they are always read as tokens.
_ALWAYS: Final = ("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>")

Types = np.ndarray[tuple[int], np.dtype[np.int32]]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of a model, and the rules for reading text into them."""

    kind: str
    """``tokenizer.ggml.model``: gpt2 and gemma4 (BPE), llama (SentencePiece), bert, t5."""
    tokens: list[str]
    """Text of each token as stored, by id; bytes that are not UTF-8 as surrogate escapes."""
    ids: dict[str, int]
    types: Types
    """(V,) ``TokenType`` of each token, as llama.cpp reads it."""
    scores: list[float]
    """By id; empty where the file has none."""
    merges: list[str]
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
    strip_left: frozenset[int] = field(default=frozenset())
    """Special tokens that swallow the white space before them."""
    strip_right: frozenset[int] = field(default=frozenset())

    def special(self, *, control: bool) -> list[int]:
        """Give the tokens that are found in a text before all else, the longest first.

        Those that users defined always are, control and unknown tokens only with ``control``.
        """
        wanted = [TokenType.USER_DEFINED]
        wanted += [TokenType.CONTROL, TokenType.UNKNOWN] if control else []
        found = np.flatnonzero(np.isin(self.types, wanted)).tolist()
        return sorted(found, key=lambda id_: -len(self.tokens[id_].encode("utf-8", "replace")))


def read_vocabulary(metadata: Mapping[str, Any]) -> Vocabulary:
    """Read the vocabulary of a model.

    Raises ``UnknownTokenizer`` for a kind, or a way to cut words, that is not read here, and
    ``BadVocabulary``, naming the key, for metadata that cannot be true.
    """
    read = _Reader(metadata)
    kind, defaults, pre = _kind(read)
    tokens = [
        text or f"[EMPTY_{id_}]" for id_, text in enumerate(read.strings("tokens", MAX_TOKENS))
    ]
    ids = {text: id_ for id_, text in enumerate(tokens)}
    if len(ids) != len(tokens):
        twice = next(text for id_, text in enumerate(tokens) if ids[text] != id_)
        raise BadVocabulary(
            f"key '{_KEY}tokens' has the token {twice[:60]!r} twice",
            hint="the file was converted wrongly; llama.cpp refuses it too",
        )
    read.size = len(tokens)
    types = _types(read, tokens, ids)
    _check_bytes(tokens, types)
    add_bos = read.flag("add_bos_token", defaults.add_bos or pre.add_bos)
    lowercase = read.flag("normalizer.lowercase", kind == "bert")
    left, right = _stripping(metadata, ids, types)
    return Vocabulary(
        kind=kind,
        tokens=tokens,
        ids=ids,
        types=types,
        scores=_scores(read, len(tokens)),
        merges=read.strings("merges", MAX_MERGES) if kind in {"gpt2", "gemma4"} else [],
        pre=pre,
        bos=read.token("bos_token_id", None if pre.no_bos else defaults.bos),
        eos=read.token("eos_token_id", defaults.eos),
        unknown=read.token("unknown_token_id", defaults.unknown),
        separator=read.token("seperator_token_id", defaults.separator),
        # llama.cpp overrides the file here: Gemma 4 was published with a wrong flag.
        add_bos=add_bos or pre.whole_newlines,
        add_eos=read.flag("add_eos_token", defaults.add_eos),
        add_space_prefix=read.flag("add_space_prefix", defaults.add_space_prefix),
        remove_extra_whitespaces=read.flag("remove_extra_whitespaces", False),
        lowercase=lowercase,
        strip_accents=read.flag("normalizer.strip_accents", lowercase),
        charsmap=read.whole_numbers("precompiled_charsmap").astype(np.uint8).tobytes(),
        strip_left=left,
        strip_right=right,
    )


def _kind(read: _Reader) -> tuple[str, _Kind, PreTokenizer]:
    """Give the kind of the vocabulary, its defaults, and how it cuts words."""
    kind = read.string("model")
    if not kind or kind in {"none", "no_vocab"}:
        raise UnknownTokenizer(
            "the file has no tokenizer: text cannot become tokens",
            hint="pass the numbers of the tokens with --ids",
        )
    if kind not in _KINDS:
        raise UnknownTokenizer(
            f"key '{_KEY}model' is {kind[:60]!r}, a kind of tokenizer that is not read here",
            hint=f"known are {', '.join(_KINDS)}; for others pass token numbers with --ids",
        )
    pre = "gemma4" if kind == "gemma4" else read.string("pre") or "default"
    if kind not in {"gpt2", "gemma4"}:
        return kind, _KINDS[kind], PRE_TOKENIZERS["default"]
    if pre not in PRE_TOKENIZERS:
        raise UnknownTokenizer(
            f"key '{_KEY}pre' is {pre[:60]!r}, a way to cut words that is not known here",
            hint="pass the numbers of the tokens with --ids",
        )
    return kind, _KINDS[kind], PRE_TOKENIZERS[pre]


def _types(read: _Reader, tokens: list[str], ids: dict[str, int]) -> Types:
    """Give the types as llama.cpp sees them: some texts speak louder than the file."""
    stored = read.whole_numbers("token_type").astype(np.int32)
    if 0 < len(stored) < len(tokens):
        raise BadVocabulary(
            f"key '{_KEY}token_type' has {len(stored)} entries for {len(tokens)} tokens",
            hint=_WRONG,
        )
    types = stored[: len(tokens)].copy() if len(stored) else np.ones(len(tokens), np.int32)
    for key, old_key, texts in _FILL_IN:
        named = any(f"{_KEY}{k}_token_id" in read.metadata for k in (key, old_key) if k)
        there = [ids[text] for text in texts.split() if text in ids]
        types[there[: 0 if named else 1]] = TokenType.CONTROL
    types[[ids[text] for text in _ENDS.split() if text in ids]] = TokenType.CONTROL
    types[[ids[text] for text in _ALWAYS if text in ids]] = TokenType.USER_DEFINED
    calls = "<|call|>" in ids or "<|calls|>" in ids
    if "<|end|>" in ids and calls and ("<|return|>" in ids or "<|flush|>" in ids):
        types[ids["<|end|>"]] = TokenType.USER_DEFINED
    if "<|tool_response>" in ids and "</s>" in ids:  # Gemma 4 writes HTML
        types[ids["</s>"]] = TokenType.NORMAL
    return types


def _check_bytes(tokens: list[str], types: Types) -> None:
    """Raise ``BadVocabulary`` for a token that is said to stand for a byte, and names none."""
    for id_ in np.flatnonzero(types == TokenType.BYTE).tolist():
        text = tokens[id_]
        if len(text) == len("<0x00>") and not _BYTE.fullmatch(text):
            raise BadVocabulary(
                f"token {id_}, {text!r}, is of type BYTE in key '{_KEY}token_type', and names none",
                hint=_WRONG,
            )


def _scores(read: _Reader, tokens: int) -> list[float]:
    """Return the score of each token; none at all where the file has none."""
    scores = read.numbers("scores").astype(np.float32)
    if 0 < len(scores) < tokens or np.isnan(scores).any():
        said = f"{len(scores)} entries for {tokens} tokens" if len(scores) < tokens else "a NaN"
        raise BadVocabulary(f"key '{_KEY}scores' has {said}", hint=_WRONG)
    return scores.tolist()


def _stripping(
    metadata: Mapping[str, Any], ids: dict[str, int], types: Types
) -> tuple[frozenset[int], frozenset[int]]:
    """Give the special tokens that swallow white space before them, and after them.

    The file does not say; llama.cpp goes by the names of models and of their tokenizers.
    """
    pre, architecture = (
        text_of(metadata, key) or "" for key in (f"{_KEY}pre", "general.architecture")
    )
    name = (text_of(metadata, "general.name") or "").lower()
    masked = any(word in pre for word in ("jina-v2-de", "jina-v2-es", "jina-v2-code"))
    if masked or any(word in architecture for word in ("nomic-bert-moe", "jina-bert-v3")):
        return frozenset(ids[text] for text in ("<mask>",) if text in ids), frozenset()
    if "phi-3" in name or "phi3" in name:
        kinds = (TokenType.USER_DEFINED, TokenType.CONTROL, TokenType.UNKNOWN)
        special = set(np.flatnonzero(np.isin(types, kinds)).tolist())
        special |= {ids[text] for text in ("</s>",) if text in ids}
        special -= {ids[text] for text in ("<unk>", "<s>", "<|endoftext|>") if text in ids}
        return frozenset(), frozenset(special)
    if "modern-bert" in name:
        return frozenset(ids[text] for text in ("[MASK]",) if text in ids), frozenset()
    return frozenset(), frozenset()


class _Reader:
    """The keys under ``tokenizer.ggml.``, checked as they are read."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.metadata = metadata
        self.size = 0

    def _get(self, key: str, default: Any) -> Any:
        value = value_of(self.metadata, _KEY + key)
        return default if value is None else value

    def string(self, key: str) -> str:
        value = self._get(key, "")
        return value if isinstance(value, str) else self._refuse(key, value, "a string")

    def flag(self, key: str, default: bool) -> bool:
        value = self._get(key, default)
        return value if isinstance(value, bool) else self._refuse(key, value, "true or false")

    def token(self, key: str, default: int | None) -> int | None:
        """Give the id of a special token; the default, as llama.cpp, for one out of range."""
        usable = default if default is not None and default < self.size else None
        value = self._get(key, usable)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            self._refuse(key, value, "a whole number")
        return value if 0 <= value < self.size else usable

    def strings(self, key: str, most: int) -> list[str]:
        value = self._get(key, None)
        if isinstance(value, Array) and value.element_type is ValueType.STRING:
            if len(value) > most:
                raise BadVocabulary(
                    f"key '{_KEY}{key}' has {len(value)} entries; {most} are read at the most",
                    hint="no known model has so many: if yours is sound, please report it",
                )
            return list(value)
        return self._refuse(key, value, "a list of strings")

    def numbers(self, key: str) -> np.ndarray[tuple[int], np.dtype[Any]]:
        """Give an array of numbers, (0,) where the key is missing."""
        value = self._get(key, None)
        if value is None:
            return np.empty(0)
        if isinstance(value, Array) and value.element_type not in _NO_NUMBERS:
            return value.numpy()
        return self._refuse(key, value, "a list of numbers")

    def whole_numbers(self, key: str) -> np.ndarray[tuple[int], np.dtype[Any]]:
        """Return an array of whole numbers, (0,) where the key is missing."""
        numbers = self.numbers(key)
        if numbers.size and numbers.dtype.kind not in "iu":
            raise BadVocabulary(
                f"key '{_KEY}{key}' has numbers of type {numbers.dtype.name}, not whole ones",
                hint=_WRONG,
            )
        return numbers

    @staticmethod
    def _refuse(key: str, value: Any, wanted: str) -> NoReturn:
        said = "missing" if value is None else repr(value)[:60]
        raise BadVocabulary(
            f"key '{_KEY}{key}' is {said}, not {wanted}",
            hint="the metadata is damaged, or the file was converted wrongly",
        )
