"""A prompt longer than the context: in windows, each compared as it would be alone."""

from __future__ import annotations

import math
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggufscope.container.file import open_gguf
from ggufscope.errors import BadUsage
from ggufscope.measure.candidates import Candidate
from ggufscope.measure.compare import compare
from ggufscope.measure.comparison import Comparison
from ggufscope.measure.differences import AttentionDifference
from ggufscope.measure.windows import in_windows
from tests.models.families import SMALL, write

BOS = {"tokenizer.ggml.bos_token_id": 7}


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=60),
    st.one_of(st.none(), st.integers(1, 70)),
)
def test_every_token_is_in_one_window(ids: list[int], longest: int | None) -> None:
    if longest == 1 < len(ids) and ids[0] == 7:
        with pytest.raises(BadUsage, match="a context of 1 token"):
            in_windows(ids, longest, BOS)
        return
    found = in_windows(ids, longest, BOS)
    lengths = [len(window) for window in found]
    assert lengths[0] == max(lengths)
    assert max(lengths) <= (longest or len(ids))
    assert max(lengths) - min(lengths) <= 1
    begins = ids[:1] if ids[0] == 7 and len(found) > 1 else []
    assert all(list(window[: len(begins)]) == begins for window in found)
    assert begins + [id_ for window in found for id_ in window[len(begins) :]] == ids
    if longest is not None:  # one window less would not do
        assert (len(found) - 1) * (longest - len(begins)) < len(ids) - len(begins) or len(ids) == 1


CANDIDATES: list[Candidate | str] = [
    "Q8_0",
    "Q2_K",
    Candidate("K f16", {}, cache_types=("F16", "F32")),
]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, list[Comparison]]:
    """A prompt in windows, and each of its windows alone."""
    path = write(tmp_path_factory.mktemp("windows") / "m.gguf", SMALL["gemma2"])
    ids = [int(i) for i in np.random.default_rng(3).integers(3, 72, 50)]
    with open_gguf(path) as file:
        found = compare(file, ids, CANDIDATES, context=20)
        return found, [compare(file, window, CANDIDATES) for window in found.windows]


def test_each_window_counts_by_its_tokens(both: tuple[Comparison, list[Comparison]]) -> None:
    found, alone = both
    tokens = [len(each.windows[0]) for each in alone]
    assert tokens == [17, 17, 16]
    assert (found.n_tokens, found.types) == (50, alone[0].types)
    for number, candidate in enumerate(found.candidates):
        parts = [each.candidates[number] for each in alone]
        assert candidate.kl_divergence == sum((each.kl_divergence for each in parts), ())
        agreed = np.average([each.top1_agreement for each in parts], weights=tokens)
        assert candidate.top1_agreement == pytest.approx(agreed)
        for place, head in enumerate(candidate.heads):
            for field in fields(AttentionDifference):
                column = [getattr(each.heads[place], field.name) for each in parts]
                largest = field.name.startswith("largest")
                expected = max(column) if largest else np.average(column, weights=tokens)
                assert getattr(head, field.name) == pytest.approx(expected), field.name
        for layer, several in zip(
            candidate.layers, zip(*(each.layers for each in parts), strict=True), strict=True
        ):
            expected = np.average([each.output_error for each in several], weights=tokens)
            assert layer.output_error == pytest.approx(expected)
            # Of a matrix the error is what it is, however many windows went through it.
            named = {t.name: t.error for t in layer.tensors if t.name.startswith("blk.")}
            assert named == {
                t.name: t.error for t in several[0].tensors if t.name.startswith("blk.")
            }


def test_perplexity_and_what_comes_next(both: tuple[Comparison, list[Comparison]]) -> None:
    found, alone = both
    losses = sum(
        math.log(each.perplexity or math.nan) * (len(each.windows[0]) - 1) for each in alone
    )
    assert found.perplexity == pytest.approx(math.exp(losses / 47))
    assert [asdict(each) for each in found.next_tokens] == [
        asdict(each) for each in alone[-1].next_tokens
    ]


def test_maps_are_those_of_the_first_window(tmp_path: Path) -> None:
    seen: list[tuple[int, int, tuple[int, ...]]] = []
    with open_gguf(write(tmp_path / "m.gguf", SMALL["llama-gqa"])) as file:
        compare(
            *(file, range(30), ["Q8_0"]),
            context=16,
            keep=lambda run, layer, weights: seen.append((run, layer, weights.shape)),
        )
    assert {(run, shape[-2:]) for run, _, shape in seen} == {(0, (16, 16)), (1, (16, 16))}
    assert len(seen) == len(set(seen))
