from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ggufscope.container.file import open_gguf
from ggufscope.errors import BadPattern
from ggufscope.model.inventory import entries_of, fold, totals_by_group, totals_by_type
from ggufscope.model.selection import matcher, select_entries
from ggufscope.model.summary import summarize
from tests.models.makers import LAYERS, RECIPES, raw_gguf, tensor


@pytest.mark.parametrize("kind", RECIPES)
def test_folds_and_totals_lose_nothing(kind: str, make: Callable[[str], Path]) -> None:
    with open_gguf(make(kind)) as file:
        entries = entries_of(file.tensors.values())
        nbytes = sum(tensor.nbytes for tensor in file.tensors.values())
        folds = fold(entries)
        assert sum(f.nbytes for f in folds) == nbytes
        assert sum(max(1, len(f.layers)) for f in folds) == len(entries)
        for totals in (totals_by_type(entries), totals_by_group(entries)):
            assert sum(t.nbytes for t in totals) == nbytes
            assert sum(t.tensors for t in totals) == len(entries)
            assert totals == sorted(totals, key=lambda t: -t.nbytes)


def test_layers_of_another_type_have_a_fold_of_their_own(tmp_path: Path) -> None:
    names = ["blk.0.attn_v.weight", "blk.1.attn_v.weight", "blk.2.attn_v.weight"]
    tensors = [tensor(names[0], (32,), 0, 0), tensor(names[1], (32,), 1, 128)]
    tensors.append(tensor(names[2], (32,), 0, 192))
    (tmp_path / "mixed.gguf").write_bytes(raw_gguf([], tensors, bytes(320)))
    with open_gguf(tmp_path / "mixed.gguf") as file:
        folds = fold(entries_of(file.tensors.values()))
        found = [(f.name, f.first.type.name, f.layers) for f in folds]
    assert found == [("attn_v.weight", "F32", (0, 2)), ("attn_v.weight", "F16", (1,))]


@pytest.mark.parametrize(
    ("kind", "attention"),
    [
        ("llama-mha", "MHA: 4 heads, each with its own keys and values"),
        ("llama-gqa", "GQA: 4 query heads share 2 key/value heads, 2 to one"),
        ("llama-mqa", "MQA: 4 query heads share 1 key/value head"),
        ("deepseek2-mla", "MLA: keys and values of all heads in one latent of 16"),
        ("gpt2", "MHA: 4 heads, each with its own keys and values"),
        ("hybrid", "GQA: 4 query heads share 2 key/value heads, 2 to one"),
        ("mamba", None),
    ],
)
def test_a_summary_names_the_sharing_of_heads(
    kind: str, attention: str | None, make: Callable[[str], Path]
) -> None:
    with open_gguf(make(kind)) as file:
        summary = summarize(file)
        assert summary.attention == attention
        assert summary.n_elements == sum(t.info.n_elements for t in file.tensors.values())


def test_a_summary_of_next_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "bare.gguf").write_bytes(raw_gguf())
    with open_gguf(tmp_path / "bare.gguf") as file:
        summary = summarize(file)
    assert (summary.architecture, summary.hparams, summary.n_elements) == (None, None, 0)
    assert summary.bits_per_weight == 0


def test_selecting(make: Callable[[str], Path]) -> None:
    with open_gguf(make("llama-gqa")) as file:
        entries = entries_of(file.tensors.values())
        assert len(select_entries(entries, None, None)) == len(entries)
        assert len(select_entries(entries, 1, None)) == 9
        assert len(select_entries(entries, 1, matcher("norm"))) == 2
        assert len(select_entries(entries, None, matcher("*.attn_q.*"))) == LAYERS


def test_a_pattern_that_is_no_regex() -> None:
    with pytest.raises(BadPattern, match="unterminated"):
        matcher("/[/")


def test_a_name_in_two_types_stands_on_two_lines_that_follow_each_other(tmp_path: Path) -> None:
    names = [f"blk.{n}.attn_{k}.weight" for n in range(2) for k in ("k", "v")]
    types = [0, 1, 0, 0]  # the values of layer 0 in F16
    offsets = [0, 128, 192, 320]
    tensors = [tensor(n, (32,), t, o) for n, t, o in zip(names, types, offsets, strict=True)]
    (tmp_path / "mixed.gguf").write_bytes(raw_gguf([], tensors, bytes(448)))
    with open_gguf(tmp_path / "mixed.gguf") as file:
        found = [(f.name, f.layers) for f in fold(entries_of(file.tensors.values()))]
    assert found == [("attn_k.weight", (0, 1)), ("attn_v.weight", (0,)), ("attn_v.weight", (1,))]
