"""What a command does before and after its work: it imports and builds what it uses, and ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from ggufscope.cli import app
from ggufscope.cli.commands import COMMANDS
from ggufscope.cli.prompts import tokenizer_of
from ggufscope.container.file import open_gguf
from ggufscope.errors import BadVocabulary
from ggufscope.model.tokenizer.text import read_tokenizer
from tests.models import vocabularies
from tests.program import run

ENDING = """
import atexit, gc, os, sys
atexit.register(lambda: sys.stderr.write(" ".join({what})))
from ggufscope.__main__ import main
main()
"""
OF_SOME_RUNS = {
    "rich.progress",  # a terminal
    "rich.markdown",
    "typer.rich_utils",  # --help
    "tokenizers",  # a text
    "_hashlib",  # OpenSSL, for the journal of an edit
    "ggufscope.report.html",
    "ggufscope.report.saving",
    "ggufscope.container.partial",
    "ggufscope.container.remote.source",
}


def at_its_end(what: str, *arguments: object) -> list[str]:
    """What a process that starts cold has at its end: the words that an expression makes."""
    words = [sys.executable, "-P", "-c", ENDING.format(what=what), *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return done.stderr.split()


@pytest.mark.parametrize(
    ("words", "others"),
    [
        ("--version", {"numpy", "ggufscope.cli.list", "rich"}),
        ("list {}", {"ggufscope.blocks.codec", "ggufscope.recipes.request", "gguf"}),
        (
            "size 7b",
            {"ggufscope.blocks.codec", "ggufscope.recipes.jobs", "ggufscope.sizing.chosen"},
        ),
        ("check {}", {"ggufscope.forward.weights"}),
        ("attention {} --ids 5", {"ggufscope.recipes.plan", "ggufscope.measure.verify", "json"}),
        ("attention {} --ids 5 --json", {"rich"}),
        ("list {} --json", {"rich"}),
    ],
)
def test_a_command_imports_what_it_uses(words: str, others: set[str], sample: Path) -> None:
    imported = set(at_its_end("sys.modules", *words.format(sample).split()))
    assert imported & (OF_SOME_RUNS | others) == set()
    files = {f"ggufscope.cli.{file}" for _, file in COMMANDS.values()}
    named = words.split()[0]
    expected = {f"ggufscope.cli.{COMMANDS[named][1]}"} if named in COMMANDS else set()
    assert imported & files == expected


def test_a_command_ends_without_looking_for_garbage() -> None:
    (frozen,) = at_its_end("[str(gc.get_freeze_count())]", "--version")
    assert int(frozen) > 10_000


@pytest.mark.parametrize(("wanted", "threads"), [(None, "1"), ("3", "3")])
def test_the_matrix_library_has_one_thread_where_nobody_wants_more(
    wanted: str | None, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if wanted is None:
        monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", wanted)
    assert at_its_end("[os.environ['OPENBLAS_NUM_THREADS']]", "--version") == [threads]


def test_every_command_is_built_when_it_is_looked_up() -> None:
    commands = vars(get_command(app.app))["commands"]
    assert [*commands] == [command.name for command in commands.values()] == [*COMMANDS]
    assert commands.get("lst") is None
    assert "lst" not in commands


@pytest.mark.parametrize("before", [["--max-download", "1MiB"], ["--engine", "numpy"], ["--"]])
def test_a_command_is_found_behind_options(before: list[str], sample: Path) -> None:
    assert run(*before, "list", sample, "--brief").stdout.startswith("file ")


def test_a_value_that_is_a_commands_name_is_no_command() -> None:
    done = run("--max-download", "list", "size", "7b")
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        2,
        "error: --max-download 'list' is no size of a download",
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [("lst", "Did you mean 'list'?"), ("LIST", "did you mean list?"), ("7b", "--help")],
)
def test_a_misspelt_command_is_held_against_all(name: str, hint: str) -> None:
    done = run(name)
    assert done.returncode == 2
    assert f"no such command '{name}'" in done.stderr
    assert hint in done.stderr


def test_numbers_need_no_encoder(tmp_path: Path) -> None:
    """Unigram does not work without scores; what its tokens are called is known."""
    vocabulary = vocabularies.without("scores", vocabularies.unigram())
    with open_gguf(vocabularies.write_model(tmp_path / "v.gguf", vocabulary)) as file:
        named = tokenizer_of(file.metadata, needed=False)
        assert named is not None
        assert named.decode([3, 1]) == "<tool></s>"
        for fails in (
            lambda: named.encode("text"),
            lambda: tokenizer_of(file.metadata, needed=True),
            lambda: read_tokenizer(file.metadata),
        ):
            with pytest.raises(BadVocabulary, match="no scores"):
                fails()
