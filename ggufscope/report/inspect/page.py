"""One tensor as a page: its weights as a picture, their spread, and what other types would cost.

A single HTML file without any script; it asks no network for anything.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Sequence
from html import escape
from typing import Final

import numpy as np

from ggufscope.arrays import Floats
from ggufscope.measure.costs import Cost, Costs
from ggufscope.measure.statistics import Statistics
from ggufscope.report.html import PageTable, escaped, facts_html, filled, table_html
from ggufscope.report.inspect.facts import Inspected, how_tried, number_facts, tensor_facts
from ggufscope.report.units import bits, percent, size, small

_ENDS: Final = np.array([[33, 102, 172], [244, 244, 244], [178, 70, 10]], np.float64)
"""Below zero, zero, above: the colours of the page's other maps, light enough for any ground."""
_NO_NUMBER: Final = (216, 27, 96)
_SPREAD: Final = 3.0
"""Deviations that the full colours stand for."""
_WIDTH: Final = 640
_HEIGHT: Final = 220
_PLOT: Final = 400
_LABEL: Final = (56, 12)
"""The room that a label takes: one that would cover another is left out; the point still has it."""


def inspect_page(found: Inspected, shown: Floats | None) -> str:
    """Return the page; ``shown`` is what ``measure.picture`` made of the weights."""
    own = found.part.tensor.type.name
    return filled(
        "inspect.html",
        title=escaped(found.name),
        lead=escaped(f"A tensor of {found.part.tensor.shard.source.path.name}."),
        facts=facts_html(tensor_facts(found)),
        picture=_picture(found, shown),
        numbers=facts_html(number_facts(found)),
        histogram=_histogram(found.statistics) if found.statistics.finite else "",
        plot=_plot(found.costs.costs, own),
        costs=table_html(_costs(found.costs, own)),
        how=escape(how_tried(found)),
    )


def _picture(found: Inspected, shown: Floats | None) -> str:
    if shown is None:
        return "<p>A row is too long for a picture.</p>"
    s, part = found.statistics, found.part
    reach = _SPREAD * s.root_mean_square
    encoded = base64.b64encode(png(shown, reach)).decode("ascii")
    cells = "" if shown.size == part.n else " Of each cell the weight of the largest magnitude."
    wide = min(60.0, 36 * shown.shape[1] / shown.shape[0])
    style = "height: 4rem" if len(shown) == 1 else f"width: {wide:.1f}rem"
    size_ = f"{part.rows:,} rows and {part.row:,} columns of weights"
    return (
        f'<img style="{style}" alt="{size_}, from blue below zero to brown above" '
        f'src="data:image/png;base64,{encoded}">'
        f'<p class="legend"><span>{small(-reach)}</span><i></i><span>{small(reach)}</span></p>'
        f'<p class="hint">{size_}.{cells}</p>'
    )


def png(values: Floats, reach: float) -> bytes:
    """Values (h, w) -> a PNG picture: colours from -reach to reach, what is no number in pink."""
    t = np.clip(values / reach, -1, 1).astype(np.float64) if reach else np.zeros(values.shape)
    lost = ~np.isfinite(t)
    t = np.where(lost, 0.0, t)
    side = np.where((t < 0)[..., None], _ENDS[0], _ENDS[2])
    mixed = _ENDS[1] + (side - _ENDS[1]) * np.abs(t)[..., None]
    colours = np.rint(mixed).astype(np.uint8)
    colours[lost] = _NO_NUMBER
    h, w = values.shape
    lines = np.zeros((h, 1 + 3 * w), np.uint8)  # each line begins with its filter: none
    lines[:, 1:] = colours.reshape(h, -1)
    head = struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _histogram(s: Statistics) -> str:
    most, step = max(*s.counts, 1), _WIDTH / len(s.counts)
    bars = "".join(
        f'<rect x="{n * step:.1f}" y="{_HEIGHT * (1 - count / most):.1f}" '
        f'width="{step - 1:.1f}" height="{_HEIGHT * count / most:.1f}"/>'
        for n, count in enumerate(s.counts)
    )
    ends = _text(0, _HEIGHT + 16, small(s.edges[0]), "start")
    ends += _text(_WIDTH, _HEIGHT + 16, small(s.edges[1]), "end")
    words = f"Histogram from {small(s.edges[0])} to {small(s.edges[1])}"
    beyond = f"<p class='hint'>{s.below:,} weights are below, {s.above:,} above.</p>"
    return _svg(words, bars + ends, _HEIGHT + 20) + beyond


def _plot(costs: Sequence[Cost], own: str) -> str:
    """Return bits across, the error down on a logarithmic scale: a point for each type."""
    points = [
        (cost.type, cost.bits_per_weight, cost.error.relative)
        for cost in costs
        if cost.error is not None and cost.type != own and 0 < cost.error.relative < math.inf
    ]
    if not points:
        return ""
    widths = [math.log2(width) for _, width, _ in points]
    logs = [math.log10(error) for *_, error in points]
    least, most = min(widths), max(widths)
    low, high = math.floor(min(logs)), math.ceil(max(logs) + 1e-9)

    def x(width: float) -> float:
        return 60 + (_WIDTH - 120) * (width - least) / max(most - least, 1e-9)

    def y(log: float) -> float:
        return 10 + (_PLOT - 40) * (high - log) / max(high - low, 1)

    parts = [
        f'<line x1="50" x2="{_WIDTH}" y1="{y(n):.1f}" y2="{y(n):.1f}"/>'
        + _text(44, y(n) + 4, percent(10.0**n), "end")
        for n in range(low, high + 1)
    ]
    parts += [
        _text(x(math.log2(bits_)), _PLOT - 8, f"{bits_} bits", "middle")
        for bits_ in (1, 2, 3, 4, 6, 8, 16)
        if least <= math.log2(bits_) <= most
    ]
    labels: list[tuple[float, float]] = []
    for (name, width, error), across, log in zip(points, widths, logs, strict=True):
        at = x(across), y(log)
        words = escape(f"{name}: {bits(width)} bits, {percent(error)}")
        place = f'cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="4"'
        parts.append(f"<circle {place}><title>{words}</title></circle>")
        if all(abs(at[0] - u) > _LABEL[0] or abs(at[1] - v) > _LABEL[1] for u, v in labels):
            labels.append(at)
            parts.append(_text(at[0] + 7, at[1] + 4, name, "start"))
    return _svg("Error against bits a weight, of each type", "".join(parts), _PLOT)


def _svg(words: str, inside: str, height: int) -> str:
    frame = f'viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(words)}"'
    return f"<svg {frame}>{inside}</svg>"


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _costs(costs: Costs, own: str) -> PageTable:
    rows = []
    for cost in costs.costs:
        error = percent(cost.error.relative) if cost.error else "not made"
        error = "as it is" if cost.type == own else error
        rows.append((cost.type, bits(cost.bits_per_weight), size(cost.nbytes), error))
    return PageTable("Each type", ("type", "bits a weight", "size", "error"), rows)
