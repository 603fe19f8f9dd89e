"""Splitting and merging with COPY: the shards of real llama-gguf-split, told by `split.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ggufscope import Edits, edit_model, errors
from ggufscope.container.file import open_gguf
from ggufscope.container.shards import shard_name
from ggufscope.recipes.apply import quantize_model
from ggufscope.recipes.options import PlanOptions
from tests import llama_loads
from tests.golden.make_split import NAME, RUNS, described

THEIRS: dict[str, Any] = json.loads(
    (Path(described.__code__.co_filename).parent / NAME).read_text()
)
KEPT = PlanOptions(keep_split=True)


def _same(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """The same names, keys of the split, and tensors; and `general.quantization_version`."""
    assert [each["name"] for each in ours] == [each["name"] for each in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one["split"] == other["split"]
        assert [*one["tensors"].items()] == [*other["tensors"].items()]
        assert one["keys"] == other["keys"] + (other["keys"] > 0)


@pytest.mark.parametrize("run", RUNS)
def test_shards_are_those_of_llama_gguf_split(run: str, sample: Path, tmp_path: Path) -> None:
    limit = int(RUNS[run][1].removesuffix("M")) * 10**6
    (made,) = quantize_model(
        sample, {tmp_path / "m.gguf": "COPY"}, options=KEPT, split_max_size=limit
    )
    _same([described(path) for path in made.paths], THEIRS[run])
    assert llama_loads.loads(made.paths[:1]) == [True]


def test_a_target_that_is_named_as_a_shard_stands_for_all_of_them(
    sample: Path, tmp_path: Path
) -> None:
    (made,) = quantize_model(sample, {tmp_path / "m.gguf": "COPY"}, split_max_size=2_000_000)
    count = len(made.paths)
    assert count > 2
    names = [shard_name("x.gguf", number, count) for number in range(count)]
    for number, edited in enumerate((True, False)):
        # Whichever shard is named, and of however many.
        target = tmp_path / str(number) / shard_name("x.gguf", number, count + number)
        target.parent.mkdir()
        if edited:
            edit_model(made.paths[0], Edits(), target)
        else:
            quantize_model(made.paths[0], {target: "COPY"}, options=KEPT)
        assert sorted(path.name for path in target.parent.iterdir()) == names
        assert llama_loads.loads([target.with_name(names[0])]) == [True]
    with pytest.raises(errors.TargetIsSource):
        edit_model(made.paths[0], Edits(), made.paths[1], overwrite=True)


def test_shards_may_have_the_ending_twice(sample: Path, tmp_path: Path) -> None:
    """As llama-gguf-split names them where OUT has the ending already."""
    (made,) = quantize_model(sample, {tmp_path / "m.gguf": "COPY"}, split_max_size=2_000_000)
    for path in made.paths:
        path.rename(path.with_name(path.name.replace("m-", "m.gguf-")))
    opened = open_gguf(tmp_path / made.paths[1].name.replace("m-", "m.gguf-"))
    assert opened.tensors.keys() == open_gguf(sample).tensors.keys()


@pytest.mark.parametrize("run", RUNS)
def test_so_is_what_they_are_merged_into(run: str, sample: Path, tmp_path: Path) -> None:
    limit = int(RUNS[run][1].removesuffix("M")) * 10**6
    (made,) = quantize_model(
        sample, {tmp_path / "m.gguf": "COPY"}, options=KEPT, split_max_size=limit
    )
    merged = tmp_path / "merged.gguf"
    quantize_model(made.paths[0], {merged: "COPY"})
    (theirs,) = THEIRS[f"{run}, merged"]
    ours = described(merged)
    assert (ours["name"], ours["keys"]) == (theirs["name"], theirs["keys"] + 1)
    assert ours["tensors"] == theirs["tensors"]
    assert ours["split"] == {}
    assert {key: value for key, (_, value) in theirs["split"].items()}["split.count"] == 0
    assert llama_loads.loads([merged]) == [True]
    assert open_gguf(merged).metadata["general.name"] == open_gguf(sample).metadata["general.name"]
