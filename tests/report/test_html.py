"""The page as text: what is packed into it, and what cannot get out of its place."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ggufscope.measure.maps import MAX_CELLS, tokens_shown, window
from ggufscope.report.html import (
    Page,
    PageRun,
    PageScore,
    PageTable,
    large_page,
    page_html,
)

HOSTILE = "</script><img src=x onerror=alert(1)>\x1b[31m"
Shares = npt.NDArray[np.float64]


def shares(heads: int, tokens: int, seed: int) -> Shares:
    scores = np.random.default_rng(seed).standard_normal((heads, tokens, tokens))
    raised = np.where(np.tri(tokens, dtype=bool), np.exp(2 * scores), 0)
    made: Shares = raised / raised.sum(axis=-1, keepdims=True)
    return made


def a_page(tokens: int = 6, layers: int = 2, heads: int = 3) -> Page:
    reference = {n: shares(heads, tokens, n) for n in range(layers)}
    near = {n: 0.9 * maps + 0.1 * shares(heads, tokens, 90 + n) for n, maps in reference.items()}
    variation = {
        n: (np.abs(near[n] - reference[n]).sum(axis=-1).mean(axis=-1) / 2).tolist()
        for n in reference
    }
    score = PageScore("total variation", "the share that went elsewhere", variation)
    return Page(
        title=HOSTILE,
        lead="A lead.",
        facts=[("model", HOSTILE)],
        tokens=["a", " b", HOSTILE, "\n", "漢", "f"][:tokens],
        runs=[
            PageRun("FP32", reference),
            PageRun(
                HOSTILE, near, [score], False, "visible", "worst: layer 1, head 2", [("KL", "0.1")]
            ),
        ],
        tables=[PageTable("By layer", ["layer", "TV"], [["0", HOSTILE]])],
    )


def test_a_window_keeps_the_sum_of_every_row() -> None:
    p = shares(2, 20, 1)
    assert window(p, 20) is p
    cut = window(p, 5)
    assert cut.shape == (2, 5, 6)
    np.testing.assert_allclose(cut.sum(axis=-1), 1)
    np.testing.assert_array_equal(cut[..., 1:], p[:, 15:, 15:])


def test_a_page_has_room_for_so_many_tokens() -> None:
    assert tokens_shown(64, 32 * 32, 4) == 64
    shown = tokens_shown(5000, 32 * 32, 4)
    assert 0.9 * MAX_CELLS < 32 * 32 * 4 * shown * shown / 2 <= MAX_CELLS


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def test_nothing_that_a_file_says_becomes_markup() -> None:
    text = page_html(a_page())
    reader = _Reader()
    reader.feed(text)
    assert "img" not in reader.tags
    assert not any(name.startswith("on") for name, _ in reader.attributes)
    assert "\x1b" not in text
    assert reader.tags.count("script") == 2


def test_nothing_is_loaded_from_elsewhere() -> None:
    text = page_html(a_page())
    without_data = re.sub(r'("maps":)\[.*?\]', r"\1[]", text)
    # The name of a picture's format, as that asks for it: nothing is loaded by it.
    without_data = without_data.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|//[a-z]|url\(|@import|\bfetch\(", without_data)
    assert "default-src 'none'" in text


def _data(text: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_data_is_all_there() -> None:
    page = a_page()
    data = _data(page_html(page))
    assert data["layers"] == [0, 1]
    assert data["heads"] == [3, 3]
    assert [len(run["maps"]) for run in data["runs"]] == [2, 2]
    assert data["tokens"][1] == " b"
    assert data["runs"][1]["scores"][0]["values"][1] == pytest.approx(
        list(page.runs[1].scores[0].values[1])
    )


def test_no_other_script_or_style_is_run() -> None:
    text = page_html(a_page())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert "unsafe" not in policy[1]
    for name, of in (("style", "<style>(.*?)</style>"), ("script", "<script>(.*?)</script>")):
        inside = re.search(of, text, re.DOTALL)
        assert inside is not None
        digest = base64.b64encode(sha256(inside[1].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy[1]


def test_the_worst_heads_are_links_that_the_page_understands() -> None:
    page = a_page()
    worst = replace(page.runs[1], name="a&b c.gguf", worst=[(1, 2, 0.25)])
    text = page_html(replace(page, runs=[page.runs[0], worst]))
    assert '<a href="#candidate=a%26b%20c.gguf&amp;head=L1H2">L1H2 25.0%</a>' in text


def test_a_large_page_is_said_to_be_large() -> None:
    assert large_page("x" * 20_000_000) is None
    said = large_page("x" * 21_300_000)
    assert said is not None
    assert "21.3 MB" in said


def test_numbers_that_are_none_stay_out_of_the_data() -> None:
    page = a_page()
    maps = {n: np.array(each) for n, each in page.runs[0].maps.items()}
    maps[1][2, 3, :4] = np.nan
    score = PageScore("entropy", "bits", {0: [1, np.inf, 2], 1: [np.nan, 0, 0]}, percent=False)
    run = PageRun("one", maps, [score])
    data = _data(page_html(replace(page, runs=[run], next_tokens=[("a", (np.nan,))])))
    assert data["runs"][0]["scores"][0]["values"] == [[1, None, 2], [None, 0, 0]]
    assert data["next"] == [["a", None]]
    assert np.isfinite(data["runs"][0]["largest"]).all()
