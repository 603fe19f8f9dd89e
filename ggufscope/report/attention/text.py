"""What ``ggufscope attention`` shows: one head's matrix, what tokens look at, what heads do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Final

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.console import RenderableType

from ggufscope.measure.patterns import HABITS, Habits, most_attended, sorted_heads
from ggufscope.measure.verify import Finding
from ggufscope.measure.watching import Map, Spotlight, Watched, take_last_rows
from ggufscope.model.summary import Summary
from ggufscope.report.console import cell, facts, left, paragraph, plain_table, right, title
from ggufscope.report.heatmap import SHADES, heatmap
from ggufscope.report.html import Page, PageRun, PageScore, fold_columns
from ggufscope.report.units import count

TOKENS_NAMED: Final = 48
"""Tokens of the prompt that are printed; ``--json`` has all."""
_NAMED: Final = 0.005
"""The least share that is named: what rounds to 0% says nothing."""
_SHARE: Final = len("100%")
_HABITS_NOTE: Final = "L2 H5 is head 5 of layer 2; mean over all tokens but the first"
ROWS: Final = 24
"""Tokens whose favourites are printed: the last ones."""
HEADS: Final = 8
"""Heads that are printed for each thing that heads do."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What was run: a model's name and facts, and a prompt."""

    path: Path
    summary: Summary
    text: str | None
    """None where token numbers were given."""
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    """A printable label of each."""
    label: Callable[[int], str]
    """The label of any token of the vocabulary."""

    @property
    def file_name(self) -> str:
        """The name of its file, without the folder."""
        return self.path.name


def head_views(subject: Subject) -> Iterator[RenderableType]:
    """Give the model and the tokens."""
    yield facts([*_model_facts(subject), ("prompt", _prompt(subject))])


def _model_facts(subject: Subject) -> list[tuple[str, str]]:
    summary = subject.summary
    named = f"{summary.name}, " if summary.name else ""
    words = f"{named}{summary.architecture}, {count(summary.n_elements)} parameters"
    rows = [("model", f"{subject.file_name}: {words}")]
    if summary.hparams:
        rows.append(("attention", f"{summary.hparams.block_count} layers; {summary.attention}"))
    return rows


def _prompt(subject: Subject) -> str:
    named = " ".join(subject.tokens[:TOKENS_NAMED])
    more = len(subject.tokens) - TOKENS_NAMED
    tail = f" ... and {more} more" if more > 0 else ""
    return f"{_counted(subject)}: {named}{tail}"


def _counted(subject: Subject) -> str:
    return f"{len(subject.ids)} token{'s' if len(subject.ids) > 1 else ''}"


def views(
    watched: Watched,
    spotlight: Spotlight,
    subject: Subject,
    *,
    width: int,
    shades: str = SHADES,
) -> Iterator[RenderableType]:
    """Give the matrix, what each token attends to most, what the heads do, and what comes next."""
    yield title(f"{_whose(spotlight)}: what each token attends to")
    yield from heatmap(spotlight.matrix, subject.tokens, width=width, shades=shades)
    if np.isnan(spotlight.matrix).any():
        yield paragraph("Some shares are no numbers: what the model computes overflows float32.")
    yield title("What each token attends to most, in this picture")
    yield _favourites(spotlight.matrix, subject, width)
    yield title("What the heads do: how much of their attention goes to ...")
    yield _habits_table(_chosen(watched, spotlight))
    yield paragraph(_HABITS_NOTE, "dim")
    yield title("What the model holds likely to come next")
    yield paragraph(
        ", ".join(
            f"{subject.label(token)} {_percent(share)}"
            for token, share in next_tokens(watched)
            if share >= _NAMED
        )
        or "nothing more than anything else"
    )
    yield ""


def next_tokens(watched: Watched) -> list[tuple[int, float]]:
    """Give the likeliest tokens after the prompt."""
    return watched.next_tokens(5)


def _whose(spotlight: Spotlight) -> str:
    if spotlight.head is None:
        return f"Layer {spotlight.layer}, mean of its heads"
    return f"Layer {spotlight.layer}, head {spotlight.head}"


def _chosen(watched: Watched, spotlight: Spotlight) -> Mapping[int, Habits]:
    """Give the layers whose heads are compared: one that was asked for, or all."""
    if spotlight.head is None:
        return {spotlight.layer: watched.habits[spotlight.layer]}
    return watched.habits


