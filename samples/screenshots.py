"""Pictures of the pages of `attention` and `compare-attention`, for the README and the guide.

`python samples/screenshots.py` writes them beside this file, from `stories-f16.gguf` and the first
story of `heldout.txt`. It needs the extra `browser` and Chromium, as the tests of the page do; the
environment variable CHROMIUM may say where that is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SIZE = {"width": 1280, "height": 900}
PICTURES = {
    "compare-attention": ("#candidate=Q2_K", "#map-candidate", "light"),
    "attention": ("#head=L3H6", "#map-reference", "dark"),
}
"""Command -> the address, the map that is pointed at, and the scheme."""


def write_pages(folder: Path) -> None:
    """Write the page of each command."""
    story = (HERE / "heldout.txt").read_text(encoding="utf-8").splitlines()[0]
    for command in PICTURES:
        arguments = ["--prompt", story, "--html", str(folder / f"{command}.html"), "--quiet"]
        model = str(HERE / "stories-f16.gguf")
        subprocess.run(
            [sys.executable, "-m", "ggufscope", command, model, *arguments],
            stdout=subprocess.DEVNULL,
            check=True,
        )


def take_pictures(folder: Path) -> None:
    """Open each page, point at a square, and take a picture of what is in sight."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for command, (address, map_, scheme) in PICTURES.items():
            page = browser.new_page(viewport=SIZE, color_scheme=scheme)
            page.goto((folder / f"{command}.html").as_uri() + address)
            page.locator("#grid[data-drawn]").wait_for()
            box = page.locator(map_).bounding_box()
            page.mouse.move(box["x"] + 0.31 * box["width"], box["y"] + 0.735 * box["height"])
            page.locator("#tip").wait_for()
            page.screenshot(path=HERE / f"{command}.png")
        browser.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        write_pages(Path(folder))
        take_pictures(Path(folder))
