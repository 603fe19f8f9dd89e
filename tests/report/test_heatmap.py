"""A head's map in the terminal: what it says, how wide it is, what it lets through."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pytest
from rich.cells import cell_len
from rich.console import Console

from ggufscope.report.heatmap import (
    PLAIN_SHADES,
    difference_map,
    heatmap,
    map_width,
    shades_for,
)

WORDS = ["<|endoftext|>", "The", " cat", " sat", "\n", "\x1b[31m", "漢字", "é", "", " mat"]


def _shares(tokens: int, seed: int = 1) -> npt.NDArray[np.float32]:
    scores = np.random.default_rng(seed).standard_normal((tokens, tokens))
    raised = np.where(np.tri(tokens, dtype=bool), np.exp(2 * scores), 0)
    shares: npt.NDArray[np.float32] = raised / raised.sum(axis=1, keepdims=True)
    return shares.astype(np.float32)


def _tokens(count: int) -> list[str]:
    return (WORDS * (count // len(WORDS) + 1))[:count]


def test_a_small_map_has_every_share_in_percent() -> None:
    p = np.array([[1, 0, 0], [0.25, 0.75, 0], [0, 0.004, 0.996]])
    lines = [line.plain.rstrip() for line in heatmap(p, ["a", " b", "c"])]
    assert lines == [
        "     a      ▁b     c",
        "0 a  █  100",
        "1 ▁b ▒   25 █   75",
        "2 c         ·    0 █  100",
        "in percent; up to · 0.5%, ░ 10%, ▒ 35%, ▓ 70%, █ 100%",
    ]


def test_a_difference_has_signs_and_its_unit() -> None:
    p = np.array([[1, 0], [0.5, 0.5]])
    q = np.array([[1, 0], [0.25, 0.75]])
    lines = [line.plain.rstrip() for line in difference_map(p, q, ["a", "b"])]
    assert lines[2] == "1 b █-25.0 █+25.0"
    assert lines[3] == "█ 25.0: the largest, in percentage points"
    near = [line.plain for line in difference_map(p, p + 1e-5 * (q - p), ["a", "b"])]
    assert near[3] == "█ 250: the largest, in millionths of a percentage point"
    assert [line.plain for line in difference_map(p, p, ["a", "b"])][-1] == "no difference"


@pytest.mark.parametrize("tokens", [1, 2, 9, 10, 30, 33, 200])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(tokens: int, width: int) -> None:
    p, q = _shares(tokens), _shares(tokens, 2)
    for view in (heatmap, lambda *a, **k: difference_map(p, q, a[1], **k)):
        for line in view(p, _tokens(tokens), width=width):
            assert cell_len(line.plain) <= width
            assert all(character.isprintable() for character in line.plain)


def test_what_does_not_fit_is_summed_up_in_one_column() -> None:
    tokens = 50
    p = np.full((tokens, tokens), 0.02)
    lines = [line.plain for line in heatmap(p, ["word"] * tokens, width=40)]
    rows = [line for line in lines if line[:2].strip().isdigit()]
    assert "(earlier" in "".join(line[8:9] for line in lines)
    first = int(rows[0][:2])
    assert first == tokens - len(rows) > 0
    assert {row[8:10] for row in rows} == {"██"}  # most of the tokens came earlier
    last = rows[-1][8:]
    assert last == "██" + "░░" * len(rows)


def test_tokens_stand_above_their_columns() -> None:
    lines = [line.plain for line in heatmap(_shares(20), _tokens(20), width=80)]
    heads = lines[: next(n for n, line in enumerate(lines) if line.startswith(" 0 "))]
    start = lines[len(heads)].index("█")
    # The fourth token, " sat", is read downwards two columns a token further on.
    column = "".join(line[start + 6 : start + 7] for line in heads).strip()
    assert column == "▁sat"


def test_a_terminal_without_blocks_gets_ascii() -> None:
    console = Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii"), width=80)
    shades = shades_for(console)
    assert shades == PLAIN_SHADES
    assert all(line.plain.isascii() for line in list(heatmap(_shares(4), ["a"] * 4, shades=shades)))


def test_a_pipe_gets_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    from ggufscope.report.console import make_console

    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert map_width(make_console()) == 80
    monkeypatch.setenv("COLUMNS", "101")
    assert map_width(make_console()) == 101
