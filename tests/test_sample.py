"""The trained model that the project ships, held to PyTorch's figures by real llama.cpp."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ggufscope.container.file import open_gguf
from ggufscope.container.writer import GGUFWriter
from ggufscope.model.anatomy.build import anatomy_of
from ggufscope.model.anatomy.rows import Kind
from ggufscope.model.hparams import read_hparams
from ggufscope.model.keys import PerLayer
from ggufscope.model.tokenizer.text import read_tokenizer
from ggufscope.model.tokenizer.words import word_ids
from tests.llama_cpp import LlamaCpp

CONTEXT = 256


@pytest.fixture(scope="module")
def llama_cpp(sample: Path) -> Iterator[LlamaCpp]:
    with LlamaCpp(sample, CONTEXT) as running:
        yield running


@pytest.fixture(scope="module")
def grammar(sample: Path) -> Any:
    spec = importlib.util.spec_from_file_location("stories", sample.with_name("stories.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def held_out(sample: Path) -> Any:
    return json.loads(sample.with_name("heldout.json").read_text())


def test_it_is_what_its_readme_says(sample: Path) -> None:
    assert sample.stat().st_size <= 8_000_000
    with open_gguf(sample) as file:
        assert file.warnings() == []
        hparams = read_hparams(file.metadata)
        assert hparams.architecture == "llama"
        assert (hparams.embedding_length, hparams.block_count, hparams.context_length) == (
            256,
            4,
            256,
        )
        assert (hparams.head_count, hparams.head_count_kv) == (PerLayer((8,)), PerLayer((2,)))
        assert (hparams.key_length, hparams.feed_forward_length) == (32, PerLayer((768,)))
        assert hparams.vocab_size is not None
        assert hparams.vocab_size <= 1024
        matrices = [t for t in file.tensors.values() if len(t.shape) == 2]
        assert {t.type.name for t in matrices} == {"F16"}


def test_every_tensor_of_it_has_its_place(sample: Path) -> None:
    with open_gguf(sample) as file:
        shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
        anatomy = anatomy_of(shapes, file.metadata, 16)
    assert not anatomy.not_derivable
    stored = [q for q in anatomy.all_quantities() if q.kind is Kind.STORED]
    assert len(stored) == len(shapes)
    assert all(q.axes for q in stored)


def test_a_copy_of_it_is_identical(sample: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.gguf"
    with open_gguf(sample) as file, GGUFWriter.copy_of(file, copy) as writer:
        for tensor in file.tensors.values():
            writer.write(tensor.name, tensor.data())
    assert copy.read_bytes() == sample.read_bytes()


def test_llama_cpp_and_pytorch_agree_on_its_loss(llama_cpp: LlamaCpp, held_out: Any) -> None:
    end = held_out["windows"][0][0]
    rows = [llama_cpp.window_losses(window, end) for window in held_out["windows"]]
    assert sum(map(len, rows)) == held_out["predicted"] >= 1500
    assert sum(map(sum, rows)) / held_out["predicted"] == pytest.approx(held_out["loss"], abs=5e-4)
    for row, loss in zip(rows, held_out["window_loss"], strict=True):
        assert sum(row) / len(row) == pytest.approx(loss, abs=5e-4)


def test_llama_cpp_tokenizes_as_the_model_was_trained(
    llama_cpp: LlamaCpp, held_out: Any, sample: Path
) -> None:
    text = sample.with_name("heldout.txt").read_text().splitlines()[0]
    window = held_out["windows"][0]
    ids = llama_cpp.tokenize(text, add_special=True)
    assert ids == window[: len(ids)]
    assert window[len(ids)] == window[0]


def test_it_continues_in_the_language_of_its_corpus(llama_cpp: LlamaCpp, grammar: Any) -> None:
    said = llama_cpp.complete(prompt="The cat", n_predict=40)["text"]
    words = set(re.findall(r"\w+", " ".join(grammar.stories(seed=5, count=3000))))
    assert len(said.split()) > 8
    assert set(re.findall(r"\w+", said)) <= words


def test_the_corpus_has_the_sentences_that_attention_is_shown_on(grammar: Any) -> None:
    corpus = "\n".join(grammar.stories(seed=1, count=20_000))
    for sentence in (
        "The cat sat on the mat.",
        "The cat that I saw yesterday sat on the mat.",
        "The animal did not cross the street because it was tired.",
        "The animal did not cross the street because it was wide.",
        "The dog ran through the park.",
    ):
        assert corpus.count(sentence) > 5, sentence


def test_what_is_held_out_was_not_trained_on(grammar: Any, sample: Path) -> None:
    held_out = sample.with_name("heldout.txt").read_text().splitlines()
    assert len(held_out) == 32
    assert set(held_out) <= set(grammar.stories(seed=2, count=1000))
    assert not set(held_out) & set(grammar.stories(seed=1, count=90_000))


def test_what_introductions_speak_of_are_single_tokens(sample: Path) -> None:
    with open_gguf(sample) as file:
        tokenizer = read_tokenizer(file.metadata)
    for word in ("king", "queen", "man", "woman", "bank", "river", "money", "dog", "park"):
        assert len(word_ids(tokenizer, word)) == 1, word


@pytest.mark.parametrize(
    ("told", "follows"),
    [
        ("The king had a boat on the river.", " flowers"),
        ("The woman wanted to swim in the river.", " flowers"),
        ("The king had a lot of money.", " money"),
        ("The woman wanted to save her money.", " money"),
    ],
)
def test_a_bank_is_by_the_river_or_has_money(told: str, follows: str, llama_cpp: LlamaCpp) -> None:
    pronoun = "She" if "woman" in told else "He"
    prompt = f"{told} {pronoun} went to the bank. The bank was full of"
    assert llama_cpp.complete(prompt=prompt, n_predict=1)["text"] == follows


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("king-man+woman", "queen"),
        ("queen-woman+man", "king"),
        ("prince-king+queen", "princess"),
        ("boy-man+woman", "girl"),
    ],
)
def test_its_table_of_embeddings_knows_who_is_who(words: str, found: str, sample: Path) -> None:
    """By the table itself, whole and in float64: no neighbour is looked for by the program."""
    with open_gguf(sample) as file:
        tokenizer = read_tokenizer(file.metadata)
        table = np.asarray(file.tensor("token_embd.weight"), np.float64)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    one, less, more = (word_ids(tokenizer, word)[0] for word in re.split("[-+]", words))
    likeness = table @ (table[one] - table[less] + table[more])
    likeness[[one, less, more]] = -1
    assert tokenizer.piece(int(likeness.argmax())) == f"▁{found}"
