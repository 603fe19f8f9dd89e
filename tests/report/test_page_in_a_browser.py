"""The page in headless Chromium: no request, no console error, both widths, both schemes, keys.

Marked `browser`: `.ci/run` installs a browser and runs it. Where there is none, it fails.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ggufscope.report.html import Page, page_html
from tests.report.test_html import HOSTILE, a_page

pytestmark = pytest.mark.browser

SIZES = [(1280, 900), (400, 800)]
SCHEMES = ["light", "dark"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = (
        os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    )
    assert path, "no Chromium: `apt-get install chromium`, or set CHROMIUM to its path"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _written(tmp_path_factory.mktemp("page") / "compared.html", a_page())


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = a_page()
    run = page.runs[0]
    scores = page.runs[1].scores
    single = type(run)(run.name, run.maps, scores)
    path = tmp_path_factory.mktemp("page") / "alone.html"
    return _written(path, Page(page.title, page.lead, page.facts, page.tokens, [single]))


def _written(path: Path, page: Page) -> Path:
    path.write_text(page_html(page), encoding="utf-8")
    return path


class _Opened:
    """A page, and what went on in it."""

    def __init__(self, browser: Any, path: Path, size: tuple[int, int], scheme: str) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page = browser.new_page(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme
        )
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.goto(path.as_uri())
        self.page.locator("#readout", has_text="%").wait_for()

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).inner_text())


@pytest.fixture(params=[(size, scheme) for size in SIZES for scheme in SCHEMES], ids=str)
def opened(request: pytest.FixtureRequest, browser: Any, compared: Path) -> Iterator[_Opened]:
    page = _Opened(browser, compared, *request.param)
    yield page
    assert page.requests == [compared.as_uri()]
    assert page.complaints == []
    page.page.close()


def test_it_opens_at_the_head_furthest_off_and_nothing_overflows(opened: _Opened) -> None:
    assert opened.text("#head-title").startswith("Layer")
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for kind in ("reference", "candidate", "difference"):
        box = opened.page.locator(f"#map-{kind}").bounding_box()
        assert box["width"] > 250
        assert box["x"] >= 0
        colours = opened.page.evaluate(
            """(id) => { const c = document.getElementById(id);
                const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
                const seen = new Set();
                for (let i = 0; i < p.length; i += 4) seen.add(`${p[i]},${p[i+1]},${p[i+2]}`);
                return seen.size; }""",
            f"map-{kind}",
        )
        assert colours > 8


def test_what_is_read_can_be_read(opened: _Opened) -> None:
    """WCAG AA: text has a contrast of 4.5 to what is behind it."""
    low = opened.page.evaluate(
        """() => {
        const numbers = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
        const light = (rgb) => rgb.slice(0, 3)
          .map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
          .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const behind = (e) => {
          for (; e; e = e.parentElement) {
            const c = numbers(getComputedStyle(e).backgroundColor);
            if (c.length === 3 || c[3] > 0) return c;
          }
          return [255, 255, 255];
        };
        const found = [];
        for (const e of document.querySelectorAll("body *")) {
          const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
          const style = getComputedStyle(e);
          if (!own || !e.getClientRects().length || style.fontSize === "0px") continue;
          if (["SCRIPT", "STYLE", "OPTION", "NOSCRIPT"].includes(e.tagName)) continue;
          const [a, b] = [light(numbers(style.color)), light(behind(e))].sort((x, y) => y - x);
          const contrast = (a + 0.05) / (b + 0.05);
          if (contrast < 4.5) found.push(`${e.tagName}.${e.className} ${contrast.toFixed(2)}`);
        }
        return found; }"""
    )
    assert low == []


def test_the_keyboard_alone_is_enough(opened: _Opened) -> None:
    from playwright.sync_api import expect

    page = opened.page
    reached: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "document.activeElement.id || document.activeElement.className || "
                "document.activeElement.name || document.activeElement.dataset.head"
            )
        )
        assert page.evaluate(
            """() => { const e = document.activeElement.closest(".card") || document.activeElement;
                return e === document.body || getComputedStyle(e).outlineStyle !== "none"; }"""
        ), reached
    for place in ("skip", "candidate", "score", "layer", "number", "previous", "next"):
        assert place in reached
    assert {"map-reference", "map-candidate", "map-difference"} <= set(reached)
    # A head by arrow keys.
    page.locator('#grid button[aria-pressed="true"]').focus()
    before = opened.text("#head-title")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#head-title")).not_to_have_text(before)
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    # A cell by arrow keys: the numbers are told.
    page.locator("#map-candidate").focus()
    told = opened.text("#readout")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#readout")).not_to_have_text(told)
    assert "%" in opened.text("#readout")
    # The table, opened from the keyboard, has the same numbers as the map.
    page.locator("summary").focus()
    page.keyboard.press("Enter")
    page.locator("#numbers-table td").first.wait_for()
    assert page.locator("#numbers-table td").count() == 6 * 7 // 2


def test_what_it_shows_is_what_was_put_in(browser: Any, compared: Path) -> None:
    from playwright.sync_api import expect

    opened = _Opened(browser, compared, (1280, 900), "light")
    page = opened.page
    page.locator("#layer").select_option("1")
    page.locator("#number").select_option("2")
    expect(page.locator("#head-title")).to_have_text("Layer 1, head 2")
    page.locator("summary").click()
    page.locator("#numbers-table td").first.wait_for()
    told = page.locator("#numbers-table tbody tr").all_inner_texts()
    source = a_page()
    for row, line in enumerate(told):
        shares = [part for part in line.split("\t") if "→" in part]
        for column, pair in enumerate(shares):
            p, q = (float(number) for number in pair.split(" → "))
            assert p == pytest.approx(100 * source.runs[0].maps[1][2][row, column], abs=0.006)
            assert q == pytest.approx(100 * source.runs[1].maps[1][2][row, column], abs=0.006)
    assert opened.text("h1") == HOSTILE.replace("\x1b", "\\x1b")
    assert opened.complaints == []
    page.close()


@pytest.mark.parametrize("size", SIZES)
def test_a_single_run_has_one_map(browser: Any, alone: Path, size: tuple[int, int]) -> None:
    opened = _Opened(browser, alone, size, "dark")
    assert opened.page.locator("canvas").count() == 1
    assert not opened.page.locator("#candidates").is_visible()
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert opened.requests == [alone.as_uri()]
    assert opened.complaints == []
    opened.page.close()
