"""The page as text: what is packed into it, and what cannot get out of its place."""

from __future__ import annotations

import base64
import json
import re
import zlib
from html.parser import HTMLParser
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggufscope.measure.maps import MAX_CELLS, tokens_shown, window
from ggufscope.report.html import (
    Page,
    PageRun,
    PageScore,
    PageTable,
    pack,
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


def unpack(text: str, reference: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.int64]:
    """What the script does, in other words."""
    raw = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).astype(np.int64)
    low, high = raw.reshape(2, -1)
    codes = low + 256 * high
    if reference is None:
        return codes
    steps = np.where(codes % 2, -(codes + 1) // 2, codes // 2)
    return (reference + steps) % 65536


@given(st.integers(1, 3), st.integers(1, 9), st.integers(0, 5))
def test_packing_loses_less_than_a_step(heads: int, tokens: int, seed: int) -> None:
    p, q = shares(heads, tokens, seed), shares(heads, tokens, seed + 1)
    q[0, -1] = 0  # from all to nothing, and the other way: the largest steps there are
    q[0, -1, 0] = 1
    p[0, -1] = 0
    p[0, -1, -1] = 1
    seen = np.tri(tokens, dtype=bool)
    reference = unpack(pack(p))
    np.testing.assert_allclose(reference / 65535, p[:, seen].reshape(-1), atol=1e-5)
    candidate = unpack(pack(q, p), reference)
    np.testing.assert_allclose(candidate / 65535, q[:, seen].reshape(-1), atol=1e-5)


def test_a_window_keeps_the_sum_of_every_row() -> None:
    p = shares(2, 20, 1)
    assert window(p, 20) is p
    cut = window(p, 5)
    assert cut.shape == (2, 5, 6)
    np.testing.assert_allclose(cut.sum(axis=-1), 1)
    np.testing.assert_array_equal(cut[..., 1:], p[:, 15:, 15:])
    # Row r of the window sees the earlier ones and r + 1 of its own.
    assert len(unpack(pack(cut))) == 2 * sum(r + 2 for r in range(5))


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


def test_thirty_two_layers_of_thirty_two_heads_stay_under_thirteen_megabytes() -> None:
    p, q = shares(32, 64, 1), shares(32, 64, 2)
    near = 0.99 * p + 0.01 * q
    packed = len(pack(p)) + 3 * len(pack(near, p))
    assert 32 * packed < 13_000_000
