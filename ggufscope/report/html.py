"""One page to browse every head of a run, or of a reference and its candidates.

A single HTML file: style, script and data are in it, and it asks no network for anything. Each
layer of each run is packed (see ``packing.py``) and unpacked in the browser when it is looked at.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template
from typing import Any, Final
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from ggufscope.report.packing import decimals_of, pack
from ggufscope.report.units import decimal_size, percent, printable

Maps = Mapping[int, npt.NDArray[np.floating[Any]]]

_SCRIPTS: Final = (
    *("data.js", "colour.js", "state.js", "maps.js", "pointer.js", "heads.js"),
    *("sentence.js", "keep.js", "start.js"),
)
"""The page's script, in the order in which its parts build on each other."""
_STYLE: Final = "page.css"
LARGE: Final = 20_000_000
"""Bytes of a page that its reader should know of beforehand."""


@dataclass(frozen=True, slots=True)
class PageScore:
    """A number for every head: what the overview is shaded by."""

    name: str
    caption: str
    values: Mapping[int, Sequence[float]]
    """Layer -> one number a head."""
    percent: bool = True
    """Whether the numbers are shares, to be read in percent."""


@dataclass(frozen=True, slots=True)
class PageRun:
    """One run of the model: the reference, or a candidate."""

    name: str
    maps: Maps
    """Layer -> ``kq_soft_max`` (H, T, T), cut as ``maps.window`` cuts a long prompt."""
    scores: Sequence[PageScore] = ()
    """What changed in each candidate; of the first run what its heads do."""
    accepted: bool | None = None
    """Whether a candidate will do; None where that is for the reader to judge."""
    level: str = ""
    """How large its effect is, in a word."""
    verdict: str = ""
    """The verdict in words."""
    facts: Sequence[tuple[str, str]] = ()
    worst: Sequence[tuple[int, int, float]] = ()
    """Layer, head and how much of its attention moved, the worst head first."""