def _favourites(matrix: Map, subject: Subject, width: int) -> RenderableType:
    table = plain_table(right("#"), left("token"), left("most"), left("then"), left("then"))
    first = max(0, len(subject.ids) - ROWS)
    if first:
        table.add_row("", cell(f"({first} before)", "dim"))
    digits = len(str(len(subject.ids) - 1))
    token_room = min(16, max(map(cell_len, subject.tokens[first:])))
    room = max(4, (width - digits - token_room - 3 * (_SHARE + digits + 2) - 8) // 3)
    shown = matrix[first - len(subject.ids) + len(matrix) :]
    for n, best in enumerate(most_attended(shown, 3), first):
        named = [
            f"{_percent(share):>{_SHARE}} {m:>{digits}} {_cut(subject.tokens[m], room)}"
            for m, share in best
            if share >= _NAMED
        ]
        token = cell(_cut(subject.tokens[n], token_room))
        table.add_row(str(n), token, *map(cell, (*named, *[""] * (3 - len(named)))))
    return table


def _cut(label: str, room: int) -> str:
    """Give a label that takes no more than ``room`` columns."""
    return label if cell_len(label) <= room else set_cell_size(label, room - 1).rstrip() + "…"


def _habits_table(habits: Mapping[int, Habits]) -> RenderableType:
    table = plain_table(*(left(words) for words in HABITS.values()))
    columns = [sorted_heads(dict(habits), name)[:HEADS] for name in HABITS]
    cells = [[_head(found) for found in column] or ["(none here)"] for column in columns]
    for row in zip_longest(*cells, fillvalue=""):
        table.add_row(*row)
    return table


def _head(found: tuple[int, int, float]) -> str:
    layer, head, share = found
    return f"L{layer} H{head} {_percent(share):>4}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def verify_views(findings: Sequence[Finding]) -> Iterator[RenderableType]:
    """Give the identities, how far the model is from each, and the verdict."""
    yield title("What must hold, held against this model")
    table = plain_table(left("identity"), right("residual"), right("at most"), left(""))
    for each in findings:
        verdict = "holds" if each.holds else "FAILS"
        if not each.holds and each.layer is not None:
            verdict += f" in L{each.layer}"
        style = "green" if each.holds else "bold red"
        limit = f"{each.tolerance:.0e}" if each.tolerance else "0"
        residual = f"{each.residual:.1e}" if each.residual else "0"
        table.add_row(each.statement, residual, limit, cell(verdict, style))
    yield table
    yield ""
    failed = sum(not each.holds for each in findings)
    yield paragraph(f"{failed} of {len(findings)} fail" if failed else f"all {len(findings)} hold")
    yield ""


class PageMaps:
    """Keeps what a page shows of each layer: the last tokens, those before them as one."""

    def __init__(self, shown: int) -> None:
        self._shown = shown
        self._rows: Map = np.empty((0, 0, 0), np.float32)
        self.maps: dict[int, Map] = {}

    def rows(self, layer: int, first: int, shares: Map) -> None:
        """Keep the last rows."""
        self._rows = take_last_rows(self._rows, first, shares, self._shown)

    def done(self, layer: int, habits: Habits) -> None:
        """Keep a layer, its earlier columns as one."""
        self.maps[layer] = np.array(fold_columns(self._rows), np.float32)


def page(
    watched: Watched,
    spotlight: Spotlight,
    subject: Subject,
    maps: Mapping[int, Map],
) -> Page:
    """Give every head of the run as a page."""
    scores = [
        PageScore(f"attends to {words}", f"share of attention to {words}", _scores(watched, name))
        for name, words in HABITS.items()
    ]
    scores.append(PageScore("entropy", "bits", _scores(watched, "entropy"), percent=False))
    start = (0, spotlight.layer, spotlight.head or 0)
    return Page(
        title=f"Attention of {subject.file_name}",
        lead="What each token attends to, in every head of every layer.",
        facts=[*_model_facts(subject), ("prompt", _counted(subject))],
        tokens=subject.tokens,
        runs=[PageRun(subject.file_name, maps, scores)],
        start=start,
    )


def _scores(watched: Watched, name: str) -> dict[int, list[float]]:
    return {layer: habits.of(name).tolist() for layer, habits in watched.habits.items()}
