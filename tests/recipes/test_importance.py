"""Importance matrices: read, distrusted, selected, merged and written as llama.cpp does."""

from __future__ import annotations

import hashlib
import json
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ggufscope import open_gguf, plan
from ggufscope.errors import (
    BadImportance,
    BadUsage,
    FormatError,
    ImportanceMismatch,
    ImportanceNeeded,
    RecipeError,
    SourceNotFound,
    TargetIsSource,
)
from ggufscope.measure.calibrating import merge_imatrices
from ggufscope.recipes.apply import run
from ggufscope.recipes.imatrix_file import is_imatrix, read_imatrix, write_imatrix
from ggufscope.recipes.importance import Entry, ImportanceMatrix, merged
from ggufscope.recipes.metadata import parse_overrides
from ggufscope.recipes.options import PlanOptions, parse_layers
from ggufscope.recipes.request import Request, prepare
from tests import matrices
from tests.golden.make_imatrix import WRITTEN
from tests.slices import write_slice

GOLDEN = Path(__file__).parent.parent / "golden" / "imatrix"
CASES = json.loads((GOLDEN / "cases.json").read_text(encoding="utf-8"))
SAID = json.loads((GOLDEN / "said.json").read_text(encoding="utf-8"))
MATRICES = sorted(path.name for path in GOLDEN.glob("*.gguf"))
REFUSED = {
    "imatrix size 300 is different": ImportanceMismatch,
    "imatrix contains non-finite value": BadImportance,
    "failed to load imatrix": BadImportance,
    "missing imatrix metadata": BadImportance,
    "Missing importance matrix for tensor": ImportanceNeeded,
    "requires an imatrix": ImportanceNeeded,
}


def _request(source: Path, target: Path, case: dict[str, Any]) -> Request:
    """What a command line of llama-quantize asks for."""
    given: dict[str, list[str]] = {}
    words = case["arguments"]
    for option, value in zip(words[::2], words[1::2], strict=True):
        given.setdefault(option, []).append(value)
    layers = given.get("--prune-layers")
    return Request(
        source,
        {target: case["preset"]},
        options=PlanOptions(prune_layers=parse_layers(layers[0]) if layers else ()),
        overrides=parse_overrides(given.get("--override-kv", [])),
        imatrix="a.imatrix",
        include_weights=tuple(given.get("--include-weights", ())),
        exclude_weights=tuple(given.get("--exclude-weights", ())),
    )


