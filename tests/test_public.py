from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ggufscope
from ggufscope import errors
from ggufscope.measure.windows import Halves

IDS = [1, 2, 3, 4, 5, 6, 7, 8]


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


def test_one_name_stands_for_a_list_of_it(sample: Path) -> None:
    with ggufscope.open_gguf(sample) as file:
        compared = ggufscope.compare(file, IDS, "Q4_K").candidates
        evaluated = ggufscope.evaluate(file, [IDS], "Q4_K").candidates
        assert [each.name for each in compared] == [each.name for each in evaluated] == ["Q4_K"]
        sizes = ggufscope.preset_sizes(file.tensors.values(), file.metadata, "Q4_K_M").sizes
        assert [each.preset for each in sizes] == ["Q4_K_M"]
        edit = ggufscope.prepare_edit(file, ggufscope.Edits(remove="general.name"), "x.gguf")
        assert [each.key for each in edit.differences] == ["general.name"]
        wish, texts = ggufscope.Wish(bits=2, types="Q8_0"), Halves((tuple(IDS),), (tuple(IDS),))
        with pytest.raises(errors.BadUsage, match=r"the smallest choice of these types has 8\.5"):
            ggufscope.tailor(file, wish, texts)


def test_types_of_a_cache_may_be_named() -> None:
    metadata = ggufscope.shape_named("llama-2-7b").metadata
    named = ggufscope.RunSettings(4096, type_k="q8_0", type_v="F16")
    layout = ggufscope.layout_named("Q8_0")
    given = ggufscope.RunSettings(4096, type_k=layout)
    assert named.layouts == given.layouts
    caches = [ggufscope.kv_cache_of(metadata, each).nbytes for each in (named, given)]
    assert caches[0] == caches[1]


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"context": -5}, errors.BadUsage, "context=-5"),
        ({"context": 8, "parallel": 0}, errors.BadUsage, "parallel=0"),
        ({"context": 8, "batch": 0}, errors.BadUsage, "batch=0"),
        ({"context": 8, "type_k": "q9_0"}, errors.UnknownType, "'q9_0'"),
        ({"context": 8, "type_v": "Q4_K"}, errors.BadUsage, "no cache in Q4_K"),
    ],
)
def test_settings_of_no_run_are_refused(
    settings: dict[str, Any], error: type[errors.GGUFScopeError], said: str
) -> None:
    with pytest.raises(error, match=said) as caught:
        ggufscope.RunSettings(**settings)
    assert caught.value.hint


@pytest.mark.parametrize("chunks", [[], IDS, "1 2 3", [IDS, IDS[:4]], [[1, 2]], [[]]])
def test_what_is_no_text_in_chunks_is_refused(chunks: Any, sample: Path) -> None:
    with ggufscope.open_gguf(sample) as file, pytest.raises(errors.BadUsage) as caught:
        ggufscope.evaluate(file, chunks, ["Q4_K"])
    assert "chunks of token ids" in caught.value.message
    assert caught.value.hint


def test_what_a_pass_cannot_run_or_keep_is_refused(sample: Path) -> None:
    with ggufscope.open_gguf(sample) as file:
        model = ggufscope.Transformer.of(file)
        for ids in ([1.5], np.array([1.0]), np.array([IDS]), ["a"]):
            with pytest.raises(errors.TokenUnknown, match="at position 0 is not in the vocab"):
                model.run(ids)  # type: ignore[arg-type]  # what a user may try
        assert model.run(np.array(IDS, np.uint8)).shape == (8, 1024)  # type: ignore[arg-type]
        with pytest.raises(errors.NotInModel, match="no quantity 'kq_sotf_max'") as caught:
            model.run(IDS, trace=ggufscope.Trace({"kqv", "kq_sotf_max"}))
        assert caught.value.hint == "did you mean kq_soft_max?"
