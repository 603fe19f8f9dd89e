"""What ``ggufscope attention --explain`` prints: one token's attention, step by step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ggufscope.arrays import Reals
from ggufscope.measure.explained import Explained
from ggufscope.model.tokenizer.places import Place
from ggufscope.report.attention.numbers import listed, number, vector
from ggufscope.report.attention.text import cut, head_views
from ggufscope.report.console import TITLE, cell, facts, left, paragraph, plain_table, right
from ggufscope.report.subject import Subject
from ggufscope.report.units import spans

ROWS: Final = 24
"""Tokens whose numbers are printed: those that get most; ``--full`` prints all."""
_HEADS: Final = 8
_NEXT: Final = 5
_FEW: Final = 4
"""Numbers of a vector beside another number."""
_TOKEN: Final = 10
"""Columns for a token."""
_HIDDEN: Final = {"future": "later", "window": "outside"}


def explain_views(
    found: Explained, place: Place, subject: Subject, *, full: bool
) -> Iterator[RenderableType]:
    """Return every step from the token's row of the table to the logits of the next token."""
    label = subject.tokens[found.position]
    yield from head_views(subject)
    yield facts([("token", place_words(place, subject))])
    words = f"Layer {found.layer}, head {found.head}: the attention of token {found.position}"
    yield paragraph(f"\n{words}, {label}", TITLE)
    steps = (_embedding, _input, _query, _scores, _mixture, _output, _next)
    for step in steps:
        yield from step(found, subject, full)
    yield ""


def place_words(place: Place, subject: Subject, chosen: str = ": --position chooses") -> str:
    """Return which token was taken, and what else could have been; ``chosen`` says by what."""
    n = place.position
    said = f"{n}: {subject.tokens[n]}, id {subject.ids[n]}"
    if len(place.pieces) > 1:
        pieces = " ".join(subject.tokens[each] for each in place.pieces)
        said += f"; {place.word!r} is {len(place.pieces)} pieces here, {pieces}"
        said += ": the last has seen them all" if n == place.pieces[-1] else ""
    if place.others:
        where = listed([pieces[-1] for pieces in place.others])
        said += f"; {place.word!r} stands at {where}, too{chosen}"
    return said


def _step(name: str, words: str) -> Iterator[RenderableType]:
    yield paragraph(f"\n{name}", "bold")
    yield paragraph(words)


def _vectors(rows: Sequence[tuple[str, Reals]], full: bool) -> Table:
    table = plain_table(left(""), left(""), header=False)
    for name, numbers in rows:
        table.add_row(cell(name), vector(numbers, full=full))
    return table


def _embedding(found: Explained, subject: Subject, full: bool) -> Iterator[RenderableType]:
    id_ = found.ids[found.position]
    words = f"Row {id_} of token_embd.weight ({found.embd_type}), which is stored."
    rows: list[tuple[str, Reals]] = [("embd", found.embd)]
    if found.embd_scale is not None:
        words += f" This family multiplies it by {number(found.embd_scale)}, sqrt of its length."
    if found.position_embd is not None:
        words += f" Row {found.position} of position_embd.weight is added: the token's position."
        rows.append(("position", found.position_embd))
    yield from _step("1. The token becomes its row of the table", words)
    yield _vectors(rows, full)


def _input(found: Explained, subject: Subject, full: bool) -> Iterator[RenderableType]:
    norm = found.norm
    before = "Nothing was added to the row yet."
    if found.layer:
        before = f"By now layer{'s' if found.layer > 1 else ''} {spans(range(found.layer))} added "
        before += "to it what the token found out."
    top = "x" if norm.centre is None else f"(x - {number(norm.centre)}, its mean)"
    words = (
        f"{before} The norm brings it to a common size: {top} / {number(norm.divisor)} times "
        f"attn_norm.weight; the divisor is sqrt(mean square + {norm.epsilon:.0e})."
    )
    yield from _step(f"2. What enters layer {found.layer}, and its norm", words)
    yield _vectors([("inpL", found.entering), ("attn_norm", found.attn_norm)], full)


