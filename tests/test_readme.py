"""The documents are run: their commands, their Python, their links, and the two lines to copy."""

from __future__ import annotations

import doctest
import re
import subprocess
from pathlib import Path

import pytest

from ggufscope.cli.commands import COMMANDS
from tests.documents import DOCUMENTS, GUIDE, REPLAYED, ROOT, Shown, run, shown_in
from tests.test_house import PACKAGE

README = (ROOT / "README.md").read_text(encoding="utf-8")
SHOWN = [shown for document in REPLAYED for shown in shown_in(document)]
(INSTALL, TEST) = re.findall(r"^```sh\n(python3 -m venv .*)\n```$", README, re.MULTILINE)


def _name(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


def test_the_readme_opens_with_what_the_program_prints() -> None:
    assert README.index("$ ggufscope list") < README.index("\n## ")


def test_the_readme_is_read_in_one_sitting() -> None:
    assert len(README.splitlines()) <= 250


def test_the_readme_names_every_command() -> None:
    assert re.findall(r"^\| \[`([a-z-]+)`\]", README, re.MULTILINE) == [*COMMANDS]


def test_every_block_of_a_terminal_is_replayed() -> None:
    assert all(shown.command.startswith("ggufscope ") for shown in SHOWN)
    assert {shown.document for shown in SHOWN} >= {ROOT / "README.md"}
    assert len(SHOWN) >= 12


@pytest.mark.parametrize("shown", SHOWN, ids=lambda s: f"{s.document.stem}: {s.command}")
def test_commands_print_what_is_shown(shown: Shown) -> None:
    ended = run(shown.command)
    assert ended.returncode == shown.exit_code
    if shown.whole:
        assert ended.stdout == shown.printed
    assert shown.fits(ended.stdout), ended.stdout
    assert max(map(len, shown.printed.splitlines()), default=0) <= 80


@pytest.mark.parametrize(
    "document",
    [document for document in REPLAYED if ">>> " in document.read_text(encoding="utf-8")],
    ids=_name,
)
def test_python_gives_what_is_shown(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = doctest.testfile(str(document), module_relative=False, verbose=False)
    assert result.attempted >= 1
    assert result.failed == 0


def test_left_out_lines_are_lines() -> None:
    shown = Shown(Path(), "", "a\n...\nb\n...\n", 0)
    assert shown.fits("a\n1\n2\nb\n3\n")
    assert not shown.fits("a\nb\n3\n")
    assert not shown.fits("a\n1\nc\n3\n")
    assert not shown.fits("a\n1\nb 2\n3\n")


def test_every_chapter_is_in_the_contents() -> None:
    contents = (ROOT / "samples" / "guide" / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", contents))
    assert linked == {path.name for path in GUIDE} - {"README.md"}


def _anchors(document: Path) -> set[str]:
    """Return the anchors of a document, made from its headings as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", document.read_text("utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith("https://"):
            place, _, anchor = target.partition("#")
            path = (document.parent / place).resolve() if place else document
            assert path.exists(), target
            assert not anchor or anchor in _anchors(path), target


def test_the_map_of_the_house_is_the_house() -> None:
    text = (PACKAGE / "README.md").read_text(encoding="utf-8")
    there = {
        path.relative_to(PACKAGE).as_posix() + "/" * path.is_dir() for path in PACKAGE.rglob("*")
    }
    text = text.replace("tests/test_house.py", "")
    named = set(re.findall(r"(?<![\w./])((?:\w+/)+(?:\w+\.py)?|\w+\.py)(?![\w./])", text))
    unknown = {name for name in named if not any(f"/{it}".endswith(f"/{name}") for it in there)}
    assert unknown == set()
    folders = {path for path in there if path.endswith("/") and "__pycache__" not in path}
    assert {path for path in folders if path not in named} == set()


def test_ci_runs_the_readmes_own_test_command() -> None:
    assert TEST.endswith(".venv/bin/pytest")
    pattern = re.search(r"grep -m1 '([^']+)' README\.md", (ROOT / ".ci" / "run").read_text())
    assert pattern is not None
    assert re.findall(f"^.*{pattern[1]}", README, re.MULTILINE) == [TEST]


@pytest.mark.slow
def test_the_tests_run_on_a_fresh_checkout(tmp_path: Path) -> None:  # test_install.py has the other
    command = TEST.replace("bin/pytest", "bin/pytest -q tests/report")
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(checkout)], check=True)
    done = subprocess.run(
        command, shell=True, cwd=checkout, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
