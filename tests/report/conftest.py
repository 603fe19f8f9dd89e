"""Chromium, and pages that are open in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ggufscope.report import html
from ggufscope.report.html import Page
from ggufscope.report.packing import pack
from tests.report.browsing import SCHEMES, SIZES, Opened, large_page, written
from tests.report.test_html import a_page

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
    return written(tmp_path_factory.mktemp("page") / "compared.html", a_page())


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = a_page()
    run = page.runs[0]
    scores = page.runs[1].scores
    single = type(run)(run.name, run.maps, scores)
    path = tmp_path_factory.mktemp("page") / "alone.html"
    return written(path, Page(page.title, page.lead, page.facts, page.tokens, [single]))


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
        return written(tmp_path_factory.mktemp("page") / "large.html", page)


@pytest.fixture(params=[(size, scheme) for size in SIZES for scheme in SCHEMES], ids=str)
def opened(request: pytest.FixtureRequest, browser: Any, compared: Path) -> Iterator[Opened]:
    page = Opened(browser, compared, *request.param)
    yield page
    page.close()


@pytest.fixture
def wide(browser: Any, compared: Path) -> Iterator[Opened]:
    page = Opened(browser, compared, (1280, 900), "light")
    yield page
    page.close()
