"""Values that no model has: each is one clear error, or does no harm."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ggufscope import errors
from ggufscope.cli.sizes import parse_size
from ggufscope.container.file import open_gguf
from ggufscope.errors import BadUsage
from ggufscope.model.tokenizer.text import read_tokenizer
from tests.models import vocabularies
from tests.models.makers import Recipe, raw_gguf, tensor, write_recipe
from tests.models.vocabularies import BYTE
from tests.program import inside, refused

DIGITS = "9" * 400
NUMBERS = [DIGITS, f"-{DIGITS}", f"{DIGITS}.5", "nan", "inf", "-1", "-inf", "1e400", "", "x"]


def tokenizer_of(kind: Callable[..., dict[str, Any]], tmp_path: Path, **changes: Any) -> Any:
    """The tokenizer of a vocabulary of such a kind in which some values are others."""
    vocabulary = kind() | changes
    metadata = {f"tokenizer.ggml.{key}": value for key, value in vocabulary.items()}
    path = write_recipe(tmp_path / "m.gguf", Recipe("llama", {"block_count": 1}, {}, metadata))
    with open_gguf(path) as file:
        return read_tokenizer(file.metadata)


def bpe() -> dict[str, Any]:
    return vocabularies.bpe("llama-bpe")


def _with_last(tokens: list[str], last: str) -> list[str]:
    return [*tokens[:-1], last]


@pytest.mark.parametrize("byte", ["<0xZZ>", "<0x-1>", "<0x+1>", "<0x 1>", "<0x1_>", "\u0660" * 6])
def test_a_byte_token_that_is_none(byte: str, tmp_path: Path) -> None:
    vocabulary = vocabularies.sentencepiece()
    tokens, types = _with_last(vocabulary["tokens"], byte), [*vocabulary["token_type"][:-1], BYTE]
    last = len(tokens) - 1
    with pytest.raises(errors.TokenizerError, match=rf"{last}.*BYTE|BYTE.*{last}"):
        tokenizer_of(vocabularies.sentencepiece, tmp_path, tokens=tokens, token_type=types)


def test_a_byte_level_token_of_no_letter(tmp_path: Path) -> None:
    # As the bytes of a file, which need not be UTF-8.
    odd = "\udcff"
    tokens = _with_last(bpe()["tokens"], "@")
    metadata = {
        f"tokenizer.ggml.{key}": value for key, value in (bpe() | {"tokens": tokens}).items()
    }
    path = write_recipe(tmp_path / "m.gguf", Recipe("llama", {"block_count": 1}, {}, metadata))
    data = path.read_bytes()
    at = data.rindex(b"\1\0\0\0\0\0\0\0@") + 8
    path.write_bytes(data[:at] + b"\xff" + data[at + 1 :])
    with open_gguf(path) as file:
        assert file.metadata["tokenizer.ggml.tokens"][-1] == odd
        found = read_tokenizer(file.metadata)
        last = len(tokens) - 1
        assert found.piece(last).isprintable()
        assert found.decode([last]) is not None
        assert found.encode("The cat")


@pytest.mark.parametrize(
    ("kind", "key", "change"),
    [
        (vocabularies.sentencepiece, "scores", lambda scores: scores[:-1]),
        (vocabularies.sentencepiece, "scores", lambda scores: [math.nan] * len(scores)),
        (vocabularies.sentencepiece, "scores", lambda scores: ["x"] * len(scores)),
        (vocabularies.sentencepiece, "scores", lambda scores: 1),
        (vocabularies.sentencepiece, "token_type", lambda types: [math.nan] * len(types)),
        (vocabularies.sentencepiece, "token_type", lambda types: ["1"] * len(types)),
        (vocabularies.sentencepiece, "token_type", lambda types: types[:5]),
        (vocabularies.sentencepiece, "tokens", lambda tokens: 7),
        (vocabularies.sentencepiece, "tokens", lambda tokens: [1] * len(tokens)),
        (vocabularies.sentencepiece, "model", lambda _: "no such"),
        (bpe, "merges", lambda merges: [1] * len(merges)),
        (bpe, "pre", lambda _: "no such"),
    ],
)
def test_a_vocabulary_that_makes_no_sense(
    kind: Callable[[], dict[str, Any]], key: str, change: Callable[[Any], Any], tmp_path: Path
) -> None:
    with pytest.raises(errors.GGUFScopeError, match=r"tokenizer\.ggml") as caught:
        tokenizer_of(kind, tmp_path, **{key: change(kind().get(key))})
    assert caught.value.hint


@pytest.mark.parametrize(
    ("key", "value"), [("scores", []), ("bos_token_id", 1 << 31), ("eos_token_id", 1 << 20)]
)
def test_what_a_vocabulary_can_do_without(key: str, value: Any, tmp_path: Path) -> None:
    found = tokenizer_of(vocabularies.sentencepiece, tmp_path, **{key: value})
    ids = found.encode("The cat")
    assert ids
    assert all(0 <= each < found.vocab_size for each in ids)


def test_a_tensor_of_no_dimensions(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(raw_gguf([], [tensor("t", ())], bytes(32)))
    for words in (["list", path], ["size", path], ["quantize", path, "Q8_0"]):
        done = inside(*words)
        assert done.returncode in (0, 2)
        assert "Traceback" not in done.stderr


OPTIONS = [
    *(["list", "{}", option, "#"] for option in ("--layer", "--tokens")),
    *(
        ["size", "{}", option, "#"]
        for option in (
            *("--context", "--parallel", "--batch", "--fits", "--vram", "--target-size"),
            "--target-bpw",
        )
    ),
    *(
        ["quantize", "{}", "Q8_0", "--dry-run", option, "#"]
        for option in ("--threads", "--max-buffer-size", "--split-max-size", "--prune-layers")
    ),
    ["quantize", "{}", "Q8_0", "--dry-run", "--override-kv", "llama.block_count=int:#"],
    ["quantize", "{}", "Q8_0", "--dry-run", "--override-kv", "general.x=float:#"],
    *(["attention", "{}", option, "#", "--prompt", "Once"] for option in ("--layer", "--head")),
    ["attention", "{}", "--ids", "#"],
    *(
        ["compare-attention", "{}", option, "#", "--prompt", "Once", "--types", "Q8_0"]
        for option in ("--layer", "--head")
    ),
    ["compare-attention", "{}", "--prompt", "Once", "--types", "Q8_0", "--tolerance", "cosine=#"],
]


@pytest.mark.parametrize("words", OPTIONS, ids=" ".join)
def test_numbers_that_are_none(
    words: list[str], sample: Path, in_this_process: Callable[..., tuple[int, str]]
) -> None:
    accepted = []
    for number in NUMBERS:
        said = [w.replace("{}", str(sample)).replace("#", number) for w in words]
        if said[-1] == number:  # a number that begins with a dash stands behind its option
            said[-2:] = [f"{said[-2]}={number}"]
        code, output = in_this_process(*said)
        assert code in (0, 1, 2), (number, output)
        assert "Traceback" not in output
        assert max(map(len, output.splitlines()), default=0) < 600
        accepted += [number] if code != 2 else []
    # Of the strangest some are numbers all the same: a metadata value may well be infinite.
    assert not accepted or "--override-kv" in words or "--tolerance" in words, accepted


@pytest.fixture
def in_this_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    from ggufscope.cli import app

    def call(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["ggufscope", *words])
        with pytest.raises(SystemExit) as caught:
            app.main()
        output = capsys.readouterr()
        return int(caught.value.code or 0), output.out + output.err

    return call


@pytest.mark.parametrize(
    ("said", "nbytes"),
    [
        ("8GiB", 8 << 30),
        ("8G", 8 << 30),
        ("8gib", 8 << 30),
        ("8 GB", 8 * 10**9),
        ("1.5K", 1536),
        ("0.5MB", 500_000),
        ("2T", 2 << 40),
        ("1048576", 1 << 20),
        ("7B", 7),
    ],
)
def test_sizes(said: str, nbytes: int) -> None:
    assert parse_size(said, "--fits", "memory") == nbytes


@pytest.mark.parametrize(
    "said",
    [
        "",
        "8",
        "0",
        "0GiB",
        "-1G",
        "8X",
        "8GG",
        "1e9",
        "nan",
        DIGITS,
        "8 G i B",
        "2GI",
        "2GIIIB",
        "٨G",
        "8G\n1",
    ],
)
def test_sizes_that_are_none(said: str) -> None:
    with pytest.raises(BadUsage, match="--fits") as caught:
        parse_size(said, "--fits", "memory")
    assert len(caught.value.message) < 200
    assert "GiB" in (caught.value.hint or "")


@pytest.mark.parametrize("bits", ["nan", "-1", "0", "inf", "1e400", DIGITS])
def test_bits_that_are_none(bits: str, sample: Path) -> None:
    refused(inside("size", sample, f"--target-bpw={bits}"), "bpw")


def test_every_refusal_names_the_file(sample: Path, tmp_path: Path) -> None:
    whole = sample.read_bytes()
    for number, data in enumerate((b"", b"GGUF", b"no model", whole[:1000], whole[:-1], whole[:9])):
        path = tmp_path / f"m{number}.gguf"
        path.write_bytes(data)
        for words in (
            ["list", path],
            ["size", path],
            ["quantize", path, "Q8_0"],
            ["dequantize", path, tmp_path / "out.gguf"],
            ["attention", path, "--ids", "1"],
            ["compare-attention", path],
            ["compare-attention", sample, "--against", path],
        ):
            refused(inside(*words), str(path))
