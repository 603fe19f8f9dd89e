"""``ggufscope edit`` as its users see it, at 80 columns."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ggufscope import open_gguf
from tests.program import inside, on_a_terminal, refused


@pytest.fixture
def model(sample: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sample, tmp_path / "model.gguf"))


def test_a_dry_run_says_what_would_change(model: Path, tmp_path: Path) -> None:
    before = model.read_bytes()
    template = tmp_path / "template.jinja"
    template.write_text("{% for m in messages %}\x1b[2J" + "x" * 500)
    token = open_gguf(model).metadata["tokenizer.ggml.tokens"][300]
    done = inside(
        *("edit", model, "--dry-run", "--remove", "general.author", "--special", f"eot={token}"),
        *("--rename", "general.name=general.basename", "--set", 'general.tags=str[]:["a"]'),
        *("--chat-template", template),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\x1b" not in done.stdout
    rows = [line.split()[:2] for line in done.stdout.splitlines()]
    assert ["tokenizer.ggml.eot_token_id", "uint32"] in rows
    assert "would replace" in done.stdout
    assert model.read_bytes() == before


def test_it_says_that_the_model_itself_is_changed(model: Path) -> None:
    done = inside("edit", model, "--set", "general.name=str:Talez")
    assert done.returncode == 0
    assert done.stderr == f"note: {model} itself is changed: no COPY is named\n"
    assert [line.split() for line in done.stdout.splitlines()[:2]] == [
        ["key", "type", "before", "after"],
        ["general.name", "string", "Stories", "Talez"],
    ]
    assert ", in place: " in done.stdout.replace("\n", " ")
    assert open_gguf(model).metadata["general.name"] == "Talez"
    quiet = inside("edit", model, "-q", "--set", "general.name=str:" + "x" * 300)
    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert "replaced" in quiet.stdout


def test_a_copy_leaves_the_model(model: Path, tmp_path: Path) -> None:
    before, copy = model.read_bytes(), tmp_path / "copy.gguf"
    done = inside("edit", model, copy, "--remove", "general.author", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert [each["key"] for each in told["differences"]] == ["general.author"]
    assert told["files"] == [{"path": str(copy), "nbytes": copy.stat().st_size}]
    assert model.read_bytes() == before
    refused(inside("edit", model, copy, "--remove", "general.author"), "exists")
    assert inside("edit", model, copy, "--remove", "general.name", "--force").returncode == 0
    assert "general.author" in open_gguf(copy).metadata


def test_a_chat_template_is_a_text_and_never_run(model: Path, tmp_path: Path) -> None:
    template = tmp_path / "template.jinja"
    template.write_bytes("{{ ''.__class__ }}\r\né".encode())
    assert inside("edit", model, "--chat-template", template).returncode == 0
    assert open_gguf(model).metadata["tokenizer.chat_template"].encode() == template.read_bytes()
    template.write_bytes(b"\xff")
    refused(inside("edit", model, "--chat-template", template), "not UTF-8")
    refused(inside("edit", model, "--chat-template", tmp_path / "none"), "no such file")
    both = ["--set", "tokenizer.chat_template=str:x", "--chat-template", model]
    template.write_text("x")
    refused(inside("edit", model, *both[:3], template), "about one key")


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        ([], "nothing is to be changed", "give --set"),
        (["--set", "general.name"], "overrides no key", "KEY=TYPE:VALUE"),
        (["--set", "general.name=int:1"], "is of type STRING", "--remove it too"),
        (["--remove", "general.nmae"], "there is no key", "did you mean general.name?"),
        (["--rename", "general.name"], "says nothing", "OLD=NEW"),
        (["--special", "bos"], "says nothing", "bos=<s>"),
        (["--special", "bso=<s>"], "no kind of special token", "the kinds are bos, eos"),
        (["--special", "bos=\x1b[2J"], "is no token of the vocabulary", "as the vocabulary does"),
        (["--set", "tokenizer.ggml.eos_token_id=int:1024"], "has 1024 tokens", "0 to 1023"),
        (["--set", "llama.block_count=int:9"], "llama.cpp would not load it", "as it is"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    words: list[str], said: str, hint: str, model: Path
) -> None:
    before = model.read_bytes()
    done = inside("edit", model, *words)
    refused(done, said)
    assert hint in done.stderr
    assert "\x1b" not in done.stderr
    assert model.read_bytes() == before


def test_what_is_not_there_or_no_model(tmp_path: Path) -> None:
    refused(inside("edit", tmp_path / "none.gguf", "--remove", "x"), "no such file")
    refused(inside("edit", tmp_path, "--remove", "x"), "is a directory")
    junk = tmp_path / "junk.gguf"
    junk.write_bytes(b"junk" * 100)
    refused(inside("edit", junk, "--remove", "x"), "not a GGUF file")
    refused(inside("edit", junk), "nothing is to be changed")


def test_on_a_terminal_it_is_as_narrow(model: Path) -> None:
    code, said = on_a_terminal("edit", model, "--set", "general.name=str:T", COLUMNS="40")
    assert code == 0
    assert b"itself is changed" in said.replace(b"\r\n", b" ")
