"""`ggufscope tokens`, run as people run it."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import ggufscope
from ggufscope.container.file import open_gguf
from ggufscope.errors import BadUsage
from ggufscope.forward.weights import Matrix, StoredWeights, tile_rows
from ggufscope.measure.nearest import TABLE, nearest
from ggufscope.model.tokenizer.words import Term, read_sum, word_ids
from ggufscope.recipes.apply import quantize_model
from tests.cli.conftest import Run
from tests.llama_cpp import LlamaCpp
from tests.models import vocabularies
from tests.models.families import SMALL, write


@pytest.fixture
def run(run: Run) -> Run:
    """Run `tokens` in this process."""
    return partial(run, "tokens")


TEXT = "The cat sat, é🚀 <|endoftext|>\x1b[31m\n"


def test_ids_are_llama_cpps_and_bytes_are_the_text(run: Run, sample: Path) -> None:
    told = json.loads(run(sample, TEXT, "--json")[1])
    ids = [each["id"] for each in told["tokens"]]
    plain = json.loads(run(sample, TEXT, "--no-bos", "--no-parse-special", "--json")[1])
    with LlamaCpp(sample, 64) as llama:
        assert ids == llama.tokenize(TEXT, add_special=True)
    assert bytes.fromhex("".join(each["bytes"] for each in plain["tokens"])).decode() == TEXT
    assert (told["tokens"][0]["what"], plain["tokens"][0]["what"]) == ("control, BOS, EOS", "")
    assert told["text"] == "<|endoftext|>" + TEXT
    again = json.loads(run(sample, "--decode", ",".join(map(str, ids)), "--json")[1])
    assert again == told


@pytest.mark.parametrize("arguments", [(TEXT,), ("",), (), ("--near", "dog"), ("word " * 900,)])
def test_it_is_legible_at_80_columns(arguments: tuple[str, ...], run: Run, sample: Path) -> None:
    code, out, err = run(sample, *arguments)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("gpt2: byte-level BPE", lambda: vocabularies.bpe("gpt-2")),
        ("llama: SentencePiece", lambda: vocabularies.sentencepiece()),
        ("bert: WordPiece", lambda: vocabularies.wordpiece()),
        ("t5: Unigram", lambda: vocabularies.unigram()),
    ],
)
def test_every_kind_of_vocabulary(
    kind: str, make: Callable[[], dict[str, object]], run: Run, tmp_path: Path
) -> None:
    path = vocabularies.write_model(tmp_path / "v.gguf", make())
    code, out, err = run(path)
    assert (code, err) == (0, "")
    assert kind in out
    assert run(path, "a b")[0] == 0
    told = json.loads(run(path, "--json")[1])
    assert sum(told["types"].values()) == told["tokens"]


def test_what_is_odd_is_said(run: Run, tmp_path: Path) -> None:
    vocabulary = vocabularies.bpe("gpt-2")
    del vocabulary["pre"]
    out = run(vocabularies.write_model(tmp_path / "v.gguf", vocabulary))[1]
    assert re.search(r"^odd +key 'tokenizer.ggml.pre' is missing$", out, re.MULTILINE)


def _by_hand(path: Path, signed: list[tuple[int, int]]) -> list[tuple[int, float]]:
    """All rows, sorted by their cosine to a sum of rows: whole matrices, in float64."""
    with open_gguf(path) as file:
        tensor = file.tensor(TABLE)
        table = ggufscope.dequantize(tensor.blocks(), tensor.type.name).reshape(tensor.shape)
    table = table.astype(np.float64)
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    target = sum(sign * unit[id_] for sign, id_ in signed)
    cosines = unit @ (target / np.linalg.norm(target))
    return [(int(n), float(cosines[n])) for n in np.argsort(-cosines, kind="stable")]


@pytest.mark.parametrize("type_", ["F16", "F32", "Q8_0", "Q6_K", "Q4_K", "IQ4_NL", "BF16"])
def test_neighbours_are_those_of_the_whole_table(
    type_: str, run: Run, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sample
    if type_ != "F16":
        path = tmp_path / "m.gguf"
        quantize_model(sample, {path: type_})
    monkeypatch.setattr("ggufscope.forward.weights.TILE", 1 << 14)
    assert tile_rows(256, 1 << 14) == 64
    with open_gguf(path) as file:
        tokenizer = ggufscope.read_tokenizer(file.metadata)
        ids = [word_ids(tokenizer, word)[0] for word in ("dog", "cat", "cow")]
    told = json.loads(run(path, "--near", "dog-cat+cow", "-n", "9", "--json")[1])["nearest"]
    wanted = _by_hand(path, [(1, ids[0]), (-1, ids[1]), (1, ids[2])])
    others = [each for each in wanted if each[0] not in ids][:9]
    kept = [each for each in wanted if each in others or each[0] in ids]
    assert [each["id"] for each in told] == [id_ for id_, _ in kept]
    np.testing.assert_allclose([e["cosine"] for e in told], [c for _, c in kept], atol=1e-9)
    assert {each["id"] for each in told if each["asked"]} == set(ids)


def test_only_the_table_is_read(run: Run, sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: set[str] = set()
    matrix = StoredWeights.matrix

    def noting(self: StoredWeights, name: str) -> Matrix:
        read.add(name)
        return matrix(self, name)

    monkeypatch.setattr(StoredWeights, "matrix", noting)
    assert run(sample, "--near", "dog")[0] == 0
    assert read == {TABLE}


def test_a_word_of_several_pieces_is_the_mean_of_its_rows(run: Run, sample: Path) -> None:
    out = run(sample, "--near", "crocodile")[1]
    told = json.loads(run(sample, "--near", "crocodile", "--json")[1])
    pieces = [each["id"] for each in told["words"][0]["tokens"]]
    assert f"{len(pieces)} pieces" in out
    assert "the mean of their rows is taken" in " ".join(out.split())
    with open_gguf(sample) as file:
        table = np.asarray(file.tensor(TABLE), np.float64)
    mean = table[pieces].mean(axis=0)
    wanted = table @ mean / np.linalg.norm(table, axis=1) / np.linalg.norm(mean)
    for each in told["nearest"]:
        assert each["cosine"] == pytest.approx(wanted[each["id"]], abs=1e-9)


class _Table:
    """A table by hand."""

    name = TABLE

    def __init__(self, rows: list[list[float]]) -> None:
        self._rows = np.array(rows, np.float32)
        self.shape = self._rows.shape

    def matrix(self, _: str) -> _Table:
        return self

    def rows(self, start: int, stop: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return self._rows[start:stop]


def test_edge_rows() -> None:
    table = _Table([[1, 0], [2, 0], [0, 0], [-1, -0.0], [1e-30, 0], [1e30, 1e30], [0, 1]])
    found = nearest(table, [Term("x", (0,))], 9)  # type: ignore[arg-type]  # has what is used
    assert [each.id for each in found] == [0, 1, 4, 5, 6, 3]  # zeros point nowhere
    assert found[3].cosine == pytest.approx(0.5**0.5)
    with pytest.raises(BadUsage, match="the row of 'x' is zero"):
        nearest(table, [Term("x", (2,))], 9)  # type: ignore[arg-type]
    same = [Term("x", (0,)), Term("y", (5,)), Term("z", (1,), -1), Term("y", (5,), -1)]
    with pytest.raises(BadUsage, match="the sum of the words is zero"):
        nearest(table, same, 9)  # type: ignore[arg-type]


def test_a_sum_that_points_nowhere_is_an_error(run: Run, sample: Path) -> None:
    code, out, err = run(sample, "--near", "dog-dog")
    assert (code, out) == (2, "")
    assert err == (
        "error: the sum of the words is zero: it points nowhere, and nothing is near it\n"
        "hint: leave out what cancels out\n"
    )


@pytest.mark.parametrize("asked", ["\u2581dog", "<0xE2>", "\\x1c", "\u2581king-\u2581man"])
def test_what_a_token_is_shown_as_may_be_asked_for(asked: str, run: Run, sample: Path) -> None:
    told = json.loads(run(sample, "--near", asked, "--json")[1])
    shown = [each["tokens"] for each in told["words"]]
    assert [len(tokens) for tokens in shown] == [1] * len(asked.split("-"))
    with open_gguf(sample) as file:
        tokenizer = ggufscope.read_tokenizer(file.metadata)
    assert [tokenizer.piece(tokens[0]["id"]) for tokens in shown] == asked.split("-")
    assert word_ids(tokenizer, "\u2581stegosaurus") == word_ids(tokenizer, "stegosaurus")


def test_rows_without_tokens_and_rows_that_are_no_numbers(run: Run, tmp_path: Path) -> None:
    small = SMALL["llama-gqa"]
    tensors = small.tensors()
    table = tensors["token_embd.weight"]
    tensors["token_embd.weight"] = np.concatenate([table, table[:8]])  # padded, as some are
    path = write(tmp_path / "m.gguf", small, tensors)
    assert "80 in the embedding table, more than there are tokens" in run(path)[1]
    word = json.loads(run(path, "--decode", "7", "--json")[1])["text"]
    told = json.loads(run(path, "--near", word, "-n", "1", "--json")[1])["nearest"]
    assert [(each["id"], each["token"]) for each in told] == [(7, word), (79, None)]
    assert "(no token)" in run(path, "--near", word, "-n", "1")[1]
    tensors["token_embd.weight"][5, 3] = np.nan
    code, _, err = run(write(path, small, tensors), "--near", word)
    assert code == 2
    assert "'token_embd.weight' has a NaN or an infinity in row 5" in err
    tensors["token_embd.weight"] = table[:7].copy()
    code, _, err = run(write(path, small, tensors), "--near", word)
    assert code == 2
    assert f"token 7 of '{word}' has no row" in err


def test_sums_are_read(sample: Path) -> None:
    with open_gguf(sample) as file:
        tokenizer = ggufscope.read_tokenizer(file.metadata)
    said = [(term.word, term.sign) for term in read_sum(tokenizer, "dog - cat+ the cow")]
    assert said == [("dog", 1), ("cat", -1), ("the cow", 1)]
    assert [term.sign for term in read_sum(tokenizer, "-dog")] == [-1]
    (alone,) = read_sum(tokenizer, "-")
    assert (alone.word, len(alone.ids)) == ("-", 1)


def _comes(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_a_text_may_come_from_standard_input(
    run: Run, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _comes(monkeypatch, b"the cat\r\n")
    assert json.loads(run(sample, "--prompt-file", "-", "--json")[1]) == json.loads(
        run(sample, "the cat\r\n", "--json")[1]
    )
    for data, says in (
        (b"", "nothing came from standard input"),
        (b"a\0", "standard input is not text: byte 1 is zero"),
        (b"\xff", "standard input is not UTF-8"),
        (b"a" * ((1 << 22) + 1), "standard input has more bytes, and a text has 4,194,304 at"),
    ):
        _comes(monkeypatch, data)
        code, out, err = run(sample, "--prompt-file", "-")
        assert (code, out) == (2, "")
        assert says in err
    monkeypatch.setattr(sys, "stdin", None)
    assert "nothing came" in run(sample, "--prompt-file", "-")[2]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a", "--near", "dog"], "TEXT stands beside --near"),
        (["--near", ""], "is no word, and no sum"),
        (["--near", "dog--cat"], "is no word, and no sum"),
        (["--near", "a+" * 17 + "a"], "sum of up to 16 words"),
        (["--no-bos"], "--no-bos is about a text"),
        (["--decode", "1", "--no-parse-special"], "--no-parse-special is about a text"),
        (["a", "-n", "5"], "-n is how many rows --near shows"),
        (["--decode", "1,x"], "is no list of ids"),
        (["--decode", ""], "--decode has no token number"),
        (["--decode", "1,99999"], "there is no token 99999"),
        (["--prompt-file", "/nowhere"], "/nowhere: no such file"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    arguments: list[str], says: str, run: Run, sample: Path
) -> None:
    code, out, err = run(sample, *arguments)
    assert (code, out) == (2, "")
    error, hint = err.splitlines()
    assert says in error
    assert hint.startswith("hint: ")
