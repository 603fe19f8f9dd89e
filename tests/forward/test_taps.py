"""What a pass lets one see: each quantity is in the anatomy, in the anatomy's shape."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ggufscope.container.file import GGUFFile, open_gguf
from ggufscope.forward.trace import Trace, key_of
from ggufscope.forward.transformer import Transformer
from ggufscope.model.anatomy.build import Anatomy, anatomy_of
from ggufscope.model.anatomy.rows import Kind
from tests.forward.golden import golden
from tests.forward.running import opened, running
from tests.models.families import GELU, IDS, SMALL


@contextmanager
def any_model(name: str, tmp_path: Path, sample: Path) -> Iterator[GGUFFile]:
    if name == "sample":
        with open_gguf(sample) as file:
            yield file
    else:
        with opened(tmp_path, name) as file:
            yield file


def shapes_of(anatomy: Anatomy) -> dict[str, tuple[int, ...]]:
    """Full name -> shape of all that is computed; the cache is what a pass keeps, not a tap."""
    ends = {q.name: q.shape for q in (*anatomy.head, *anatomy.tail) if q.kind is Kind.COMPUTED}
    return ends | {
        key_of(q.name, layer.layer): q.shape
        for layer in anatomy.layers
        for q in layer.quantities
        if q.kind is Kind.COMPUTED
    }


@pytest.mark.parametrize("name", ["sample", *SMALL])
def test_every_quantity_computed_is_in_the_anatomy_and_the_other_way_round(
    name: str, tmp_path: Path, sample: Path
) -> None:
    ids = IDS[:6]  # as long as the shortest window: there the anatomy counts what can be seen
    with any_model(name, tmp_path, sample) as file:
        shapes = {tensor: file.tensors[tensor].shape for tensor in file.tensors}
        anatomy = anatomy_of(shapes, file.metadata, len(ids))
        trace = Trace()
        Transformer.of(file).run(ids, trace=trace)
    assert not anatomy.not_derivable
    assert {key: array.shape for key, array in trace.items()} == shapes_of(anatomy)


# Not named in llama.cpp's graph of some families; the experts chosen are no float32 there.
UNNAMED = {"attn_out-1", "ffn_inp-1", "ffn_post_norm-1", "ffn_moe_topk-1"}


@pytest.mark.parametrize(
    "name", ["llama-biased", "mixtral", "qwen2moe", "qwen3", "gemma2", "phi3", "gpt2"]
)
def test_what_llama_cpp_calls_so_is_the_same_there(name: str, tmp_path: Path) -> None:
    theirs = golden(f"taps-{name}")
    trace = Trace(layers=[1])
    with running(tmp_path, name) as model:
        model.run(IDS, trace=trace)
    assert theirs.keys() <= trace.keys()
    assert trace.keys() - theirs.keys() <= UNNAMED
    for key, array in theirs.items():
        assert trace[key].shape == array.shape, key
        # ggml looks GELU up in a table of half floats
        assert np.abs(trace[key] - array).max() < (2e-2 if name in GELU else 1e-4), key


def test_the_experts_chosen_are_those_with_the_largest_shares(tmp_path: Path) -> None:
    trace = Trace({"ffn_moe_topk", "ffn_moe_weights", "ffn_moe_probs"})
    with running(tmp_path, "mixtral") as model:
        model.run(IDS, trace=trace)
    probs, chosen = trace["ffn_moe_probs-2"], trace["ffn_moe_topk-2"]
    assert chosen.dtype == np.int32
    for row, picked, weights in zip(probs, chosen, trace["ffn_moe_weights-2"], strict=True):
        assert list(picked) == sorted(range(4), key=lambda expert: -row[expert])[:2]
        assert list(weights) == [row[expert] for expert in picked]


def test_scores_cover_all_tokens_in_windowed_layers_too(tmp_path: Path) -> None:
    trace = Trace({"kq_soft_max"})
    with running(tmp_path, "gemma2") as model:
        model.run(IDS, trace=trace)
    for scores in trace.values():
        assert scores.shape == (4, len(IDS), len(IDS))
    near, far = trace["kq_soft_max-0"], trace["kq_soft_max-1"]
    late, early = len(IDS) - 1, len(IDS) - 1 - 6
    assert (near[:, late, : early + 1] == 0).all()
    assert (near[:, late, early + 1 :] > 0).all()
    assert (far[:, late] > 0).all()


def test_a_trace_keeps_what_was_asked_for(tmp_path: Path) -> None:
    with running(tmp_path, "llama-gqa") as model:
        some = Trace({"l_out", "result_output"}, layers=[1])
        model.run(IDS, trace=some)
        assert list(some) == ["l_out-1", "result_output"]
        one = Trace("kqv")
        model.run(IDS, trace=one)
        assert list(one) == ["kqv-0", "kqv-1", "kqv-2"]
        handed: list[tuple[str, int | None, tuple[int, ...]]] = []
        sunk = Trace(
            {"kqv_out", "result_norm"},
            sink=lambda name, layer, array: handed.append((name, layer, array.shape)),
        )
        model.run(IDS, trace=sunk)
    assert len(sunk) == 0
    tokens = len(IDS)
    assert handed[0] == ("kqv_out", 0, (tokens, 64))
    assert handed[-1] == ("result_norm", None, (tokens, 32))


@pytest.mark.parametrize("name", ["llama-biased", "mixtral", "gemma2", "phi3", "gpt2"])
def test_what_is_kept_is_never_written_to_later(name: str, tmp_path: Path) -> None:
    now: dict[str, Any] = {}

    def copy(name: str, layer: int | None, array: Any) -> None:
        now[key_of(name, layer)] = array.copy()
        both.append((key_of(name, layer), array))

    both: list[tuple[str, Any]] = []
    with running(tmp_path, name) as model:
        model.run(IDS, trace=Trace(sink=copy))
    for key, array in both:
        assert np.array_equal(now[key], array), key


@pytest.mark.parametrize("name", SMALL)
def test_watching_changes_nothing(name: str, tmp_path: Path) -> None:
    with running(tmp_path, name) as model:
        assert np.array_equal(model.run(IDS), model.run(IDS, trace=Trace()))
