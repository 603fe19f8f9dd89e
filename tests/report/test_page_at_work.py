"""The page in headless Chromium: true colours, the pointer, addresses, files to keep.

Marked `browser`, as `test_page_in_a_browser.py` is.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from ggufscope.report.html import PageRun
from tests.report.browsing import SCHEMES, Opened, inside, written
from tests.report.test_html import a_page

pytestmark = pytest.mark.browser

SHARES = (0.0, 0.005, 0.01, 0.05, 0.1, 0.239, 0.3, 0.5, 0.8, 1.0)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("scale", ["root", "linear"])
def test_squares_have_the_colours_of_the_scale(
    browser: Any, tmp_path: Path, scheme: str, scale: str
) -> None:
    maps = np.zeros((1, 10, 10))
    maps[0, 9] = SHARES
    other = np.zeros((1, 10, 10))
    other[0, 9] = 0.5  # differences of both signs, the largest of them 0.5
    source = a_page()
    runs = [PageRun("FP32", {0: maps}), PageRun("Q2_K", {0: other}, ())]
    page = replace(source, tokens=[*"abcdefghij"], runs=runs, start=(1, 0, 0))
    opened = Opened(
        browser, written(tmp_path / "page.html", page), (1280, 900), scheme, until="gives"
    )
    opened.page.locator("#scale").select_option(scale)
    told = opened.page.evaluate(
        """() => {
        const { side, label } = geometry;
        return ["reference", "difference"].map((kind) => {
          const { canvas, scale } = figures.get(kind);
          const row = (of, y) => {
            const { data } = of.getContext("2d").getImageData(0, y, of.width, 1);
            return (x) => [...data.slice(4 * x, 4 * x + 3)];
          };
          const at = (n) => Math.floor((label + (n + 0.5) * side) * devicePixelRatio);
          const square = row(canvas, at(9));
          const bar = scale.querySelector("canvas");
          return {
            squares: [...Array(10).keys()].map((c) => square(at(c))),
            bar: [...Array(bar.width).keys()].map(row(bar, 0)),
          };
        }); }"""
    )
    power = 0.5 if scale == "root" else 1.0
    share, change = told
    for value, square in zip(SHARES, share["squares"], strict=True):
        at = share["bar"][round(511 * value**power)]
        assert np.abs(np.subtract(square, at)).max() <= 3, value
        gap = (0.5 - value) / 0.5
        at = change["bar"][round(511 * (0.5 + 0.5 * np.sign(gap) * abs(gap) ** power))]
        square = change["squares"][SHARES.index(value)]
        # Near no change at all the scale of either sign is steep.
        assert np.abs(np.subtract(square, at)).max() <= 6, value
    # Different shares are told apart, and more is not less.
    assert len({tuple(square) for square in share["squares"]}) == 10
    assert change["squares"][0] != change["squares"][-1]
    opened.close()


def test_the_words_of_the_scale_stand_where_the_colours_are(wide: Opened) -> None:
    ticks = wide.page.evaluate(
        "() => ['reference', 'difference'].map((kind) => scaleOf(kind, 0.295, 0).ticks)"
    )
    assert [text for _, text in ticks[0]] == ["0", "1", "10", "25", "50", "100"]
    for at, text in ticks[0]:
        assert at**2 == pytest.approx(float(text) / 100)
    assert [text for _, text in ticks[1]] == ["−29.50", "−7.38", "0", "+7.38", "+29.50"]
    assert "points" in wide.text("#name-difference")


def test_a_move_of_the_pointer_draws_no_square_anew(browser: Any, large: Path) -> None:
    opened = Opened(browser, large, (1280, 900), "light")
    page = opened.page
    page.evaluate(
        """() => { window.drawn_ = 0;
        for (const name of ["putImageData", "drawImage"]) {
          const own = CanvasRenderingContext2D.prototype[name];
          CanvasRenderingContext2D.prototype[name] = function (...all) {
            window.drawn_ += 1;
            return own.apply(this, all);
          };
        } }"""
    )
    box = opened.box("#map-candidate")
    before = opened.text("#readout")
    for n in range(12):
        page.mouse.move(box["x"] + (0.2 + 0.03 * n) * box["width"], box["y"] + 0.9 * box["height"])
    page.wait_for_function(
        "(was) => document.getElementById('readout').innerText !== was", arg=before
    )
    assert page.evaluate("window.drawn_") == 0
    page.locator("#next").click()
    page.wait_for_function("window.drawn_ >= 3")
    opened.close()


def test_one_key_swaps_reference_and_candidate_in_place(wide: Opened) -> None:
    pictures = "() => ['reference', 'candidate'].map((k) => figures.get(k).canvas.toDataURL())"
    reference, candidate = wide.page.evaluate(pictures)
    assert reference != candidate
    wide.page.keyboard.press("t")
    assert wide.page.evaluate(pictures) == [candidate, candidate]
    assert wide.text("#name-reference") == wide.text("#name-candidate")
    wide.page.keyboard.press("t")
    assert wide.page.evaluate(pictures) == [reference, candidate]


def test_a_head_has_an_address(browser: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    source = a_page()
    worst = replace(source.runs[1], name="Q2_K", worst=[(1, 2, 0.25)])
    page = replace(source, runs=[source.runs[0], source.runs[1], worst])
    path = written(tmp_path / "page.html", page)
    opened = Opened(browser, path, (1280, 900), "light", address="#candidate=Q2_K&head=L0H1")
    title = opened.page.locator("#head-title")
    expect(title).to_have_text("Layer 0, head 1")
    assert opened.text("#name-candidate") == "Q2_K"
    assert opened.page.evaluate("document.querySelector('[name=candidate]:checked').value") == "2"
    opened.page.get_by_role("link", name="L1H2").click()
    expect(title).to_have_text("Layer 1, head 2")
    opened.page.keyboard.press("[")
    expect(title).to_have_text("Layer 1, head 1")
    assert opened.page.evaluate("location.hash") == "#candidate=Q2_K&head=L1H1"
    for nonsense in ("#candidate=%E0%A4%A&head=L9H99", "#head=L0H99", "#=&&", "#head"):
        opened.page.evaluate("(hash) => { location.hash = hash; }", nonsense)
        expect(title).to_have_text("Layer 1, head 1")
    opened.close()


def test_candidates_of_one_name_have_their_own_addresses(browser: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    source = a_page()
    twin = replace(source.runs[1], name="m.gguf", worst=[(1, 2, 0.25)])
    page = replace(source, runs=[source.runs[0], twin, twin])
    opened = Opened(browser, written(tmp_path / "page.html", page), (1280, 900), "light")
    opened.page.get_by_role("link", name="L1H2").last.click()
    expect(opened.page.locator("#head-title")).to_have_text("Layer 1, head 2")
    assert opened.page.evaluate("[state.run, location.hash]") == [2, "#candidate=2&head=L1H2"]
    opened.close()


def test_maps_are_kept_as_pictures_and_numbers(wide: Opened, tmp_path: Path) -> None:
    kept = {}
    for ending in ("svg", "csv", "png"):
        with wide.page.expect_download() as download:
            wide.page.locator(f"#keep-{ending}").click()
        kept[ending] = download.value.path().read_bytes()
        assert re.fullmatch(rf"[\w.-]+\.{ending}", download.value.suggested_filename)
    source = a_page()
    layer, head = map(int, re.findall(r"\d+", wide.text("#head-title")))
    drawing = ElementTree.fromstring(kept["svg"])
    name = "{http://www.w3.org/2000/svg}"
    assert len(drawing.findall(f"{name}rect")) == 1 + 3 * (6 * 7 // 2 + 64)
    said = [each.text or "" for each in drawing.findall(f"{name}text")]
    assert any(text.startswith(f"Layer {layer}, head {head}") for text in said)
    assert kept["png"].startswith(b"\x89PNG")
    found = list(csv.DictReader(io.StringIO(kept["csv"].decode(), newline="")))
    assert len(found) == 6 * 7 // 2
    for line in found:
        row, column = int(line["row"]), int(line["column"])
        p, q = (run.maps[layer][head][row, column] for run in source.runs)
        assert float(line["FP32"]) == pytest.approx(p, abs=1e-4)
        assert float(line["difference"]) == pytest.approx(q - p, abs=1e-4)


def test_the_prompt_is_shaded_both_ways(wide: Opened) -> None:
    page = wide.page
    words = page.locator("#sentence [role=option]")
    assert words.count() == 6
    words.nth(2).click()
    shaded = "(e) => e.style.background !== ''"
    assert [words.nth(n).evaluate(shaded) for n in range(6)] == [True] * 3 + [False] * 3
    page.get_by_text("attended by").click()
    assert [words.nth(n).evaluate(shaded) for n in range(6)] == [False] * 2 + [True] * 4
    assert "is attended by" in wide.text("#sentence-title")
    page.keyboard.press("Tab")
    words.nth(2).focus()
    page.keyboard.press("ArrowRight")
    assert words.nth(3).get_attribute("aria-selected") == "true"
    assert "%" in (words.nth(3).get_attribute("aria-label") or "")


def test_heads_are_sorted_and_shown_in_several_ways(browser: Any, large: Path) -> None:
    opened = Opened(browser, large, (1280, 900), "light")
    page = opened.page
    for kind in ("reference", "candidate", "token", "numbers", "change"):
        page.locator("#picture").select_option(kind)
        page.locator(f'#grid[data-drawn="{kind}"]').wait_for()
    page.locator("#sorted").check()
    shown = page.evaluate(
        """() => [...document.querySelectorAll("#grid button")]
        .map((b) => scores()[state.score].values[b.dataset.layer][b.dataset.head])"""
    )
    assert shown == sorted(shown, reverse=True)
    assert inside(opened.box("#grid"), (1280, 900))
    opened.close()
