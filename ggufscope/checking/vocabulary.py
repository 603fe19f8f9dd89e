"""The tokenizer's arrays against each other: equal lengths, ids in range, merges of tokens.

Follows ``llama_vocab::impl::load`` in llama.cpp's ``src/llama-vocab.cpp``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from ggufscope.checking.findings import Finding, error, note, warning
from ggufscope.checking.upstream import said
from ggufscope.container.values import Array
from ggufscope.errors import BadVocabulary, UnknownTokenizer
from ggufscope.model.keys import text_of
from ggufscope.model.tokenizer.keys import KEY
from ggufscope.model.tokenizer.rules import TokenType
from ggufscope.model.tokenizer.vocabulary import Vocabulary, read_vocabulary

_LLAMA_CPP_MODELS: Final = ("rwkv", "plamo2", "none", "no_vocab")
"""Kinds of vocabularies that llama.cpp reads and this program does not."""
_NAMED: Final = 5
"""Tokens that a finding names."""
_WRONG: Final = "the file was converted wrongly, or its metadata was edited"
_AGAIN: Final = "convert the original model again, with a current llama.cpp"

# What a refusal of the vocabulary is about -> what llama.cpp says.
_REFUSALS: Final = {
    "tokens' is missing": "no tokens",
    "scores'": "scores",
    "token_type'": "token types",
    "merges' is missing": "no merges",
}


def tokenizer_findings(metadata: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what is wrong with the vocabulary in the metadata; nothing where there is none."""
    if not any(key.startswith(KEY) for key in metadata):
        return
    yield from _pre_tokenizer(metadata)
    yield from _lengths(metadata)
    yield from _special_ids(metadata)
    try:
        vocabulary = read_vocabulary(metadata)
    except UnknownTokenizer as unknown:
        yield from _unknown(metadata, unknown)
        return
    except BadVocabulary as bad:
        about = next((words for part, words in _REFUSALS.items() if part in bad.message), "")
        meaning = "llama.cpp refuses the vocabulary, and with it the model" if about else _WRONG
        yield error("tokenizer", bad.message, meaning, _AGAIN, said(about) if about else "")
        return
    yield from _types(metadata, vocabulary)
    yield from _specials(metadata, vocabulary)
    yield from _merges(vocabulary)


def _unknown(metadata: Mapping[str, Any], unknown: UnknownTokenizer) -> Iterator[Finding]:
    model, pre = (text_of(metadata, KEY + key) or "" for key in ("model", "pre"))
    if model in _LLAMA_CPP_MODELS:
        return
    about = said("pre", f"{pre:.60}") if f"{KEY}pre" in unknown.message else ""
    about = said("tokenizer", f"{model:.60}") if f"{KEY}model" in unknown.message else about
    yield warning(
        "tokenizer",
        unknown.message,
        "only its lengths and ids were checked: the name may be newer than this program, or "
        "misspelt, and a llama.cpp that does not know it refuses the model",
        "a newer llama.cpp, or a newer ggufscope, may know it",
        about,
    )


def _pre_tokenizer(metadata: Mapping[str, Any]) -> Iterator[Finding]:
    if text_of(metadata, KEY + "model") == "gpt2" and KEY + "pre" not in metadata:
        yield warning(
            "tokenizer",
            f"key '{KEY}pre' is missing",
            "it says how words are cut before tokens are made; the default is wrong for most "
            "models, and answers get worse",
            _AGAIN,
            said("no pre"),
            key=KEY + "pre",
        )


def _lengths(metadata: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield arrays that are longer than the list of tokens; shorter ones are refused."""
    tokens = metadata.get(KEY + "tokens")
    for name in ("scores", "token_type"):
        array = metadata.get(KEY + name)
        if isinstance(tokens, Array) and isinstance(array, Array) and len(array) > len(tokens):
            yield warning(
                "tokenizer",
                f"key '{KEY}{name}' has {len(array):,} entries for {len(tokens):,} tokens",
                "there is one for each token; what is beyond is not looked at",
                _AGAIN,
                key=KEY + name,
            )


def _special_ids(metadata: Mapping[str, Any]) -> Iterator[Finding]:
    tokens = metadata.get(KEY + "tokens")
    count = len(tokens) if isinstance(tokens, Array) else 0
    for key in metadata:
        if not (key.startswith(KEY) and key.endswith("_token_id")):
            continue
        value = metadata[key]
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < count:
            yield warning(
                "tokenizer",
                f"key '{key}' is {value!r:.40}, and there are {count:,} tokens",
                "llama.cpp takes the default of this kind of tokenizer, most often another token",
                "correct the key, or remove it",
                said("special", key, value, "..."),
                key=key,
            )


def _types(metadata: Mapping[str, Any], vocabulary: Vocabulary) -> Iterator[Finding]:
    stored = metadata.get(KEY + "token_type")
    if not isinstance(stored, Array):
        return
    types = stored.numpy()[: len(vocabulary.tokens)]
    wrong = np.flatnonzero((types < TokenType.NORMAL) | (types > TokenType.BYTE))
    if wrong.size:
        yield warning(
            "tokenizer",
            f"token {int(wrong[0])} is of type {int(types[wrong[0]])}, and {wrong.size} tokens "
            "are of no type from 1 to 6",
            "llama.cpp takes them for tokens of no type: they are never found in a text",
            _AGAIN,
            key=KEY + "token_type",
        )


def _specials(metadata: Mapping[str, Any], vocabulary: Vocabulary) -> Iterator[Finding]:
    for name, wanted, token in (
        ("bos", vocabulary.add_bos, vocabulary.bos),
        ("eos", vocabulary.add_eos, vocabulary.eos),
    ):
        if wanted and token is None:
            yield error(
                "tokenizer",
                f"a text is to get a token {name.upper()}, and there is none",
                "llama.cpp ends when it reads a text",
                f"set '{KEY}{name}_token_id', or '{KEY}add_{name}_token' to false",
                key=f"{KEY}add_{name}_token",
            )
    normal = [
        (name, token)
        for name, token in (("BOS", vocabulary.bos), ("EOS", vocabulary.eos))
        if token is not None
        and metadata.get(f"{KEY}{name.lower()}_token_id") == token
        and vocabulary.types[token] == TokenType.NORMAL
    ]
    for name, token in normal:
        text = vocabulary.tokens[token]
        yield note(
            "tokenizer",
            f"{name}, token {token} {text[:40]!r}, is of type NORMAL, not CONTROL",
            "a text that spells it out is read as characters, and the token may be printed in an "
            "answer",
            "nothing, if the model works; else convert the original model again",
            key=KEY + "token_type",
        )


def _merges(vocabulary: Vocabulary) -> Iterator[Finding]:
    """Yield merges that are no pair, or whose result is no token."""
    ids, lost = vocabulary.ids, []
    for at, merge in enumerate(vocabulary.merges):
        left, space, right = merge.partition(" ") if merge[:1] != " " else ("", "", "")
        if not space:  # the first part may begin with a space itself
            head, space, right = merge[1:].partition(" ")
            left = merge[:1] + head
        if not (left and right) or left + right not in ids:
            lost.append(at)
    if lost:
        first = vocabulary.merges[lost[0]]
        yield note(
            "tokenizer",
            f"{len(lost):,} of {len(vocabulary.merges):,} merges make no token, the first "
            f"{first[:40]!r} (number {lost[0]})",
            "they are looked at and never lead anywhere; some published tokenizers have such",
            "nothing, if they are few; else convert the original model again",
            key=KEY + "merges",
        )
