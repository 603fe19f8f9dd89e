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
    assert done.stderr == f"note: {model} itself will be changed: no COPY is named\n"
    assert [line.split() for line in done.stdout.splitlines()[:2]] == [
        ["key", "type", "before", "after"],
        ["general.name", "string", "Stories", "Talez"],
    ]
    assert ", in place: " in " ".join(done.stdout.split())
    assert open_gguf(model).metadata["general.name"] == "Talez"
    one = inside("edit", model, "-q", "--set", "general.name=str:Tales", "--dry-run")
    assert one.stdout.endswith(", in place: 1 byte of its header\n")
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
    done = inside("edit", model, model, "--remove", "general.author")
    refused(done, "COPY is MODEL itself")
    assert "leave COPY out" in done.stderr
    assert inside("edit", model, copy, "--remove", "general.name", "--force").returncode == 0
    assert "general.author" in open_gguf(copy).metadata


def test_a_chat_template_is_a_text_and_never_run(model: Path, tmp_path: Path) -> None:
    template = tmp_path / "template.jinja"
    template.write_bytes("{{ ''.__class__ }}\r\né".encode())
    refused(inside("edit", model, "--chat-template", template), "may run code of a stranger")
    assert inside("edit", model, "--chat-template", template, "--unsound").returncode == 0
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
        (["--set", "general.name=Foo"], "has no TYPE", "write general.name=str:Foo"),
        (["--set", 'general.tags=str[]:["a"'], "is no array in JSON: Expecting", "str[]:["),
        (["--set", "=int:2"], "names no key", "KEY=TYPE:VALUE"),
        (
            ["--special", "eos=The", "--set", "tokenizer.ggml.eos_token_id=int:5"],
            "--set and --special are about one key",
            "give one of them",
        ),
        (["--set", "a=int:1", "--set", "a=int:2"], "'a' is set twice", "one --set for each"),
        (["--special", "eos=a", "--special", "eos=b"], "names 'eos' twice", "for each"),
        (["--set", "general.alignment=int:7"], "is 7, not a power of two", "no tensor can move"),
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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--remove", "tokenizer.ggml.tokens"], "'tokenizer.ggml.tokens' is missing"),
        (["--rename", "tokenizer.ggml.tokens=x.y"], "'tokenizer.ggml.tokens' is missing"),
        (["--remove", "llama.attention.layer_norm_rms_epsilon"], "cannot be computed without it"),
        (["--set", "llama.rope.dimension_count=int:7"], "7 dimensions of a head of 32"),
        (["--set", "llama.rope.freq_base=float:nan"], "'llama.rope.freq_base' is nan"),
    ],
)
def test_what_check_would_call_an_error_is_refused(
    words: list[str], said: str, model: Path
) -> None:
    before = model.read_bytes()
    for dry in (["--dry-run"], []):
        done = inside("edit", model, *words, *dry)
        refused(done, "the model would not be sound")
        assert said in done.stderr
        assert "--unsound" in done.stderr
    assert model.read_bytes() == before
    done = inside("edit", model, *words, "--unsound")
    assert done.returncode == 0
    assert said in done.stderr
    assert inside("check", model, "--quick").returncode == 1
    # What is unsound already is no reason to refuse another change, or the one that mends it.
    assert inside("edit", model, "--set", "general.name=str:T").returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "tokenizer.ggml.model=str:foo"], "a kind of tokenizer that is not read here"),
        (["--remove", "tokenizer.ggml.model"], "the file has no tokenizer"),
        (["--set", "llama.context_length=int:0"], "'llama.context_length' is 0"),
        (["--set", "general.file_type=int:15"], "called Q4_K_M"),
    ],
)
def test_what_check_would_warn_of_is_a_warning(words: list[str], said: str, model: Path) -> None:
    for dry in (["--dry-run"], []):
        done = inside("edit", model, *words, *dry)
        assert done.returncode == 0
        assert done.stderr.startswith("warning: ")
        assert said in done.stderr.splitlines()[0]
    again = inside("edit", model, "-q", "--set", "general.name=str:T")
    assert (again.returncode, again.stderr) == (0, "")


def test_an_error_that_another_one_hid_is_a_warning(model: Path) -> None:
    spoil = ["--set", "llama.rope.freq_base=float:-1", "--set", "llama.block_count=int:0"]
    assert inside("edit", model, *spoil, "--unsound").returncode == 0
    done = inside("edit", model, "--set", "llama.block_count=int:4")
    assert done.returncode == 0
    assert "'llama.rope.freq_base' is -1" in done.stderr
    assert inside("edit", model, "--set", "llama.rope.freq_base=float:10000").returncode == 0
    assert inside("check", model, "--quick").returncode == 0


def test_a_quote_is_quoted_otherwise(model: Path) -> None:
    items = json.dumps(['"', "it's \"", "a"])
    done = inside("edit", model, "--dry-run", "--set", f"a=str[]:{items}")
    assert """['"', "it's \\"", "a"]""" in done.stdout


def test_many_warnings_are_cut(model: Path) -> None:
    done = inside("edit", model, "--set", "llama.block_count=int:9", "--unsound", "--dry-run")
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) == 6
    assert "more: `ggufscope check --quick`" in done.stderr


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
    assert b"itself will be changed" in said.replace(b"\r\n", b" ")


def test_a_special_token_may_be_named_as_it_is_shown(sample: Path, tmp_path: Path) -> None:
    for name, token in (("shown", "\u2581dog"), ("stored", "\u0120dog")):
        done = inside("edit", sample, tmp_path / name, "--special", f"eos={token}")
        assert done.returncode == 0
    assert (tmp_path / "shown").read_bytes() == (tmp_path / "stored").read_bytes()
