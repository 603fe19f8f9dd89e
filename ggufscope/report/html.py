"""One page to browse every head of a run, or of a reference and its candidates.

A single HTML file: style, script and data are in it, and it asks no network for anything. Each
layer of each run is packed (see ``pack``) and unpacked in the browser when it is looked at.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ggufscope.report.units import printable

Maps = Mapping[int, npt.NDArray[np.floating[Any]]]

_FULL: Final = 65535
"""What a share of 1 is stored as."""


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
    """Of each candidate; of the run itself where there is only one."""
    accepted: bool | None = None
    """Whether a candidate will do; None where that is for the reader to judge."""
    level: str = ""
    """How large its effect is, in a word."""
    verdict: str = ""
    """The verdict in words."""
    facts: Sequence[tuple[str, str]] = ()


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
    start: tuple[int, int, int] | None = None
    """Run, layer and head to open with; by default the first run's or candidate's highest score."""


def pack(
    maps: npt.NDArray[np.floating[Any]], reference: npt.NDArray[np.floating[Any]] | None = None
) -> str:
    """Shares (H, R, C), causal -> text: 16 bits each, what is right of the diagonal left out.

    C is R, or R + 1 with a column for earlier tokens. Of a candidate its distance to the reference
    is stored, modulo 2^16, small distances of either sign as small numbers; then all low bytes, all
    high bytes, zlib, base64. Resolution 1/65535.
    """
    rows, columns = maps.shape[-2:]
    seen = np.tri(rows, columns, columns - rows, dtype=np.bool_)
    levels = _levels(maps[:, seen])
    if reference is not None:
        steps = (levels - _levels(reference[:, seen])).astype(np.uint16).view(np.int16)
        levels = ((steps << 1) ^ (steps >> 15)).view(np.uint16).astype(np.int32)
    flat = levels.reshape(-1)
    planes = np.concatenate([flat & 0xFF, flat >> 8]).astype(np.uint8)
    return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode("ascii")


def _levels(shares: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.int32]:
    near = np.nan_to_num(np.rint(np.asarray(shares, np.float64) * _FULL))
    levels: npt.NDArray[np.int32] = np.clip(near, 0, _FULL).astype(np.int32)
    return levels


def page_html(page: Page) -> str:
    """Return the whole page as text. Maps of all runs have the same layers, heads and window."""
    assets = files("ggufscope.report") / "page"

    def asset(name: str) -> str:
        return (assets / name).read_text(encoding="utf-8")

    return Template(asset("page.html")).substitute(
        title=_text(page.title),
        lead=_text(page.lead),
        facts=facts_html(page.facts),
        cards=_cards(page.runs),
        tables="\n".join(table_html(table) for table in page.tables),
        style=asset("page.css"),
        script=asset("page.js"),
        data=_json(page),
    )


def _json(page: Page) -> str:
    reference = page.runs[0]
    first_map = next(iter(reference.maps.values()))
    shown = first_map.shape[-2]
    data = {
        "tokens": [printable(token) for token in page.tokens[len(page.tokens) - shown :]],
        "first": len(page.tokens) - shown,
        "layers": list(reference.maps),
        "heads": [len(maps) for maps in reference.maps.values()],
        "start": page.start,
        "runs": [
            {
                "name": printable(run.name),
                "maps": [
                    pack(maps, None if run is reference else reference.maps[layer])
                    for layer, maps in run.maps.items()
                ],
                "scores": [_score(score, list(reference.maps)) for score in run.scores],
            }
            for run in page.runs
        ],
    }
    # In a script element no text may look like its end.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _score(score: PageScore, layers: Sequence[int]) -> dict[str, Any]:
    values = [
        [round(float(v), 8) if np.isfinite(v) else None for v in score.values[layer]]
        for layer in layers
    ]
    return {
        "name": score.name,
        "caption": score.caption,
        "percent": score.percent,
        "values": values,
    }


def _text(text: str) -> str:
    return escape(printable(text))


def facts_html(facts: Sequence[tuple[str, str]]) -> str:
    """Return facts as rows of a ``dl``: a word, and what there is to say."""
    rows = (f"<div><dt>{_text(word)}</dt><dd>{_text(fact)}</dd></div>" for word, fact in facts)
    return "\n".join(rows)


def _cards(runs: Sequence[PageRun]) -> str:
    """Return one card a candidate, each the label of a radio button that chooses it."""
    cards = []
    for number, run in enumerate(runs[1:], 1):
        kind = {True: "good", False: "bad", None: "open"}[run.accepted]
        sign = {True: "✓ ", False: "✗ ", None: ""}[run.accepted]
        word = f"{sign}{_text(run.level)}"
        checked = " checked" if number == 1 else ""
        cards.append(
            f'<label class="card {kind}"><span class="pick">'
            f'<input type="radio" name="candidate" value="{number}"{checked}>'
            f"<strong>{_text(run.name)}</strong></span>"
            f'<span class="verdict">{word}</span>'
            f'<span class="why">{_text(run.verdict)}</span><dl>{facts_html(run.facts)}</dl></label>'
        )
    return "\n".join(cards)


def table_html(table: PageTable) -> str:
    """Return a table, in a frame that scrolls by itself where it is too wide."""
    head = "".join(f'<th scope="col">{_text(word)}</th>' for word in table.head)
    rows = "\n".join(
        f'<tr><th scope="row">{_text(row[0])}</th>'
        + "".join(f"<td>{_text(text)}</td>" for text in row[1:])
        + "</tr>"
        for row in table.rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{_text(table.title)}">'
        f"<table><caption>{_text(table.title)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table></div>"
    )
