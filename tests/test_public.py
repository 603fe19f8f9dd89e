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
        _ = ggufscope.nonsense


def test_type_checkers_and_python_see_the_same_names() -> None:
    source = Path(ggufscope.__file__).read_text(encoding="utf-8")
    assert sorted(re.findall(r" as (\w+)$", source, re.MULTILINE)) == ggufscope.__all__


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(ggufscope.__file__).parent / "py.typed").is_file()


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
