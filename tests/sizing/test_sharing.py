from __future__ import annotations

from math import prod
from pathlib import Path

import pytest

from ggufscope.container.file import GGUFFile, open_gguf
from ggufscope.errors import NotDerivable
from ggufscope.model.hparams import read_hparams
from ggufscope.sizing.settings import RunSettings
from ggufscope.sizing.shapes import SHAPES
from ggufscope.sizing.sharing import Sharing, sharings
from tests.models.kinds import KINDS, write_kind

RUN = RunSettings(4096)


def _of(file: GGUFFile) -> dict[str, Sharing]:
    found = sharings(file.tensors.values(), read_hparams(file.metadata), RUN)
    return {each.name: each for each in found}


def test_8_query_heads_on_2_keep_a_quarter_and_on_1_an_eighth(sample: Path) -> None:
    found = _of(open_gguf(sample))
    assert [(each.heads, each.kv_heads) for each in found.values()] == [(8, 8), (8, 2), (8, 1)]
    assert [each.name for each in found.values() if each.own] == ["GQA"]
    assert found["GQA"].kv_nbytes * 4 == found["MHA"].kv_nbytes
    assert found["MQA"].kv_nbytes * 8 == found["MHA"].kv_nbytes


def test_the_other_ways_are_the_models_that_are_made_so(tmp_path: Path) -> None:
    files = {
        name: open_gguf(write_kind(tmp_path / f"{name}.gguf", f"llama-{name.lower()}"))
        for name in ("MHA", "GQA", "MQA")
    }
    real = {
        name: sum(prod(tensor.shape) for tensor in file.tensors.values())
        for name, file in files.items()
    }
    for file in files.values():
        assert {name: each.n_elements for name, each in _of(file).items()} == real
    (mha,) = {_of(file)["MHA"].kv_nbytes for file in files.values()}
    assert mha == 3 * 4096 * 4 * 32 * 2 * 2


def test_fused_matrices_and_biases_are_counted_too() -> None:
    phi, qwen = SHAPES["phi-3-mini"], SHAPES["qwen2.5-7b"]
    (mha, gqa, mqa) = sharings(phi.tensors, read_hparams(phi.metadata), RUN)
    assert mha.own
    assert mha.n_elements - mqa.n_elements == 32 * 2 * 31 * 96 * 3072
    assert (gqa.kv_heads, mha.n_elements) == (8, phi.n_elements)
    (_, own, one) = sharings(qwen.tensors, read_hparams(qwen.metadata), RUN)
    assert own.n_elements - one.n_elements == 28 * 2 * 3 * 128 * (3584 + 1)


@pytest.mark.parametrize("kind", ["deepseek2", "uneven", "mamba"])
def test_where_there_are_no_heads_to_share_it_says_so(kind: str, tmp_path: Path) -> None:
    assert kind in KINDS
    with pytest.raises(NotDerivable):
        _of(open_gguf(write_kind(tmp_path / "model.gguf", kind)))


def test_layers_that_keep_a_state_go_on_keeping_it(tmp_path: Path) -> None:
    file = open_gguf(write_kind(tmp_path / "model.gguf", "jamba"))
    found = _of(file)
    states = 2 * 4 * (256 * 64 + 3 * 256)
    assert found["MHA"].kv_nbytes - states == 2 * (found["GQA"].kv_nbytes - states)
    assert found["MHA"].kv_nbytes - states == 4096 * 2 * 4 * 32 * 2
