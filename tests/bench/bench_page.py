"""The page at the size of a real model: `python -m tests.bench.bench_page`.

32 layers of 32 heads and three candidates: bytes, time to write; in Chromium (the extra `browser`)
the time until the maps stand, of a move of the pointer, and of choosing a head.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ggufscope.report.html import Page, PageRun, page_html
from tests.bench.common import where
from tests.report.test_html import a_page, shares

LAYERS, HEADS = 32, 32
TOKENS = (52, 147)

_WATCH = """
window.bench = {};
new MutationObserver((_, observer) => {
  const readout = document.getElementById("readout");
  if (!readout || !readout.textContent.includes("%")) return;
  window.bench.maps = performance.now();
  observer.disconnect();
}).observe(document, { childList: true, subtree: true });
"""
# Each with its layout; the median and the slowest.
_MOVES = """
() => {
  const canvas = document.getElementById("map-reference");
  const box = canvas.getBoundingClientRect();
  const times = [...Array(99).keys()].map((n) => {
    const clientX = box.left + box.width * (0.05 + 0.004 * n);
    const clientY = box.top + box.height * (0.5 + 0.005 * n);
    const move = { clientX, clientY, pointerType: "mouse" };
    canvas.dispatchEvent(new PointerEvent("pointermove", move));
    const start = performance.now();
    follow();
    document.body.getBoundingClientRect();
    return performance.now() - start;
  });
  times.sort((a, b) => a - b);
  return [times[49], times[98]];
}
"""
_CHOICES = """
async () => {
  const times = [];
  for (let n = 0; n < 21; n += 1) {
    const start = performance.now();
    state.layer = (5 * n) % 32;
    state.head = (7 * n) % 32;
    await showHead();
    document.body.getBoundingClientRect();
    times.push(performance.now() - start);
  }
  times.sort((a, b) => a - b);
  return [times[10], times[20]];
}
"""


def large_page(tokens: int) -> Page:
    """Heads that look here and there, and candidates a little and further off."""
    runs: list[dict[int, Any]] = [{} for _ in range(4)]
    for layer in range(LAYERS):
        p, q = (shares(HEADS, tokens, 2 * layer + n) for n in range(2))
        for run, part in zip(runs, (0.0, 0.002, 0.02, 0.1), strict=True):
            run[layer] = ((1 - part) * p + part * q).astype(np.float32)
    names = ("FP32", "Q8_0", "Q4_K", "Q2_K")
    page_runs = [PageRun(name, maps) for name, maps in zip(names, runs, strict=True)]
    words = [f"▁word{n}" for n in range(tokens)]
    return replace(a_page(), tokens=words, runs=page_runs, start=(3, 0, 0))


def in_browser(path: Path) -> None:
    """Print how fast a page is for whoever looks at it."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.add_init_script(_WATCH)
        page.goto(path.as_uri())
        page.locator("#grid[data-drawn]").wait_for()
        first, maps, heads = page.evaluate(
            "[performance.getEntriesByType('paint')[0].startTime, bench.maps, performance.now()]"
        )
        print(f"  first paint {first:6.0f} ms, maps {maps:6.0f} ms, all heads {heads:6.0f} ms")
        for what, script in (("move of the pointer", _MOVES), ("another head", _CHOICES)):
            median, slowest = page.evaluate(script)
            print(f"  {what:<20} {median:6.1f} ms, the slowest {slowest:6.1f} ms")
        browser.close()


def main() -> None:
    """Print sizes and times."""
    print(where())
    for tokens in TOKENS:
        page = large_page(tokens)
        start = time.process_time()
        text = page_html(page)
        took = time.process_time() - start
        print(f"{LAYERS} x {HEADS} heads, {tokens} tokens, 3 candidates:")
        print(f"  {len(text.encode()) / 1e6:.2f} MB, written in {took:.1f} s")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "page.html"
            path.write_text(text, encoding="utf-8")
            in_browser(path)


if __name__ == "__main__":
    main()