def _query(found: Explained, subject: Subject, full: bool) -> Iterator[RenderableType]:
    heads, shared = found.heads, found.sharing
    words = f"W_q turns attn_norm into {heads.size} numbers for this head, W_k into as many"
    if len(shared) > 1:
        words += f" for key head {found.key_head}, which heads {spans([*shared])} share"
    yield from _step("3. The query of this token, the keys of those it sees", f"{words}.")
    rows: list[tuple[str, Reals]] = []
    for name, query in found.q_steps.items():
        rows.append((f"q {name}", query))
        if name in found.k_steps:
            rows.append((f"k {name}", found.k_steps[name]))
    yield _vectors(rows, full)
    yield paragraph(_position_words(found))
    if found.q_scale is not None:
        yield paragraph(
            f"This family scales q here, by {_root_words(found, found.q_scale)}, not the scores."
        )
    table = plain_table(right("#"), left("token"), left("k"))
    rest = _rows(found, full, seen=True)
    for n in rest:
        table.add_row(str(n), _token(subject, n), vector(found.k[n], full=full))
    yield table
    yield from _left_out(found, rest)


def _position_words(found: Explained) -> str:
    rotation = found.rotation
    if rotation is None:
        learned = found.position_embd is not None
        return "No rotation: positions entered with the row of the table." if learned else ""
    pairs = "neighbours" if rotation.pairs == "interleaved" else "numbers half a head apart"
    words = f"Rotated by the position {found.position} (RoPE, base {rotation.base:g}; a pair are "
    words += f"{pairs})"
    if rotation.dimensions < found.heads.size:
        words += f", the first {rotation.dimensions} numbers alone"
    if rotation.scale != 1:
        words += f"; positions times {rotation.scale:g}"
    if rotation.yarn_context is not None:
        words += ", by YaRN less for pairs that turn fast"
    return words + ("; with factors of their own" if rotation.factors is not None else "") + "."


def _root_words(found: Explained, scale: float) -> str:
    """Return what a scale is the root of: the head size, nearly always."""
    size, embedding = found.heads.size, len(found.embd)
    if math.isclose(scale, size**-0.5, rel_tol=1e-6):
        return (
            f"1/sqrt({size}) = {number(scale)} ({size} is the head size; it is not sqrt of the "
            f"embedding's {embedding})"
        )
    return f"1/sqrt({1 / scale**2:.0f}) = {number(scale)} (this model's own)"


def _scores(found: Explained, subject: Subject, full: bool) -> Iterator[RenderableType]:
    said = ["q·k is the product of the query with each key, number by number, added up."]
    columns = [right("#"), left("token"), right("q·k")]
    if found.cap is not None:
        said.append(f"It is soft-capped: {number(found.cap)} tanh(q·k / {number(found.cap)}).")
    if found.scale != 1:
        said.append(f"The scores are scaled by {_root_words(found, found.scale)}.")
    said.append("Later tokens are masked: their score becomes -inf.")
    if found.window is not None:
        said.append(f"This layer has a window: it sees the last {found.window} tokens alone.")
    said.append("Softmax: exp(score - largest), divided by the sum of all.")
    yield from _step("4. Scores, the mask, softmax", " ".join(said))
    if found.cap is not None or found.scale != 1:
        columns.append(right("score"))
    table = plain_table(*columns, right("exp"), right("running sum"), right("share"))
    rows = _rows(found, full)
    for n in rows:
        cells = [number(found.kq[n])]
        hidden = found.hidden[n]
        if len(columns) > 3:
            cells.append("-inf" if hidden else number(found.scores[n]))
        cells += [number(found.powers[n]), number(found.running[n]), number(found.kq_soft_max[n])]
        token = f"{_token(subject, n).plain}{f' ({_HIDDEN[hidden]})' if hidden else ''}"
        table.add_row(str(n), cell(token), *cells)
    yield table
    yield from _left_out(found, rows)
    yield _gap_words("exp / sum and kq_soft_max of the pass", found.softmax_gap)


