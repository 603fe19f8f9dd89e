from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggufscope.report.units import (
    asked_size,
    bits,
    count,
    extents,
    percent,
    printable,
    size,
    small,
    spans,
)


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.98 KiB"),
        (1024, "1.00 KiB"),
        (10_235, "10.0 KiB"),
        (1023 * 1024, "1.00 MiB"),
        (7 * 2**30, "7.00 GiB"),
        (2**70, "1024 EiB"),
    ],
)
def test_size(nbytes: int, text: str) -> None:
    assert size(nbytes) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1.00 K"), (6_738_415_616, "6.74 B"), (999_999, "1.00 M")],
)
def test_count(number: int, text: str) -> None:
    assert count(number) == text


def test_bits_and_extents() -> None:
    assert [bits(n) for n in (16.0, 4.5, 2.625, 4.84421, 10.0)] == [
        "16",
        "4.5",
        "2.625",
        "4.8442",
        "10",
    ]
    assert [extents(s) for s in ((), (5,), (256, 768))] == ["1", "5", "256×768"]


def test_shares_have_three_digits_at_the_most() -> None:
    shares = (0.0, 1.0, 0.66612, 0.0740, 0.0013, 0.00065, 3e-7, float("nan"))
    said = ["0%", "100%", "66.6%", "7.40%", "0.13%", "0.065%", "3.0e-5%", "nan"]
    assert [percent(share) for share in shares] == said
    assert [small(n) for n in (-12.34, 9.996, 99.96, 1e-4)] == ["-12.3", "10.0", "100", "1.0e-4"]


def test_spans() -> None:
    assert spans([0, 1, 2, 3, 6, 9, 10]) == "0-3, 6, 9-10"
    assert spans([]) == ""


def test_printable_escapes_what_a_terminal_would_act_on() -> None:
    assert printable("\x1b[31mred\x07\n") == "\\x1b[31mred\\x07\\x0a"
    assert printable("line\nline", keep="\n") == "line\nline"
    assert printable("a\udcff") == "a\\xff"
    assert printable("\u202eevil\u2066") == "\\u202eevil\\u2066"
    assert printable("Grüße 世界") == "Grüße 世界"


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_printable_is_always_printable(text: str) -> None:
    safe = printable(text)
    assert safe.isprintable()
    safe.encode("utf-8")


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=60), st.integers(0, 60))
def test_printable_is_cut_to_what_it_may_take(text: str, most: int) -> None:
    whole, cut = printable(text), printable(text, most=most)
    if len(whole) <= most:
        assert cut == whole
    else:
        said, dots, length = cut.rpartition("... (")
        assert dots
        assert length == f"{len(text):,} characters)"
        assert len(said) <= most
        assert whole.startswith(said)


@pytest.mark.parametrize(
    ("nbytes", "said"),
    [
        (8 << 30, "8 GiB"),
        (5_000_000_000, "5 GB (4.66 GiB)"),
        (round(7.8 * (1 << 20)), "7.8 MiB"),
        (500_000_000, "500 MB (477 MiB)"),
        (123_456_789, "118 MiB"),
        (7, "7 B"),
    ],
)
def test_a_size_is_written_as_it_was_asked(nbytes: int, said: str) -> None:
    assert asked_size(nbytes) == said
