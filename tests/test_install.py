"""The README's first command: with a compiler, without, with none to be had, without kernels.

Each takes apart and quantizes the sample in an environment of its own.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ggufscope.blocks.kernels.build import library_name
from tests.recipes import golden
from tests.test_readme import INSTALL

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent

MOST_KERNELS = 3_000_000
"""Bytes that the compiled kernels may take."""
WITHOUT = "numpy; they were not compiled when ggufscope was installed"
KINDS = {
    "compiler": ({"tools"}, "compiled; "),
    "ziglang": (set[str](), "by clang "),
    "neither": ({"offline"}, WITHOUT),
    "off": ({"tools", "off"}, WITHOUT),
}
"""What compiles -> what there is, and what ``--version -v`` says."""


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_command_works(kind: str, tmp_path: Path) -> None:
    given, said = KINDS[kind]
    checkout, home = tmp_path / "checkout", tmp_path / "home"
    home.mkdir()
    subprocess.run(["git", "clone", "-q", str(ROOT), str(checkout)], check=True)
    done = subprocess.run(
        INSTALL,
        shell=True,
        cwd=checkout,
        env=_environment(given, home, tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Computed at run time" in done.stdout
    program = checkout / ".venv" / "bin" / "ggufscope"
    version = _output([program, "--version", "-v"], home)
    assert said in version
    made = tmp_path / "made.gguf"
    _output([program, "quantize", checkout / "samples" / "stories-f16.gguf", made, "Q4_K_M"], home)
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    assert digest == golden.load("stories")["presets"]["Q4_K_M"]["sha256"]
    _nothing_is_left_behind(checkout, home, compiled=said != WITHOUT)


def _environment(given: set[str], home: Path, tmp_path: Path) -> dict[str, str]:
    """Return the environment of a user who has what is given, and Python."""
    ours = ("CXX", "GGUFSCOPE_", "VIRTUAL_ENV", "PYTHON", "ZIG_", "XDG_")
    found = {name: text for name, text in os.environ.items() if not name.startswith(ours)}
    found.setdefault("PIP_CACHE_DIR", str(Path.home() / ".cache" / "pip"))
    found["HOME"] = str(home)
    if "offline" in given:
        links = tmp_path / "links"
        subprocess.run([sys.executable, "-m", "venv", tmp_path / "maker"], check=True)
        command = [str(tmp_path / "maker" / "bin" / "pip"), "download", "-q", "-d", str(links)]
        without = found | {"GGUFSCOPE_KERNELS": "off"}
        subprocess.run([*command, "hatchling", str(ROOT)], env=without, check=True)
        found |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(links)}
    if "off" in given:
        found["GGUFSCOPE_KERNELS"] = "off"
    if "tools" not in given:
        python = tmp_path / "bin" / "python3"
        python.parent.mkdir()
        python.write_text(f'#!/bin/sh\nexec "{Path(sys.executable).resolve()}" "$@"\n')
        python.chmod(0o755)
        found["PATH"] = str(python.parent)
    return found


def _output(command: list[str | Path], home: Path) -> str:
    plain = {"HOME": str(home), "PATH": os.environ["PATH"]}
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def _nothing_is_left_behind(checkout: Path, home: Path, *, compiled: bool) -> None:
    environment = checkout / ".venv"
    kernels = list(environment.rglob(f"ggufscope/blocks/kernels/{library_name()}"))
    assert len(kernels) == compiled
    assert sum(path.stat().st_size for path in kernels) <= MOST_KERNELS
    names = [path.name for path in environment.rglob("*")]
    assert not [name for name in names if name.endswith((".o", ".obj", ".new"))]
    assert not [name for name in names if "ziglang" in name or name.startswith("hatchling")]
    assert not (home / ".cache").exists()  # pip's own is elsewhere
    status = ["git", "status", "--porcelain", "--ignored"]
    left = subprocess.run(status, cwd=checkout, capture_output=True, text=True, check=True).stdout
    # Hatchling imports the build hook, and Python keeps its bytecode.
    bytecode = "!! ggufscope/blocks/kernels/__pycache__/"
    assert set(left.splitlines()) - {bytecode} == {"!! .venv/"}
