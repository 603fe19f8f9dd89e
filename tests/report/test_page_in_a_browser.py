"""The page in headless Chromium: what is in sight, true colours, keys, addresses, files to keep.

Marked `browser`: `.ci/run` installs a browser and runs it. Where there is none, it fails.
"""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from ggufscope.measure.maps import window
from ggufscope.report import html
from ggufscope.report.html import Page, PageRun, page_html
from ggufscope.report.packing import pack
from tests.report.test_html import HOSTILE, a_page, shares

pytestmark = pytest.mark.browser

SIZES = [(1280, 900), (1600, 1000), (2560, 1300), (400, 800)]
WIDE, NARROW = SIZES[:3], SIZES[3]
SCHEMES = ["light", "dark"]
KINDS = ("reference", "candidate", "difference")
SHAPES = {"4x8, 8": (4, 8, 8), "32x32, 64": (32, 32, 64), "32x32, 147": (32, 32, 147)}
"""Layers, heads and tokens."""


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


def large_page(layers: int, heads: int, tokens: int) -> Page:
    """A page as of a real model: three candidates, verdicts in two sentences, GQA."""
    reference = shares(heads, tokens, 1)
    others = [(1 - part) * reference + part * shares(heads, tokens, 2) for part in (0.01, 0.1, 0.3)]
    moved = [np.abs(each - reference).sum(-1).mean(-1) / 2 for each in others]
    runs = [PageRun("FP32", dict.fromkeys(range(layers), reference))]
    source = a_page().runs[1]
    for name, maps, each in zip(("Q8_0", "Q4_K", "Q2_K"), others, moved, strict=True):
        score = replace(source.scores[0], values=dict.fromkeys(range(layers), each.tolist()))
        runs.append(
            replace(
                *(source,),
                name=name,
                maps=dict.fromkeys(range(layers), maps),
                scores=[score],
                verdict="A visible effect: KL divergence 0.312 nats, 12.3% of the attention moved. "
                "Well made: exactly what plain quantization gives.",
                worst=[(layers - 1, heads - 1 - n, 0.5) for n in range(3)],
                facts=[("bits", "4.52")],
            )
        )
    words = ("▁Once", "▁upon", "▁a", "▁time", "▁there", "▁was", "▁an", "▁old", "▁tree", ".")
    return replace(
        *(a_page(),),
        title="Some model 8B: does quantized attention still match?",
        facts=[("model", "model.gguf: Some model 8B"), ("prompt", f"{tokens} tokens")],
        tokens=[words[n % 10] for n in range(tokens)],
        runs=runs,
        groups=dict.fromkeys(range(layers), heads // 4),
        next_tokens=[("▁and", (0.5, 0.4, 0.3, 0.2)), (".", (0.2, 0.2, 0.2, 0.3))],
        start=(3, layers - 1, heads - 1),
    )


@pytest.fixture(scope="module", params=SHAPES.values(), ids=[*SHAPES])
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All layers are the same one, so that it is packed only once."""
    packed: dict[tuple[int, int], Any] = {}

    def once(maps: Any, decimals: int, other: Any = None) -> Any:
        key = (id(maps), id(other))
        if key not in packed:
            packed[key] = pack(maps, decimals, other)
        return packed[key]

    page = large_page(*request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(html, "pack", once)
        return _written(tmp_path_factory.mktemp("page") / "large.html", page)


def _written(path: Path, page: Page) -> Path:
    path.write_text(page_html(page), encoding="utf-8")
    return path


class _Opened:
    """A page, and what went on in it."""

    def __init__(
        self,
        browser: Any,
        path: Path,
        size: tuple[int, int],
        scheme: str,
        *,
        address: str = "",
        until: str = "%",
    ) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.uri = path.as_uri()
        self.page = browser.new_page(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme
        )
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.goto(self.uri + address)
        self.page.locator("#readout", has_text=until).wait_for()
        self.page.locator("#grid[data-drawn]").wait_for()

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).inner_text())

    def box(self, selector: str) -> Any:
        return self.page.locator(selector).bounding_box()

    def close(self) -> None:
        """No request but that of the page itself, and nothing in the console."""
        assert [url for url in self.requests if not url.startswith(("blob:", "data:"))] == [
            self.uri
        ]
        assert self.complaints == []
        self.page.close()


@pytest.fixture(params=[(size, scheme) for size in SIZES for scheme in SCHEMES], ids=str)
def opened(request: pytest.FixtureRequest, browser: Any, compared: Path) -> Iterator[_Opened]:
    page = _Opened(browser, compared, *request.param)
    yield page
    page.close()


@pytest.fixture
def wide(browser: Any, compared: Path) -> Iterator[_Opened]:
    page = _Opened(browser, compared, (1280, 900), "light")
    yield page
    page.close()


def _inside(box: Any, size: tuple[int, int]) -> bool:
    right, below = box["x"] + box["width"], box["y"] + box["height"]
    return bool(box["x"] >= 0 and box["y"] >= 0 and right <= size[0] and below <= size[1])


@pytest.mark.parametrize("size", WIDE, ids=str)
def test_heads_maps_and_numbers_are_in_sight_together(
    browser: Any, large: Path, size: tuple[int, int]
) -> None:
    page = _Opened(browser, large, size, "light")
    seen = ["#candidates", "#grid", "#sentence-title", "#prompt", "#bars", "#readout"]
    seen += [f"#map-{kind}" for kind in KINDS]
    boxes = {selector: page.box(selector) for selector in seen}
    for selector, box in boxes.items():
        assert _inside(box, size), (selector, box)
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
    assert _inside(tip, size)
    assert abs(tip["x"] - maps[2]["x"] - 0.4 * maps[2]["width"]) < 400
    assert "points" in page.text("#tip")
    page.close()


def test_a_narrow_window_has_one_column_and_the_numbers_stay(browser: Any, large: Path) -> None:
    page = _Opened(browser, large, NARROW, "dark")
    places = ["#candidates", "#overview", *(f"#map-{kind}" for kind in KINDS), "#sentence", "#bars"]
    tops = [page.box(selector)["y"] for selector in places]
    assert tops == sorted(tops)
    assert page.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for kind in KINDS:
        canvas = page.page.locator(f"#map-{kind}")
        canvas.scroll_into_view_if_needed()
        box = page.box(f"#map-{kind}")
        assert 250 < box["width"] <= NARROW[0]
        assert _inside(page.box("#readout"), NARROW)
    page.close()


def test_it_opens_at_the_head_furthest_off_and_nothing_overflows(opened: _Opened) -> None:
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
    opened = _Opened(
        browser, _written(tmp_path / "page.html", page), (1280, 900), scheme, until="gives"
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


def test_the_words_of_the_scale_stand_where_the_colours_are(wide: _Opened) -> None:
    ticks = wide.page.evaluate(
        "() => ['reference', 'difference'].map((kind) => scaleOf(kind, 0.295, 0).ticks)"
    )
    assert [text for _, text in ticks[0]] == ["0", "1", "10", "25", "50", "100"]
    for at, text in ticks[0]:
        assert at**2 == pytest.approx(float(text) / 100)
    assert [text for _, text in ticks[1]] == ["−29.50", "−7.38", "0", "+7.38", "+29.50"]
    assert "points" in wide.text("#name-difference")


def test_a_move_of_the_pointer_draws_no_square_anew(browser: Any, large: Path) -> None:
    opened = _Opened(browser, large, (1280, 900), "light")
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


def test_one_key_swaps_reference_and_candidate_in_place(wide: _Opened) -> None:
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
    path = _written(tmp_path / "page.html", page)
    opened = _Opened(browser, path, (1280, 900), "light", address="#candidate=Q2_K&head=L0H1")
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
    opened = _Opened(browser, _written(tmp_path / "page.html", page), (1280, 900), "light")
    opened.page.get_by_role("link", name="L1H2").last.click()
    expect(opened.page.locator("#head-title")).to_have_text("Layer 1, head 2")
    assert opened.page.evaluate("[state.run, location.hash]") == [2, "#candidate=2&head=L1H2"]
    opened.close()


def test_maps_are_kept_as_pictures_and_numbers(wide: _Opened, tmp_path: Path) -> None:
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


def test_the_prompt_is_shaded_both_ways(wide: _Opened) -> None:
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
    opened = _Opened(browser, large, (1280, 900), "light")
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
    assert _inside(opened.box("#grid"), (1280, 900))
    opened.close()


def _odd_pages() -> dict[str, Page]:
    """Shapes at the edges: what a page has to bear."""
    source = a_page()
    cut = {0: window(shares(2, 20, 1), 5), 1: window(shares(4, 20, 2), 5)}
    near = {layer: 0.9 * maps + 0.1 * maps[::-1] for layer, maps in cut.items()}
    lonely = {7: np.ones((1, 1, 1))}
    nothing = {0: np.full((2, 3, 3), np.nan)}
    words = [f"▁{n}" for n in range(20)]
    runs = [PageRun("FP32", cut), PageRun("near", near)]
    return {
        "a long prompt, uneven heads": replace(
            source, tokens=words, runs=runs, groups={0: 1, 1: 2}, start=None
        ),
        "one token": replace(source, tokens=["a"], runs=[PageRun("one", lonely)]),
        "no numbers": replace(
            source, tokens=["a", "", " "], runs=[PageRun("p", nothing), PageRun("q", nothing)]
        ),
    }


@pytest.mark.parametrize("name", _odd_pages())
def test_odd_shapes_are_shown_too(browser: Any, tmp_path: Path, name: str) -> None:
    path = _written(tmp_path / "page.html", _odd_pages()[name])
    opened = _Opened(browser, path, (1280, 900), "light", until="gives")
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


def test_it_prints(wide: _Opened) -> None:
    wide.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert wide.page.pdf()[:5] == b"%PDF-"
    wide.page.emulate_media(media="print")
    for selector in ("#keep-png", "#layer", "#readout"):
        assert not wide.page.locator(selector).is_visible()
    assert wide.page.locator("#tables table").first.is_visible()
    assert wide.page.locator("#map-difference").is_visible()


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

    opened = _Opened(browser, compared, (1280, 900), "light")
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
    opened = _Opened(browser, alone, size, "dark")
    assert opened.page.locator("figure").count() == 1
    assert not opened.page.locator("#candidates").is_visible()
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    opened.close()
