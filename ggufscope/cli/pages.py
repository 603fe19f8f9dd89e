"""``--html`` and ``--open``: a page written, and opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from ggufscope.cli.options import warn
from ggufscope.errors import BadUsage

if TYPE_CHECKING:
    from ggufscope.report.html import Page

OpenPage = Annotated[bool, Option("--open", help="Open the page in the browser.")]


def require_page_to_open(html: Path | None, *, open_page: bool) -> None:
    """Raise ``BadUsage`` where a page is to be opened that is not to be written."""
    if open_page and html is None:
        raise BadUsage("--open has no page to open", hint="name one: --html FILE")


def write_page(path: Path, page: Page, *, overwrite: bool) -> None:
    """Write a page; of a large one the size is said first. Raises a ``WriteError``."""
    from ggufscope.report.html import large_page, page_html
    from ggufscope.report.saving import write_text

    text = page_html(page)
    words = large_page(text)
    if words is not None:
        warn(words)
    write_text(path, text, overwrite=overwrite)


def open_in_browser(path: Path) -> None:
    """Open a page in the browser of whoever asks; where there is none, say so."""
    import webbrowser

    if not webbrowser.open(path.absolute().as_uri()):
        warn(f"no browser was found to open {path}")