@dataclass(frozen=True, slots=True)
class PageTable:
    """A table below the pictures. The first column holds names, the others numbers."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Page:
    """What a page shows. The first run is the reference; those after it are its candidates."""

    title: str
    lead: str
    """A sentence under the title."""
    facts: Sequence[tuple[str, str]]
    tokens: Sequence[str]
    """All T tokens of the prompt."""
    runs: Sequence[PageRun]
    tables: Sequence[PageTable] = ()
    notes: Sequence[tuple[str, str]] = ()
    """Words and what they mean, under "How to read this"."""
    groups: Mapping[int, int] = field(default_factory=dict)
    """Layer -> its KV heads, where several heads share one."""
    next_tokens: Sequence[tuple[str, Sequence[float]]] = ()
    """Tokens that may come next, the likeliest first, and how likely each run holds them."""
    start: tuple[int, int, int] | None = None
    """Run, layer and head to open with; by default the first run's or candidate's highest score."""


def page_html(page: Page) -> str:
    """Return the whole page as text. Maps of all runs have the same layers, heads and window."""
    script = "".join(map(_asset, _SCRIPTS))
    return filled(
        "page.html",
        title=escaped(page.title),
        lead=escaped(page.lead),
        facts=facts_html(page.facts),
        notes=facts_html(page.notes),
        cards=_cards(page.runs),
        tables="\n".join(table_html(table) for table in page.tables),
        style_hash=_hash(_asset(_STYLE)),
        script=script,
        script_hash=_hash(script),
        data=_json(page),
    )


def filled(name: str, **parts: str) -> str:
    """Return the page of this file with the style of all pages, filled with parts of HTML."""
    return Template(_asset(name)).substitute(parts, style=_asset(_STYLE))


def _asset(name: str) -> str:
    return (files("ggufscope.report") / "page" / name).read_text(encoding="utf-8")


def large_page(text: str) -> str | None:
    """Return what to say of a page that is large, and how to have a smaller one."""
    nbytes = len(text.encode())
    if nbytes <= LARGE:
        return None
    return (
        f"the page takes {decimal_size(nbytes)}, and some seconds to open; "
        "a shorter prompt or fewer candidates make a smaller one"
    )


def _hash(text: str) -> str:
    """Return what the content policy knows a style or a script by, so that no other is run."""
    return f"sha256-{base64.b64encode(sha256(text.encode()).digest()).decode('ascii')}"


def _json(page: Page) -> str:
    reference = page.runs[0]
    first_map = next(iter(reference.maps.values()))
    shown = first_map.shape[-2]
    cells = sum(maps.size for run in page.runs for maps in run.maps.values()) // 2
    decimals = decimals_of(cells)
    data = {
        "tokens": [printable(token) for token in page.tokens[len(page.tokens) - shown :]],
        "first": len(page.tokens) - shown,
        "layers": list(reference.maps),
        "heads": [len(maps) for maps in reference.maps.values()],
        "groups": [page.groups.get(layer, len(maps)) for layer, maps in reference.maps.items()],
        "decimals": decimals,
        "start": page.start,
        "next": [[printable(token), *map(_number, shares)] for token, shares in page.next_tokens],
        "runs": [_run(run, reference, decimals) for run in page.runs],
    }
    # In a script element no text may look like its end.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _run(run: PageRun, reference: PageRun, decimals: int) -> dict[str, Any]:
    packed = [
        pack(maps, decimals, None if run is reference else reference.maps[layer])
        for layer, maps in run.maps.items()
    ]
    return {
        "name": printable(run.name),
        "maps": [each.text for each in packed],
        "finer": [each.finer for each in packed],
        "largest": [[_number(n) for n in each.largest] for each in packed],
        "scores": [_score(score, list(reference.maps)) for score in run.scores],
    }


def _number(number: float) -> float | None:
    return float(f"{number:.7g}") if np.isfinite(number) else None


def _score(score: PageScore, layers: Sequence[int]) -> dict[str, Any]:
    values = [[_number(v) for v in score.values[layer]] for layer in layers]
    return {
        "name": score.name,
        "caption": score.caption,
        "percent": score.percent,
        "values": values,
    }


def escaped(text: str) -> str:
    """Return text as it stands in a page."""
    return escape(printable(text))


def facts_html(facts: Sequence[tuple[str, str]]) -> str:
    """Return facts as rows of a ``dl``: a word, and what there is to say."""
    rows = (f"<div><dt>{escaped(word)}</dt><dd>{escaped(fact)}</dd></div>" for word, fact in facts)
    return "\n".join(rows)


def _cards(runs: Sequence[PageRun]) -> str:
    """Return one card a candidate: a radio button that chooses it, the verdict, the worst heads."""
    cards = []
    for number, run in enumerate(runs[1:], 1):
        kind = {True: "good", False: "bad", None: "open"}[run.accepted]
        sign = {True: "✓ ", False: "✗ ", None: ""}[run.accepted]
        checked = " checked" if number == 1 else ""
        facts = " · ".join(f"{escaped(fact)} {escaped(word)}" for word, fact in run.facts)
        cards.append(
            f'<div class="card {kind}"><label class="pick">'
            f'<input type="radio" name="candidate" value="{number}"{checked}>'
            f"<strong>{escaped(run.name)}</strong>"
            f' <span class="verdict">{sign}{escaped(run.level)}</span>'
            f'<span class="numbers">{facts}</span></label>'
            f'<p class="why">{escaped(run.verdict)}</p>{_worst(run, _address(runs, number))}</div>'
        )
    return "\n".join(cards)


def _address(runs: Sequence[PageRun], number: int) -> str:
    """Return what the page knows a run by: its name, or its number where two have that name."""
    name = printable(runs[number].name)
    alike = sum(printable(run.name) == name for run in runs)
    return quote(name if alike == 1 else str(number), safe="")


def _worst(run: PageRun, name: str) -> str:
    """Return links to the heads that moved most."""
    if not run.worst:
        return ""
    links = " ".join(
        f'<a href="#candidate={name}&amp;head=L{layer}H{head}">L{layer}H{head} {percent(moved)}</a>'
        for layer, head, moved in run.worst
    )
    return f'<p class="worst">Most moved: {links}</p>'


def table_html(table: PageTable) -> str:
    """Return a table, in a frame that scrolls by itself where it is too wide."""
    head = "".join(f'<th scope="col">{escaped(word)}</th>' for word in table.head)
    rows = "\n".join(
        f'<tr><th scope="row">{escaped(row[0])}</th>'
        + "".join(f"<td>{escaped(text)}</td>" for text in row[1:])
        + "</tr>"
        for row in table.rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escaped(table.title)}">'
        f"<table><caption>{escaped(table.title)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table></div>"
    )
