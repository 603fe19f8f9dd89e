"""What ``ggufscope attention`` prints: one head's matrix, what tokens look at, head patterns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len, set_cell_size
from rich.console import RenderableType

from ggufscope.arrays import Floats
from ggufscope.measure.patterns import PATTERNS, Patterns, most_attended, sorted_heads
from ggufscope.measure.watching import Spotlight, Watched
from ggufscope.report.console import (
    GREEN,
    RED,
    cell,
    facts,
    left,
    paragraph,
    plain_table,
    right,
    title,
)
from ggufscope.report.heatmap import SHADES, heatmap
from ggufscope.report.subject import Subject
from ggufscope.report.units import count

if TYPE_CHECKING:
    from ggufscope.measure.verify import Identity

TOKENS_NAMED: Final = 48
"""Tokens of the prompt that are printed; ``--json`` has all."""
_NAMED: Final = 0.005
"""The least share that is named: what rounds to 0% says nothing."""
_SHARE: Final = len("100%")
_PATTERNS_NOTE: Final = "L2 H5 is head 5 of layer 2; mean over all tokens but the first"
ROWS: Final = 24
"""Tokens whose favourites are printed: the last ones."""
HEADS: Final = 8
"""Heads that are printed for each thing that heads do."""


def head_views(subject: Subject) -> Iterator[RenderableType]:
    """Return the model and the tokens."""
    named = " ".join(subject.tokens[:TOKENS_NAMED])
    more = len(subject.tokens) - TOKENS_NAMED
    tail = f" ... and {more} more" if more > 0 else ""
    yield facts([*model_facts(subject), ("prompt", f"{subject.counted}: {named}{tail}")])


def model_facts(subject: Subject) -> list[tuple[str, str]]:
    """Return what stands above a run: its model, and the model's attention."""
    summary = subject.summary
    named = f"{summary.name}, " if summary.name else ""
    words = f"{named}{summary.architecture}, {count(summary.n_elements)} parameters"
    rows = [("model", f"{subject.file_name}: {words}")]
    if summary.hparams:
        rows.append(("attention", f"{summary.hparams.block_count} layers; {summary.attention}"))
    return rows + subject.rope_facts


def views(
    watched: Watched,
    spotlight: Spotlight,
    subject: Subject,
    *,
    width: int,
    shades: str = SHADES,
) -> Iterator[RenderableType]:
    """Return the matrix, what each token attends to most, head patterns, and what comes next."""
    yield title(f"{_whose(spotlight)}: what each token attends to")
    yield from heatmap(spotlight.matrix, subject.tokens, width=width, shades=shades)
    if spotlight.overflows:
        yield paragraph("Some shares are no numbers: what the model computes overflows float32.")
    yield title("What each token attends to most, in this picture")
    yield _favourites(spotlight.matrix, subject, width)
    yield title("What the heads do: how much of their attention goes to ...")
    yield _patterns_table(_chosen(watched, spotlight))
    yield paragraph(_PATTERNS_NOTE, "dim")
    yield title("What the model holds likely to come next")
    yield paragraph(
        ", ".join(
            f"{subject.label(token)} {_percent(share)}"
            for token, share in watched.next_tokens()
            if share >= _NAMED
        )
        or "nothing more than anything else"
    )
    yield ""


def _whose(spotlight: Spotlight) -> str:
    if spotlight.head is None:
        return f"Layer {spotlight.layer}, mean of its heads"
    return f"Layer {spotlight.layer}, head {spotlight.head}"


def _chosen(watched: Watched, spotlight: Spotlight) -> Mapping[int, Patterns]:
    """Return the layers whose heads are compared: one that was asked for, or all."""
    if spotlight.head is None:
        return {spotlight.layer: watched.patterns[spotlight.layer]}
    return watched.patterns


def _favourites(matrix: Floats, subject: Subject, width: int) -> RenderableType:
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
            f"{_percent(share):>{_SHARE}} {m:>{digits}} {cut(subject.tokens[m], room)}"
            for m, share in best
            if share >= _NAMED
        ]
        token = cell(cut(subject.tokens[n], token_room))
        table.add_row(str(n), token, *map(cell, (*named, *[""] * (3 - len(named)))))
    return table


def cut(label: str, room: int) -> str:
    """Return a label that takes no more than ``room`` columns."""
    return label if cell_len(label) <= room else set_cell_size(label, room - 1).rstrip() + "…"


def _patterns_table(patterns: Mapping[int, Patterns]) -> RenderableType:
    table = plain_table(*(left(words) for words in PATTERNS.values()))
    columns = [sorted_heads(dict(patterns), name)[:HEADS] for name in PATTERNS]
    cells = [[_head(found) for found in column] or ["(none here)"] for column in columns]
    for row in zip_longest(*cells, fillvalue=""):
        table.add_row(*row)
    return table


def _head(found: tuple[int, int, float]) -> str:
    layer, head, share = found
    return f"L{layer} H{head} {_percent(share):>4}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def verify_views(identities: Sequence[Identity]) -> Iterator[RenderableType]:
    """Return the identities, how far the model is from each, and the verdict."""
    yield title("What must hold, held against this model")
    table = plain_table(left("identity"), right("residual"), right("at most"), left(""))
    for each in identities:
        verdict = "holds" if each.holds else "FAILS"
        if not each.holds and each.layer is not None:
            verdict += f" in L{each.layer}"
        style = GREEN if each.holds else f"bold {RED}"
        limit = f"{each.tolerance:.0e}" if each.tolerance else "0"
        residual = f"{each.residual:.1e}" if each.residual else "0"
        table.add_row(each.statement, residual, limit, cell(verdict, style))
    yield table
    yield ""
    failed = sum(not each.holds for each in identities)
    yield paragraph(
        f"{failed} of {len(identities)} fail" if failed else f"all {len(identities)} hold"
    )
    yield ""
