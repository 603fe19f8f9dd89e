"""The page in headless Chromium: what is in sight, what can be read, the keyboard, paper.

Marked `browser`: `.ci/run` installs a browser and runs it. Where there is none, it fails.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.report.browsing import KINDS, NARROW, SIZES, WIDE, Opened, inside, odd_pages, written
from tests.report.test_html import HOSTILE, a_page

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("size", WIDE, ids=str)
def test_heads_maps_and_numbers_are_in_sight_together(
    browser: Any, large: Path, size: tuple[int, int]
) -> None:
    page = Opened(browser, large, size, "light")
    seen = ["#candidates", "#grid", "#sentence-title", "#prompt", "#bars", "#readout"]
    seen += [f"#map-{kind}" for kind in KINDS]
    boxes = {selector: page.box(selector) for selector in seen}
    for selector, box in boxes.items():
        assert inside(box, size), (selector, box)
    maps = [boxes[f"#map-{kind}"] for kind in KINDS]
    assert len({(box["y"], box["width"], box["height"]) for box in maps}) == 1
    assert boxes["#grid"]["x"] < maps[0]["x"] < maps[1]["x"] < maps[2]["x"]
    # The width is used: heads and maps take most of it.
    taken = boxes["#grid"]["width"] + sum(box["width"] for box in maps)
    assert taken > 0.72 * size[0], taken
    assert page.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # The numbers are told at the pointer.
    page.page.mouse.move(
        maps[2]["x"] + 0.4 * maps[2]["width"], maps[2]["y"] + 0.8 * maps[2]["height"]
    )
    page.page.locator("#tip").wait_for()
    tip = page.box("#tip")
    assert inside(tip, size)
    assert abs(tip["x"] - maps[2]["x"] - 0.4 * maps[2]["width"]) < 400
    assert "points" in page.text("#tip")
    page.close()


def test_a_narrow_window_has_one_column_and_the_numbers_stay(browser: Any, large: Path) -> None:
    page = Opened(browser, large, NARROW, "dark")
    places = ["#candidates", "#overview", *(f"#map-{kind}" for kind in KINDS), "#sentence", "#bars"]
    tops = [page.box(selector)["y"] for selector in places]
    assert tops == sorted(tops)
    assert page.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for kind in KINDS:
        canvas = page.page.locator(f"#map-{kind}")
        canvas.scroll_into_view_if_needed()
        box = page.box(f"#map-{kind}")
        assert 250 < box["width"] <= NARROW[0]
        assert inside(page.box("#readout"), NARROW)
    page.close()


def test_it_opens_at_the_head_furthest_off_and_nothing_overflows(opened: Opened) -> None:
    assert opened.text("#head-title").startswith("Layer")
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for kind in KINDS:
        box = opened.box(f"#map-{kind}")
        assert box["width"] > 200
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


def test_what_is_read_can_be_read(opened: Opened) -> None:
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


def test_the_keyboard_alone_is_enough(opened: Opened) -> None:
    from playwright.sync_api import expect

    page = opened.page
    reached: list[str] = []
    for _ in range(30):
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
    for place in ("skip", "candidate", "picture", "score", "sorted", "scale", "flip"):
        assert place in reached
    for place in ("layer", "number", "previous", "next", "keep-png", "keep-svg", "keep-csv"):
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
    page.locator("#numbers summary").focus()
    page.keyboard.press("Enter")
    page.locator("#numbers-table td").first.wait_for()
    assert page.locator("#numbers-table td").count() == 6 * 7 // 2


def test_what_it_shows_is_what_was_put_in(browser: Any, compared: Path) -> None:
    from playwright.sync_api import expect

    opened = Opened(browser, compared, (1280, 900), "light")
    page = opened.page
    page.locator("#layer").select_option("1")
    page.locator("#number").select_option("2")
    expect(page.locator("#head-title")).to_have_text("Layer 1, head 2")
    page.locator("#numbers summary").click()
    page.locator("#numbers-table td").first.wait_for()
    told = page.locator("#numbers-table tbody tr").all_inner_texts()
    source = a_page()
    for row, line in enumerate(told):
        shares = [part for part in line.split("\t") if "→" in part]
        for column, pair in enumerate(shares):
            p, q = (float(number) for number in pair.split(" → "))
            assert p == pytest.approx(100 * source.runs[0].maps[1][2][row, column], abs=0.0051)
            assert q == pytest.approx(100 * source.runs[1].maps[1][2][row, column], abs=0.006)
    assert opened.text("h1") == HOSTILE.replace("\x1b", "\\x1b")
    opened.close()


@pytest.mark.parametrize("size", SIZES)
def test_a_single_run_has_one_map(browser: Any, alone: Path, size: tuple[int, int]) -> None:
    opened = Opened(browser, alone, size, "dark")
    assert opened.page.locator("figure").count() == 1
    assert not opened.page.locator("#candidates").is_visible()
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    opened.close()


@pytest.mark.parametrize("name", odd_pages())
def test_odd_shapes_are_shown_too(browser: Any, tmp_path: Path, name: str) -> None:
    path = written(tmp_path / "page.html", odd_pages()[name])
    opened = Opened(browser, path, (1280, 900), "light", until="gives")
    page = opened.page
    for kind in page.locator("#picture option").evaluate_all("all => all.map((o) => o.value)"):
        if kind != "numbers":  # there are none
            page.locator("#picture").select_option(kind)
            page.locator(f'#grid[data-drawn="{kind}"]').wait_for()
    before = opened.text("#head-title")
    page.keyboard.press("]")
    page.locator("#numbers summary").click()
    page.locator("#numbers-table td").first.wait_for()
    if name == "one token":
        assert "a gives 0 a 100" in opened.text("#readout")
        assert before == "Layer 7, head 0"
    elif name == "no numbers":
        assert "no number" in opened.text("#readout")
    else:
        page.locator("#map-reference").focus()
        for _ in range(6):
            page.keyboard.press("ArrowLeft")
        page.wait_for_function("document.getElementById('readout').innerText.includes('(earlier)')")
        assert "19 ·19" in opened.text("#readout")
        assert page.locator("#numbers-table tbody tr").count() == 5
        assert page.locator("#grid button").count() == 6
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    opened.close()


def test_it_prints(wide: Opened) -> None:
    wide.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert wide.page.pdf()[:5] == b"%PDF-"
    wide.page.emulate_media(media="print")
    for selector in ("#keep-png", "#layer", "#readout"):
        assert not wide.page.locator(selector).is_visible()
    assert wide.page.locator("#tables table").first.is_visible()
    assert wide.page.locator("#map-difference").is_visible()
