"""Pages to open in a browser, and what the tests ask of one that is open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ggufscope.measure.maps import window
from ggufscope.report.html import Page, PageRun, page_html
from tests.report.test_html import a_page, shares

SIZES = [(1280, 900), (1600, 1000), (2560, 1300), (400, 800)]
WIDE, NARROW = SIZES[:3], SIZES[3]
SCHEMES = ["light", "dark"]
KINDS = ("reference", "candidate", "difference")


def written(path: Path, page: Page) -> Path:
    path.write_text(page_html(page), encoding="utf-8")
    return path


class Opened:
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


def inside(box: Any, size: tuple[int, int]) -> bool:
    right, below = box["x"] + box["width"], box["y"] + box["height"]
    return bool(box["x"] >= 0 and box["y"] >= 0 and right <= size[0] and below <= size[1])


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


def odd_pages() -> dict[str, Page]:
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
