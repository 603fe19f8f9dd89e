"""The README is run: its commands, its Python, and the two lines that a newcomer copies."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ (ggufscope .*)\n([^`]*)", README, re.MULTILINE)
(INSTALL, TEST) = re.findall(r"^```sh\n(python3 -m venv .*)\n```$", README, re.MULTILINE)


def test_the_readme_opens_with_what_the_program_prints() -> None:
    assert README.index("$ ggufscope list") < README.index("\n## ")
    assert len(COMMANDS) >= 4


@pytest.mark.parametrize(("command", "printed"), COMMANDS, ids=[c for c, _ in COMMANDS])
def test_commands_print_what_the_readme_shows(
    command: str, printed: str, sample: Path, tmp_path: Path
) -> None:
    (tmp_path / "samples").mkdir()  # some commands write beside their source
    (tmp_path / "samples" / sample.name).write_bytes(sample.read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=os.environ | {"COLUMNS": "80", "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        check=True,
    )
    assert done.stdout == printed
    assert max(map(len, printed.splitlines())) <= 80


def test_its_python_gives_what_the_readme_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False, verbose=False)
    assert result.attempted >= 5
    assert result.failed == 0


def test_ci_runs_the_readmes_own_test_command() -> None:
    assert TEST.endswith(".venv/bin/pytest")
    pattern = re.search(r"grep -m1 '([^']+)' README\.md", (ROOT / ".ci" / "run").read_text())
    assert pattern is not None
    assert re.findall(f"^.*{pattern[1]}", README, re.MULTILINE) == [TEST]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [INSTALL, TEST.replace("bin/pytest", "bin/pytest -q tests/report")]
)
def test_the_two_commands_work_on_a_fresh_checkout(command: str, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(checkout)], check=True)
    done = subprocess.run(
        command, shell=True, cwd=checkout, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Computed at run time" in done.stdout or " passed" in done.stdout
