"""Tables at any width, and colours on any ground."""

from __future__ import annotations

import io

import pytest
from rich.color import Color
from rich.console import Console, RenderableType

from ggufscope.report import console
from ggufscope.report.console import cell, left, name_cell, plain_table, right, show, text, words

PALETTE = ("GREEN", "CYAN", "BLUE", "ORANGE", "RED", "MAGENTA")


def _shown(view: RenderableType, width: int) -> list[str]:
    out = io.StringIO()
    show(Console(file=out, width=width, markup=False, emoji=False, highlight=False), [view])
    return out.getvalue().splitlines()


def _table() -> RenderableType:
    table = plain_table(left("name"), words("role"), right("shape"), right("size"))
    table.add_row("layers 0-3")
    table.add_row(name_cell("  attn_q.weight"), cell("W_q: queries, all"), "4096×4096", "32.0 MiB")
    table.add_row(name_cell("output.weight"), cell(""), "128256×4096", "1.96 GiB")
    return table


def test_a_table_with_room_is_whole() -> None:
    lines = _shown(_table(), 60)
    assert lines[0].split() == ["name", "role", "shape", "size"]
    assert "W_q: queries, all" in lines[2]


def test_words_are_cut_first_and_then_left_out_and_named() -> None:
    assert "W_q: queries,…" in _shown(_table(), 54)[2]
    lines = _shown(_table(), 44)
    assert lines[0].split() == ["name", "shape", "size"]
    assert lines[2].split() == ["attn_q.weight", "4096×4096", "32.0", "MiB"]
    assert lines[-1] == "Left out at 44 columns: role."


def test_what_is_too_narrow_for_the_numbers_is_stacked_and_loses_nothing() -> None:
    assert _shown(_table(), 30) == [
        "name",
        "layers 0-3",
        "  attn_q.weight",
        "    role: W_q: queries, all",
        "    shape: 4096×4096",
        "    size: 32.0 MiB",
        "output.weight",
        "  shape: 128256×4096",
        "  size: 1.96 GiB",
    ]


@pytest.mark.parametrize("width", range(20, 121))
def test_no_name_and_no_number_is_ever_cut(width: int) -> None:
    lines = _shown(_table(), width)
    assert max(map(len, lines)) <= width
    for whole in ("attn_q.weight", "output.weight", "4096×4096", "128256×4096", "32.0 MiB"):
        assert any(whole in line for line in lines), (whole, lines)


def test_text_that_a_reader_came_for_is_never_left_out() -> None:
    table = plain_table(left("key"), text("value"))
    table.add_row("tokenizer.ggml.model", cell("a value of some length"))
    for width in range(16, 60):
        assert "value" in "".join(_shown(table, width)[1:]) or width > 34


def test_words_that_wrap_are_not_broken_within() -> None:
    table = plain_table(left("quantity"), words("made from"))
    table.add_row("kq_soft_max", console.paragraph("token_embd.weight position_embd.weight"))
    for width in range(20, 80):
        lines = _shown(table, width)
        assert any("token_embd.weight" in x for x in lines) or "Left out" in lines[-1], lines


def _brightness(channel: int) -> float:
    share = channel / 255
    return float(share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("name", PALETTE)
def test_every_colour_is_read_on_black_and_on_white(name: str) -> None:
    # The contrast of WCAG 2: 3 is asked of large text and pictures; no colour has 4.6 on both.
    red, green, blue = Color.parse(getattr(console, name)).get_truecolor()
    light = 0.2126 * _brightness(red) + 0.7152 * _brightness(green) + 0.0722 * _brightness(blue)
    assert min(1.05 / (light + 0.05), (light + 0.05) / 0.05) > 3
