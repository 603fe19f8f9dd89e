from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggufscope.errors import BadUsage
from ggufscope.sizing.bare import bare_sizes, parse_count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("7B", 7_000_000_000),
        ("1.5b", 1_500_000_000),
        ("70B", 70_000_000_000),
        ("6738415616", 6_738_415_616),
        ("6,738,415,616", 6_738_415_616),
        ("350m", 350_000_000),
        ("1T", 10**12),
        ("llama-2-7b", None),
        ("7x", None),
        ("", None),
        ("٧B", None),
    ],
)
def test_counts_are_read_as_people_write_them(text: str, count: int | None) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["0", "0B", "0.5", "1.5"])
def test_a_part_of_a_weight_is_none(text: str) -> None:
    with pytest.raises(BadUsage):
        parse_count(text)


@given(st.integers(1, 10**15))
def test_any_count_is_read_back(count: int) -> None:
    assert parse_count(str(count)) == parse_count(f"{count:,}") == count


def test_the_table_of_the_documents_and_what_it_really_is() -> None:
    sizes = {size.type.name: size for size in bare_sizes(7 * 10**9)}
    said = {name: size.documented for name, size in sizes.items() if size.documented}
    assert said == {"F32": 28, "F16": 14, "Q8_0": 7, "Q4_K": 4, "Q2_K": 2.5}
    exact = {name: sizes[name].type.bits_per_weight for name in said}
    assert exact == {"F32": 32, "F16": 16, "Q8_0": 8.5, "Q4_K": 4.5, "Q2_K": 2.625}
    for name, size in sizes.items():
        assert size.nbytes == 7 * 10**9 * size.type.bits_per_weight / 8, name
        if size.documented:  # they round, and by no more than a tenth
            assert abs(size.nbytes / 1e9 - size.documented) < 0.1 * size.documented
    assert not any(size.documented for size in bare_sizes(70 * 10**9))
