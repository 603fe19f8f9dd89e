"""Misspelt names: what is offered in their place, and what is not."""

from __future__ import annotations

import pytest

from ggufscope.blocks.layouts import LAYOUTS, NOT_CONVERTIBLE, layout_named
from ggufscope.errors import UnknownPreset, UnknownType
from ggufscope.recipes.mixes import ALIASES, MIXES, mix_named
from ggufscope.spelling import closest, did_you_mean, question

PRESETS = [*MIXES, *ALIASES]
KEYS = ["general.name", "llama.attention.head_count", "llama.attention.head_count_kv"]


@pytest.mark.parametrize(
    ("word", "names", "meant"),
    [
        ("q4km", PRESETS, ["Q4_K_M"]),
        ("Q4_KM", PRESETS, ["Q4_K_M"]),
        ("Q5-K-S", PRESETS, ["Q5_K_S"]),
        ("Q4_M", PRESETS, ["Q4_K_M"]),
        ("Q8", PRESETS, ["Q8_0"]),
        ("fp16", PRESETS, ["F16", "BF16"]),
        ("Q9_K", PRESETS, []),
        ("int8", PRESETS, []),
        ("", PRESETS, []),
        ("_" * 9, PRESETS, []),
        ("Q" * 100_000, PRESETS, []),
        ("llama.attention.headcount", KEYS, ["llama.attention.head_count"]),
        ("head_count", KEYS, ["llama.attention.head_count"]),
        ("general.nam", KEYS, ["general.name"]),
        ("general.autor", KEYS, []),
        ("compare", ["list", "compare-attention"], ["compare-attention"]),
        ("lsit", ["list", "compare-attention"], ["list"]),
    ],
)
def test_what_a_word_may_stand_for(word: str, names: list[str], meant: list[str]) -> None:
    assert closest(word, names) == meant


def test_a_hint_offers_it_or_says_something_else() -> None:
    assert did_you_mean("q4km", PRESETS, "no") == "did you mean Q4_K_M?"
    assert did_you_mean("fp16", PRESETS) == "did you mean F16 or BF16?"
    assert did_you_mean("xyz", PRESETS, "see --help") == "see --help"
    assert question(["a", "b", "c"]) == "did you mean a, b or c?"
    assert question([]) == ""


def test_only_types_that_can_be_asked_for_are_offered() -> None:
    for word in ("Q8K", "Q81", "I-8", "nothing like a type"):
        with pytest.raises(UnknownType) as caught:
            layout_named(word)
        offered = set(caught.value.hint.replace(",", "").replace("?", "").split())
        assert not offered & NOT_CONVERTIBLE
        assert offered & set(LAYOUTS)
    with pytest.raises(UnknownPreset) as refused:
        mix_named("q4km")
    assert refused.value.hint == "did you mean Q4_K_M?"
