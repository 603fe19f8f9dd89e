from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import ggufscope
from ggufscope import errors


def test_the_public_names_are_sorted_and_there() -> None:
    assert ggufscope.__all__ == sorted(ggufscope.__all__)
    for name in ggufscope.__all__:
        assert getattr(ggufscope, name).__doc__, name
    with pytest.raises(AttributeError, match="nonsense"):
        getattr(ggufscope, "nonsense")  # noqa: B009  # a name that type checkers refuse


def test_type_checkers_and_python_see_the_same_names() -> None:
    source = Path(ggufscope.__file__).read_text(encoding="utf-8")
    assert sorted(re.findall(r" as (\w+)$", source, re.MULTILINE)) == ggufscope.__all__


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(ggufscope.__file__).parent / "py.typed").is_file()


USER = """
import numpy as np
import ggufscope

with ggufscope.open_gguf("model.gguf") as file:
    shape: tuple[int, ...] = file.tensor("output.weight").shape
    weights: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = np.asarray(file.tensor("x"))
    plan: ggufscope.Plan = ggufscope.plan(file.tensors.values(), file.metadata, "Q4_K_M")
    for target in ggufscope.prepare(ggufscope.Request(file, ["Q8_0", plan])).targets:
        print(target.paths, target.nbytes + shape[0], plan.bits_per_weight.as_integer_ratio())
print(ggufscope.nonsense)
"""


@pytest.mark.slow
def test_a_users_program_is_checked_strictly(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(USER)
    command = [sys.executable, "-m", "mypy", "--strict", "program.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    (wrong, found) = done.stdout.splitlines()
    assert "nonsense" in wrong
    assert found.startswith("Found 1 error in 1 file")


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, ggufscope.cli.app; print({'numpy', 'rich.table'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_drawn_tree_of_errors_is_the_real_one() -> None:
    tree = (errors.__doc__ or "").partition("GGUFScopeError\n")[2].partition("\n\n")[0]
    branch = re.compile(r"[├└]── (\w+)")  # its leaves are in the lines below it
    drawn = [
        name
        for line in tree.splitlines()
        for name in branch.findall(line) or re.findall(r"\w+", line)
    ]
    real: list[str] = []

    def walk(kind: type[Exception]) -> None:
        for child in kind.__subclasses__():
            real.append(child.__name__)
            walk(child)

    walk(errors.GGUFScopeError)
    assert drawn == real