def _mixture(found: Explained, subject: Subject, full: bool) -> Iterator[RenderableType]:
    words = "Each value times its share, added up, is what the head found: kqv."
    yield from _step("5. The values, mixed in these shares", words)
    table = plain_table(right("#"), left("token"), right("share"), left("v"))
    rows = _rows(found, full, seen=True)
    for n in rows:
        share = number(found.kq_soft_max[n])
        table.add_row(str(n), _token(subject, n), share, vector(found.v[n], full=full, most=_FEW))
    table.add_row("", cell("kqv", "bold"), "", vector(found.kqv, full=full, most=_FEW))
    yield table
    yield from _left_out(found, rows)
    yield _gap_words("the sum and kqv of the pass", found.kqv_gap)


def _output(found: Explained, subject: Subject, full: bool) -> Iterator[RenderableType]:
    count, head = found.heads.count, found.head
    words = (
        f"W_O (attn_output.weight) has {found.heads.width} columns for each head. kqv times this "
        f"head's own is what it adds. All {count} heads added up"
        f"{', and the bias,' if found.out_bias else ''} are what the layer's attention adds: "
        "attn_out. A share below 0 works against the others."
    )
    yield from _step("6. W_O: this head's share of what the layer adds", words)
    rows: list[tuple[str, Reals]] = [("head @ W_O", found.summands[head])]
    rows.append(("attn_out", found.attn_out))
    if found.post_norm:
        rows.append(("normed", found.added))
    yield _vectors(rows, full)
    if found.post_norm:
        yield paragraph("The layer norms attn_out before it adds it; that is this head's part.")
    order = [int(n) for n in np.argsort(-found.shares, kind="stable")]
    shown = order if full else order[:_HEADS]
    shown += [head] if head not in shown else []
    table = plain_table(left("head"), right("length"), right("share of attn_out"))
    for n in shown:
        style = "bold" if n == head else ""
        share = cell(number(found.shares[n]), style)
        table.add_row(cell(f"H{n}", style), number(found.lengths[n]), share)
    yield table
    if len(shown) < count:
        others = number(found.share_of([n for n in order if n not in shown]))
        yield paragraph(f"... and {count - len(shown)} more heads: {others}", "dim")
    yield _gap_words("the sum of all heads and attn_out of the pass", found.out_gap)


def _next(found: Explained, subject: Subject, full: bool) -> Iterator[RenderableType]:
    words = (
        "What a head adds stays in the token's vector to the end, so it has a part of its own in "
        "every logit: through the last norm, as that divides here, and the output matrix. Later "
        "layers read it as well; what they make of it is theirs."
    )
    if found.logit_cap is not None:
        words += f" The logits are soft-capped at {number(found.logit_cap)} after that."
    yield from _step("7. What it adds to the logits of the next token", words)
    table = plain_table(
        left(""), left("token"), right("probability"), right("logit"), right("added")
    )
    shares = found.probabilities
    best = np.argsort(-found.logits, kind="stable")[:_NEXT]
    raised = np.argsort(-found.logits_added, kind="stable")[:_NEXT]
    for heading, ids in (("likeliest", best), ("raised most", raised)):
        for nth, id_ in enumerate(map(int, ids)):
            numbers = (shares[id_], found.logits[id_], found.logits_added[id_])
            name = cell(cut(subject.label(id_), 2 * _TOKEN))
            table.add_row(heading if nth == 0 else "", name, *map(number, numbers))
    yield table


def _rows(found: Explained, full: bool, *, seen: bool = False) -> list[int]:
    """Return the tokens whose numbers are shown, ascending: all, or those that get most."""
    every = [n for n, why in enumerate(found.hidden) if not (seen and why)]
    if full or len(every) <= ROWS:
        return every
    least = sorted(every, key=lambda n: (-found.kq_soft_max[n], abs(n - found.position)))
    return sorted({*least[:ROWS], found.position})


def _left_out(found: Explained, rows: Sequence[int]) -> Iterator[RenderableType]:
    rest = [n for n, why in enumerate(found.hidden) if why is None and n not in rows]
    if rest:
        share = number(found.attention_to(rest))
        yield paragraph(
            f"... and {len(rest)} more tokens, with {share} of the attention: --full", "dim"
        )


def _token(subject: Subject, n: int) -> Text:
    return cell(cut(subject.tokens[n], _TOKEN))


def _gap_words(what: str, gap: float) -> RenderableType:
    return paragraph(f"Largest difference of {what}: {gap:.1e}", "dim")
