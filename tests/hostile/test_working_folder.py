"""A model's folder is a stranger's: nothing that lies in it is imported."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.program import WORKERS, environment, run, words_of

# All that Python or this program could ask for, and what each would do.
NAMES = sorted(
    {name for name in sys.stdlib_module_names if name == "__future__" or name[0] != "_"}
    | {"numpy", "rich", "typer", "tokenizers", "threadpoolctl", "sitecustomize", "usercustomize"}
)
PAYLOAD = "import os\nopen(os.path.join({folder!r}, 'RAN-{name}'), 'w').close()\n"


@pytest.fixture
def folder(sample: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder with a model, and code under every name that might be looked for."""
    there = tmp_path / "download"
    there.mkdir()
    shutil.copy(sample, there / "model-f16.gguf")
    for name in NAMES:
        code = PAYLOAD.format(folder=str(tmp_path), name=name)
        (there / f"{name}.py").write_text(code)
    yield there
    assert [path.name for path in tmp_path.glob("RAN-*")] == []


def test_the_bait_would_be_taken(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "pickle.py").write_text(PAYLOAD.format(folder=str(tmp_path), name="pickle"))
    subprocess.run([sys.executable, "-c", "import pickle"], cwd=tmp_path, check=True)
    assert (tmp_path / "RAN-pickle").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["list", "model-f16.gguf"],
        ["size", "model-f16.gguf"],
        ["quantize", "model-f16.gguf", "Q8_0"],
        ["attention", "model-f16.gguf", "--prompt", "Once", "--html", "page.html"],
        ["compare-attention", "model-f16.gguf", "--types", "Q8_0", "--prompt", "Once"],
    ],
    ids=lambda words: words[0],
)
def test_nothing_is_imported_from_it(words: list[str], folder: Path) -> None:
    script = Path(sys.executable).parent / "ggufscope"
    assert script.is_file(), "the package is not installed"
    done = subprocess.run([script, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_is_imported_by_python_m(folder: Path, tmp_path: Path) -> None:
    # Python itself puts the folder first on its path here. What it imports to find the program is
    # imported before this program has a say; all that comes after is not.
    (tmp_path / "probe.py").write_text("import sys\nprint(*sys.modules)\n")
    words = [sys.executable, "-m", "probe"]
    loaded = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    for name in {module.split(".")[0] for module in loaded.stdout.split()}:
        (folder / f"{name}.py").unlink(missing_ok=True)
    assert len(list(folder.glob("*.py"))) > 150
    done = run("list", "model-f16.gguf", cwd=folder, cold=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_is_imported_by_workers(folder: Path) -> None:
    words = ["quantize", "model-f16.gguf", "Q8_0", *WORKERS]
    done = run(*words, workers=True, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_is_imported_by_workers_of_a_library_call(folder: Path) -> None:
    code = """
import os, sys
os.environ["GGUFSCOPE_ENGINE"] = "numpy"
import ggufscope.recipes.apply as apply
apply._LARGE = 1
if __name__ == "__main__":
    apply.quantize_model("model-f16.gguf", {"out.gguf": "Q8_0"}, threads=2)
"""
    words = [*words_of()[:1], "-P", "-c", code]
    done = subprocess.run(
        words, cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "out.gguf").exists()