@pytest.mark.parametrize("kind", ["llama-mha", "llama-tied", "mixtral"])
def test_what_llama_quantize_makes_of_a_matrix(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_slice(tmp_path / "model.gguf", kind)
    held = 0
    for case in CASES:
        if case["model"] != kind:
            continue
        matrices.CHANGED[case["matrix"]](Path("a.imatrix"), kind)
        target = tmp_path / "out.gguf"
        what = f"{case['preset']}, {case['matrix']}, {case['arguments']}"
        if "refused" in case:
            expected = next(error for said, error in REFUSED.items() if said in case["refused"])
            with pytest.raises(expected) as caught:
                run(prepare(_request(source, target, case)))
            assert caught.value.hint, what
            assert not target.exists(), what
        else:
            run(prepare(_request(source, target, case)))
            assert hashlib.sha256(target.read_bytes()).hexdigest() == case["sha256"], what
            target.unlink()
        held += 1
    assert held


@pytest.mark.parametrize("name", MATRICES)
def test_a_file_of_llama_imatrix_is_written_again_byte_for_byte(name: str, tmp_path: Path) -> None:
    matrix, target = read_imatrix(GOLDEN / name), tmp_path / name
    assert is_imatrix(GOLDEN / name)
    write_imatrix(matrix, target)
    assert target.read_bytes() == (GOLDEN / name).read_bytes()


def test_merged_matrices_are_those_of_llama_imatrix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, (first, *more) in WRITTEN.items():
        added = [word for word in more if not word.startswith("--") and word != "dat"]
        paths = [GOLDEN / word if "." in word else Path(word) for word in (first, *added)]
        merge_imatrices(paths, Path(name), chunk_size=128, legacy="dat" in more)
        assert hashlib.sha256(Path(name).read_bytes()).hexdigest() == SAID["written"][name], name


def test_a_legacy_file_is_read(tmp_path: Path) -> None:
    sums = {"blk.0.a.weight": np.array([[2, 4, 8]], np.float32)}
    found = read_imatrix(matrices.legacy(tmp_path / "a.dat", sums))
    assert is_imatrix(tmp_path / "a.dat")
    assert (found.legacy, found.datasets, found.chunk_count) == (True, ("old.txt",), 3)
    raw = found.raw(10).entries["blk.0.a.weight"]
    assert (raw.sums.tolist(), raw.counts.tolist()) == ([[20, 40, 80]], [20])


@pytest.mark.parametrize("end", range(0, 60, 3))
def test_a_legacy_file_that_was_cut_off(end: int, tmp_path: Path) -> None:
    path = matrices.legacy(tmp_path / "a.dat", {"name": np.ones((1, 8), np.float32)}, tail=b"")
    data = path.read_bytes()
    path.write_bytes(data[: min(end, len(data) - 1)])
    with pytest.raises(BadImportance):
        read_imatrix(path)


@pytest.mark.parametrize("number", [0, -1, 2**31 - 1, 9])
@pytest.mark.parametrize("place", [0, 4, 16])
def test_a_legacy_file_whose_counts_lie(number: int, place: int, tmp_path: Path) -> None:
    path = matrices.legacy(tmp_path / "a.dat", {"name": np.ones((1, 8), np.float32)}, tail=b"")
    data = bytearray(path.read_bytes())
    data[place : place + 4] = struct.pack("<i", number)
    path.write_bytes(data)
    with pytest.raises(BadImportance) as caught:
        read_imatrix(path)
    assert caught.value.hint


@pytest.mark.parametrize("count", [np.nan, np.inf, -1, 1e17])
def test_counts_that_are_none(count: float, tmp_path: Path) -> None:
    counts = {"a": np.array([[count]], np.float32)}
    path = matrices.write(tmp_path / "a.gguf", {"a": np.ones((1, 4), np.float32)}, counts)
    with pytest.raises(BadImportance, match="count 0 of 'a'"):
        read_imatrix(path)


def test_sums_that_do_not_divide_by_their_counts(tmp_path: Path) -> None:
    sums, counts = np.ones((1, 5), np.float32), np.ones((3, 1), np.float32)
    path = matrices.write(tmp_path / "a.gguf", {"a": sums}, {"a": counts})
    with pytest.raises(BadImportance, match="5 sums and 3 counts"):
        read_imatrix(path)


def test_a_negative_square_is_refused(tmp_path: Path) -> None:
    sums, counts = matrices.parts("mixtral")
    name = "blk.0.ffn_up_exps.weight"
    sums[name][2, 9] = -1
    path = matrices.write(tmp_path / "a.gguf", sums, counts)
    with pytest.raises(BadImportance, match=f"-1.0 for '{name}', expert 2, column 9"):
        read_imatrix(path).require_usable()


def test_files_that_are_no_matrix(tmp_path: Path, sample: Path) -> None:
    with pytest.raises(BadImportance, match="it is a model") as caught:
        read_imatrix(sample)
    assert not is_imatrix(sample)
    assert "imatrix MODEL --text" in caught.value.hint
    page = tmp_path / "page.dat"
    page.write_bytes(b"<!doctype html>")
    with pytest.raises(BadImportance, match="a web page"):
        read_imatrix(page)
    assert not is_imatrix(page)
    with pytest.raises(SourceNotFound):
        read_imatrix(tmp_path / "none")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(BadImportance):
        read_imatrix(tmp_path / "empty")


def test_a_matrix_of_random_bytes_never_breaks_the_program(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    whole = bytearray((GOLDEN / "mixtral.gguf").read_bytes())
    old = bytearray(matrices.legacy(tmp_path / "a", matrices.parts("mixtral")[0]).read_bytes())
    path = tmp_path / "b"
    for _ in range(60):
        for data in (whole, old):
            changed = bytearray(data)
            for place in rng.integers(0, min(len(data), 3000), 4):
                changed[place] = rng.integers(256)
            path.write_bytes(changed)
            with suppress(BadImportance, FormatError, RecipeError):
                read_imatrix(path).require_usable()


def _matrix(sums: list[list[float]], counts: list[int], name: str = "a") -> ImportanceMatrix:
    entry = Entry(np.array(sums, np.float32), np.array(counts, np.int64))
    return ImportanceMatrix(Path("one"), {name: entry}, ("t",), 1, 2)


def test_merging_spreads_the_one_count_of_a_legacy_stack() -> None:
    both = merged([_matrix([[1, 2, 3, 4]], [4]), _matrix([[1, 1], [1, 1]], [1, 0])], 2, Path("x"))
    assert both.entries["a"].sums.tolist() == [[2, 3], [4, 5]]
    assert both.entries["a"].counts.tolist() == [5, 4]
    assert (both.chunk_count, both.datasets) == (2, ("t", "t"))


def test_matrices_of_different_models_are_not_merged() -> None:
    with pytest.raises(ImportanceMismatch, match="numbers and experts of 'a'"):
        merged([_matrix([[1, 2]], [4]), _matrix([[1, 2, 3]], [4])], 2, Path("x"))


def test_what_a_matrix_does_not_do_is_warned_of(tmp_path: Path) -> None:
    source = write_slice(tmp_path / "m.gguf", "llama-mha")
    told: list[str] = []
    for change, said in (("no layer 1", "nothing for"), ("strangers", "name no tensor")):
        path = matrices.CHANGED[change](tmp_path / "a", "llama-mha")
        told.clear()
        prepare(Request(source, ["Q6_K"], imatrix=path), told.append)
        assert any(said in words for words in told)
    told.clear()
    path = matrices.CHANGED["sound"](tmp_path / "a", "llama-mha")
    prepare(Request(source, ["Q6_K"], imatrix=path), told.append)
    assert not [words for words in told if "llama.cpp will not load" not in words]


def test_a_plan_and_a_matrix_have_to_agree(tmp_path: Path) -> None:
    path = matrices.CHANGED["sound"](tmp_path / "a", "llama-mha")
    with open_gguf(write_slice(tmp_path / "m.gguf", "llama-mha")) as model:
        tensors, target = model.tensors.values(), tmp_path / "t.gguf"
        plain = plan(tensors, model.metadata, "Q6_K")
        with pytest.raises(BadUsage, match="counts on no importance matrix"):
            prepare(Request(model, {target: plain}, imatrix=path))
        weighed = plan(tensors, model.metadata, "Q6_K", PlanOptions(importance=True))
        with pytest.raises(BadUsage, match="counts on an importance matrix"):
            prepare(Request(model, {target: weighed})).require_runnable()
        prepare(Request(model, {target: weighed}, imatrix=path)).require_runnable()


def test_the_matrix_is_not_written_over(tmp_path: Path) -> None:
    source = write_slice(tmp_path / "m.gguf", "llama-mha")
    path = matrices.CHANGED["sound"](tmp_path / "a.gguf", "llama-mha")
    before = path.read_bytes()
    with pytest.raises(TargetIsSource):
        run(prepare(Request(source, {path: "Q6_K"}, imatrix=path, overwrite=True)))
    assert path.read_bytes() == before


def test_entries_are_not_chosen_of_nothing(tmp_path: Path) -> None:
    source = write_slice(tmp_path / "m.gguf", "llama-mha")
    with pytest.raises(BadUsage, match="there is no importance matrix"):
        prepare(Request(source, ["Q6_K"], include_weights=("ffn",)))
    path = matrices.CHANGED["sound"](tmp_path / "a", "llama-mha")
    both = Request(source, ["Q6_K"], imatrix=path, include_weights=("a",), exclude_weights=("b",))
    with pytest.raises(BadUsage, match="cannot be used together"):
        prepare(both)
    told: list[str] = []
    none = Request(source, ["Q6_K"], imatrix=path, include_weights=("misspelt",))
    assert prepare(none, told.append).imatrix is None
    assert any(f"--include-weights leaves nothing of {path}" in words for words in told)
