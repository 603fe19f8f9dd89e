from __future__ import annotations

import gguf
import pytest

from ggufscope.blocks.layouts import (
    LAYOUTS,
    REMOVED,
    ForeignType,
    Layout,
    layout_named,
    layout_numbered,
)
from ggufscope.errors import UnknownType
from tests.oracles import ggml

# ggml's GGML_TYPE_COUNT: asking it for a number from here on would abort the process.
TYPE_COUNT = max(layout.number for layout in LAYOUTS.values()) + 1


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_sizes_are_those_of_real_ggml(layout: Layout) -> None:
    assert layout.block_length == ggml().ggml_blck_size(layout.number)
    assert layout.block_bytes == ggml().ggml_type_size(layout.number)


@pytest.mark.parametrize("number", range(TYPE_COUNT))
def test_every_number_of_real_ggml_is_known_or_known_as_removed(number: int) -> None:
    if ggml().ggml_blck_size(number) == 0:
        assert layout_numbered(number) == ForeignType(REMOVED[number], number)
    else:
        layout = layout_numbered(number)
        assert isinstance(layout, Layout)
        assert layout.name.lower() == ggml().ggml_type_name(number).decode().lower()


def test_sizes_are_those_of_gguf_py() -> None:
    theirs = {kind.name: sizes for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    # gguf-py gives Q8_1 two float scales, as it had in 2023. ggml, above, says halves.
    assert theirs.pop("Q8_1") == (32, 4 + 4 + 32)
    assert theirs == {
        name: (LAYOUTS[name].block_length, LAYOUTS[name].block_bytes) for name in theirs
    }
    assert len(theirs) >= 30


@pytest.mark.parametrize(
    ("name", "bits"),
    [("F32", 32), ("F16", 16), ("Q8_0", 8.5), ("Q4_K", 4.5), ("Q2_K", 2.625), ("TQ1_0", 1.6875)],
)
def test_bits_per_weight(name: str, bits: float) -> None:
    assert LAYOUTS[name].bits_per_weight == bits


def test_a_row_is_a_whole_number_of_blocks() -> None:
    assert layout_named("Q4_K").row_bytes(4096) == 4096 // 256 * 144


def test_names_are_found_in_any_case_and_unknown_ones_refused() -> None:
    assert layout_named("q4_k") is LAYOUTS["Q4_K"]
    with pytest.raises(UnknownType, match="Q4_KM") as caught:
        layout_named("Q4_KM")
    assert caught.value.hint == "did you mean Q4_K?"
    with pytest.raises(UnknownType, match="nonsense") as caught:
        layout_named("nonsense")
    assert "Q4_K" in caught.value.hint


def test_a_number_from_a_fork_has_a_name() -> None:
    assert layout_numbered(144) == ForeignType("type 144", 144)
