"""Size against divergence as a picture in a page: SVG, no script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ggufscope.report.html import escaped
from ggufscope.report.plot import decades
from ggufscope.report.units import size

_WIDTH: Final = 800
_HEIGHT: Final = 440
_LEFT: Final = 76
_RIGHT: Final = 100
_TOP: Final = 16
_BOTTOM: Final = 48
_LINE: Final = 15
"""Height of a name."""
_NAME: Final = 62
"""Width of a name, about; one that would cover another is left out, the dot still has it."""
_TICKS: Final = 5


@dataclass(frozen=True, slots=True)
class Dot:
    """One file in the picture."""

    name: str
    nbytes: int
    divergence: float
    error: float
    """One standard error; 0 where there is none to show."""
    said: str
    """The divergence in words."""
    beaten: bool = False


def size_plot(dots: Sequence[Dot], curve: Sequence[tuple[int, float]], axis: str, hint: str) -> str:
    """Return a section with the picture; nothing where there are fewer than two dots to show.

    ``curve``: bytes and divergences by size, joined by a dashed line. ``axis``: what the two are.
    """
    shown = [dot for dot in dots if dot.divergence > 0 and math.isfinite(dot.divergence)]
    line = [(n, value) for n, value in curve if value > 0 and math.isfinite(value)]
    if len(shown) < 2:
        return ""
    low, high = decades([dot.divergence for dot in shown] + [value for _, value in line])
    sizes = [dot.nbytes for dot in shown] + [nbytes for nbytes, _ in line]
    smallest, largest = min(sizes), max(sizes)
    room, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def across(nbytes: float) -> float:
        return round(_LEFT + 8 + (room - 8) * (nbytes - smallest) / max(1, largest - smallest), 1)

    def down(number: float) -> float:
        level = math.log10(max(number, 10.0**low))
        return round(_TOP + tall * (high - level) / (high - low), 1)

    parts = []
    for power in range(low, high + 1):
        y = down(10.0**power)
        parts.append(f'<line x1="{_LEFT}" y1="{y}" x2="{_WIDTH - _RIGHT}" y2="{y}"/>')
        label = f"{10.0**power:g}"
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{label}</text>')
    for tick in range(_TICKS):
        nbytes = smallest + (largest - smallest) * tick / (_TICKS - 1)
        y = _HEIGHT - _BOTTOM + 18
        label = size(round(nbytes))
        parts.append(f'<text x="{across(nbytes)}" y="{y}" text-anchor="middle">{label}</text>')
    centre = _LEFT + room / 2
    parts.append(
        f'<text x="{centre}" y="{_HEIGHT - 8}" text-anchor="middle">{escaped(axis)}</text>'
    )
    joined = " ".join(f"{across(nbytes)},{down(value)}" for nbytes, value in line)
    parts.append(f'<polyline class="frontier" points="{joined}"/>')
    taken: list[tuple[float, float]] = []
    for dot in sorted(shown, key=lambda dot: dot.beaten):
        kind = "beaten" if dot.beaten else "kept"
        x, y = across(dot.nbytes), down(dot.divergence)
        if dot.error:
            ends = down(dot.divergence + dot.error), down(dot.divergence - dot.error)
            parts.append(f'<line class="{kind}" x1="{x}" y1="{ends[0]}" x2="{x}" y2="{ends[1]}"/>')
        title = escaped(f"{dot.name}: {size(dot.nbytes)}, {dot.said}")
        parts.append(
            f'<circle class="{kind}" cx="{x}" cy="{y}" r="4"><title>{title}</title></circle>'
        )
        at = _label_place(x, y, taken)
        if at is not None:
            label = f'<text class="{kind}" x="{x + 8:.1f}" y="{at}">'
            parts.append(f"{label}{escaped(dot.name)}</text>")
    body = "\n".join(parts)
    return (
        '<section id="plot" aria-labelledby="plot-title">\n'
        '<h2 id="plot-title">Size against divergence</h2>\n'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="plot-title">\n'
        f"{body}\n</svg>\n"
        f'<p class="hint">{escaped(hint)}</p>\n</section>'
    )


def _label_place(x: float, y: float, taken: list[tuple[float, float]]) -> float | None:
    """Return where a name stands beside its dot, clear of the names before it, if anywhere."""
    for step in (0, -1, 1):
        at = round(y + 4 + step * _LINE, 1)
        if all(abs(x - other) > _NAME or abs(at - there) >= _LINE - 1 for other, there in taken):
            taken.append((x, at))
            return at
    return None
