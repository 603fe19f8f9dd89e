"""Token ids against real llama.cpp, for every kind of vocabulary and every way to cut words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ggufscope.container.file import open_gguf
from ggufscope.errors import (
    BadVocabulary,
    GGUFScopeError,
    NoSuchToken,
    UnknownTokenizer,
    UnreadableText,
)
from ggufscope.model.tokenizer.pretokenizers import PRE_TOKENIZERS
from ggufscope.model.tokenizer.text import TextTokenizer, read_tokenizer
from ggufscope.model.tokenizer.unigram import Charsmap
from tests.llama_cpp import LlamaCpp
from tests.models import vocabularies
from tests.models.vocabularies import Vocabulary


def read(path: Path) -> TextTokenizer:
    with open_gguf(path) as model:
        return read_tokenizer(model.metadata)


def assert_equal_ids(path: Path, texts: list[str]) -> None:
    """Show that a model's ids are llama.cpp's, with special tokens parsed and added, and not."""
    tokenizer = read(path)
    with LlamaCpp(path, 64) as llama:
        for special, tried in ((True, texts), (False, vocabularies.ODD + vocabularies.SPECIALS)):
            answers = llama.tokenize_all(tried, add_special=special, parse_special=special)
            for text, theirs in zip(tried, answers, strict=True):
                ours = tokenizer.encode(text, add_special=special, parse_special=special)
                assert ours == theirs, (text, special)


# One name of each way to cut words: names that share one are the business of the slow test.
WAYS = list({pre: name for name, pre in sorted(PRE_TOKENIZERS.items(), reverse=True)}.values())


def with_name(pre: str) -> Vocabulary:
    if PRE_TOKENIZERS[pre].byte_level:
        return vocabularies.bpe(pre)
    return vocabularies.gemma4() | {"model": "gpt2", "pre": pre}


@pytest.mark.parametrize("pre", WAYS)
def test_every_way_to_cut_words_is_llama_cpps(pre: str, tmp_path: Path) -> None:
    path = vocabularies.write_model(tmp_path / "v.gguf", with_name(pre))
    assert_equal_ids(path, vocabularies.texts())


@pytest.mark.slow
@pytest.mark.parametrize("pre", sorted(set(PRE_TOKENIZERS) - set(WAYS)))
def test_every_name_means_what_it_means_to_llama_cpp(pre: str, tmp_path: Path) -> None:
    path = vocabularies.write_model(tmp_path / "v.gguf", with_name(pre))
    assert_equal_ids(path, vocabularies.texts())


KINDS: dict[str, Callable[[], Vocabulary]] = {
    "bpe, no name": lambda: vocabularies.without("pre", vocabularies.bpe("")),
    "bpe, bos and eos": lambda: vocabularies.bpe("qwen2", add_bos_token=True, add_eos_token=True),
    "bpe, bos denied": lambda: vocabularies.bpe("llama-bpe", add_bos_token=False),
    "bpe, holes": vocabularies.holed_bpe,
    "sentencepiece": vocabularies.sentencepiece,
    "sentencepiece, no prefix": lambda: vocabularies.sentencepiece(add_space_prefix=False),
    "sentencepiece, eos": lambda: vocabularies.sentencepiece(
        add_bos_token=False, add_eos_token=True
    ),
    "sentencepiece, no scores": lambda: vocabularies.without(
        "scores", vocabularies.sentencepiece()
    ),
    "gemma4": vocabularies.gemma4,
    "wordpiece": vocabularies.wordpiece,
    "wordpiece, cased": lambda: vocabularies.wordpiece(**{"normalizer.lowercase": False}),
    "wordpiece, accents": lambda: vocabularies.wordpiece(**{"normalizer.strip_accents": False}),
    "unigram": vocabularies.unigram,
    "unigram, all spaces": lambda: vocabularies.unigram(remove_extra_whitespaces=False),
    "unigram, no prefix": lambda: vocabularies.unigram(
        add_space_prefix=False, remove_extra_whitespaces=False, add_eos_token=False
    ),
    "unigram, charsmap": lambda: vocabularies.unigram(
        precompiled_charsmap=vocabularies.charsmap(vocabularies.REPLACED)
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_llama_cpps(kind: str, tmp_path: Path) -> None:
    path = vocabularies.write_model(tmp_path / "v.gguf", KINDS[kind]())
    assert_equal_ids(path, vocabularies.texts())


@pytest.mark.parametrize("name", ["Phi-3 mini", "a phi3 of mine", "modern-bert"])
def test_white_space_goes_where_llama_cpp_goes_by_the_models_name(
    name: str, tmp_path: Path
) -> None:
    vocabulary = vocabularies.bpe("gpt-2") if "bert" in name else vocabularies.sentencepiece()
    path = vocabularies.write_model(tmp_path / "v.gguf", vocabulary, name)
    assert_equal_ids(path, vocabularies.texts())


@pytest.fixture(scope="module", params=["sentencepiece", "bpe", "gemma4", "wordpiece", "unigram"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TextTokenizer, LlamaCpp]]:
    kind: str = request.param
    vocabulary = vocabularies.bpe("llama-bpe") if kind == "bpe" else KINDS[kind]()
    path = vocabularies.write_model(tmp_path_factory.mktemp("v") / "v.gguf", vocabulary)
    with LlamaCpp(path, 64) as llama:
        yield read(path), llama


# Characters of Unicode 13: llama.cpp, `tokenizers` and Python each know a Unicode of their own.
CHARACTERS = st.characters(
    exclude_categories=["Cs", "Cn"], max_codepoint=0x1F6FF
) | st.sampled_from(sorted(set("".join(vocabularies.SENTENCES + vocabularies.ODD))))


@given(text=st.text(CHARACTERS, max_size=60), parse=st.booleans())
@settings(max_examples=settings().max_examples * 3 // 2)
def test_any_text_gives_llama_cpps_ids(
    both: tuple[TextTokenizer, LlamaCpp], text: str, parse: bool
) -> None:
    tokenizer, llama = both
    assert tokenizer.encode(text, parse_special=parse) == llama.tokenize(
        text, add_special=True, parse_special=parse
    )


def test_decoding_gives_llama_cpps_text(both: tuple[TextTokenizer, LlamaCpp]) -> None:
    tokenizer, llama = both
    for text in vocabularies.texts():
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == llama.detokenize(ids), text
    for id_ in range(0, tokenizer.vocab_size, 7):
        assert tokenizer.decode([id_]) == llama.detokenize([id_])


def metadata(vocabulary: Vocabulary, tmp_path: Path) -> dict[str, Any]:
    with open_gguf(vocabularies.write_model(tmp_path / "v.gguf", vocabulary)) as model:
        return dict(model.metadata)


def test_labels_are_printable_and_tell_bytes_from_text(tmp_path: Path) -> None:
    tokenizer = read_tokenizer(metadata(vocabularies.bpe("gpt-2"), tmp_path))
    labels = [tokenizer.piece(id_) for id_ in range(tokenizer.vocab_size)]
    assert all(label.isprintable() and label for label in labels)
    ids = tokenizer.vocabulary.ids
    assert labels[ids["Ġowner"]] == "▁owner"
    assert labels[ids["Ċ"]] == r"\n"
    assert labels[ids["ð"]] == "<0xF0>"
    assert labels[ids["<s>"]] == "<s>"


def test_a_token_that_is_not_there_is_named(tmp_path: Path) -> None:
    tokenizer = read_tokenizer(metadata(vocabularies.bpe("gpt-2"), tmp_path))
    for id_ in (-1, tokenizer.vocab_size):
        with pytest.raises(NoSuchToken, match=str(id_)):
            tokenizer.piece(id_)


def test_a_bos_that_is_wanted_and_not_named_is_refused(tmp_path: Path) -> None:
    """llama.cpp ends its process there."""
    vocabulary = vocabularies.bpe("chatglm-bpe", add_bos_token=True)
    whole = metadata(vocabularies.without("bos_token_id", vocabulary), tmp_path)
    with pytest.raises(BadVocabulary, match="bos"):
        read_tokenizer(whole).encode("a")
    assert read_tokenizer(whole).encode("a", add_special=False)


def test_a_charsmap_tells_children_from_replacements() -> None:
    """An entry with bit 31 holds the place of a string, whatever its low byte."""
    nodes = [256 << 10] + [0] * 511
    nodes[256 ^ ord("a")] = 1 << 31 | 1 << 8 | ord("a")
    table = b"".join(node.to_bytes(4, "little") for node in nodes)
    charsmap = Charsmap(len(table).to_bytes(4, "little") + table + b"b\0")
    assert charsmap.longest(b"a", 0) == (0, None)


def test_half_a_surrogate_is_no_text(tmp_path: Path) -> None:
    tokenizer = read_tokenizer(metadata(vocabularies.bpe("gpt-2"), tmp_path))
    with pytest.raises(UnreadableText):
        tokenizer.encode("a\udce4b")


@pytest.mark.parametrize("kind", ["rwkv", "plamo2", "none", "martian", ""])
def test_an_unknown_kind_says_to_pass_ids(kind: str, tmp_path: Path) -> None:
    broken = metadata(vocabularies.bpe("gpt-2"), tmp_path) | {"tokenizer.ggml.model": kind}
    with pytest.raises(UnknownTokenizer) as caught:
        read_tokenizer(broken)
    assert "--ids" in caught.value.hint


def test_an_unknown_way_to_cut_words_says_to_pass_ids(tmp_path: Path) -> None:
    broken = metadata(vocabularies.bpe("gpt-2"), tmp_path) | {"tokenizer.ggml.pre": "martian"}
    with pytest.raises(UnknownTokenizer, match="martian") as caught:
        read_tokenizer(broken)
    assert "--ids" in caught.value.hint


KEYS = [
    *("model", "pre", "tokens", "token_type", "scores", "merges", "precompiled_charsmap"),
    *("bos_token_id", "eos_token_id", "unknown_token_id", "seperator_token_id"),
    *("add_bos_token", "add_space_prefix"),
]
HOSTILE = [None, 7, -1, 2**40, True, "x", "", 1.5, float("nan"), "tokens", "token_type", "scores"]
HOSTILE_KINDS = ["sentencepiece", "gemma4", "wordpiece", "unigram", "bpe, holes"]


@given(st.sampled_from(KEYS), st.sampled_from(HOSTILE), st.sampled_from(HOSTILE_KINDS))
@settings(max_examples=200)
def test_hostile_metadata_gives_ids_or_one_clear_error(key: str, value: Any, kind: str) -> None:
    """Any value in any place; another key's array among them."""
    whole = _cached(kind)
    stray = whole.get(f"tokenizer.ggml.{value}", value) if isinstance(value, str) else value
    broken = whole | {f"tokenizer.ggml.{key}": stray}
    if value is None:
        broken.pop(f"tokenizer.ggml.{key}", None)
    error = _error(broken)
    if error:
        assert error.hint
        assert "\n" not in error.message


def _error(broken: dict[str, Any]) -> GGUFScopeError | None:
    try:
        read_tokenizer(broken).encode("Hello <s> 12 世界")
    except GGUFScopeError as error:
        return error
    return None


_WHOLE: dict[str, dict[str, Any]] = {}


def _cached(kind: str) -> dict[str, Any]:
    if kind not in _WHOLE:
        with TemporaryDirectory() as folder:
            _WHOLE[kind] = metadata(KINDS[kind](), Path(folder))
    return _WHOLE[kind]


def test_a_token_that_comes_twice_is_refused(tmp_path: Path) -> None:
    vocabulary = vocabularies.bpe("gpt-2")
    vocabulary["tokens"][-1] = vocabulary["tokens"][0]
    with pytest.raises(BadVocabulary, match="twice"):
        read_tokenizer(metadata(vocabulary, tmp_path))


def test_too_few_types_are_refused(tmp_path: Path) -> None:
    vocabulary = vocabularies.bpe("gpt-2")
    vocabulary["token_type"] = vocabulary["token_type"][:-1]
    with pytest.raises(BadVocabulary, match="token_type"):
        read_tokenizer(metadata(vocabulary, tmp_path))
