"""What ``ggufscope attention`` prints for a question about words, heads or the cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from rich.console import RenderableType

from ggufscope.arrays import Floats
from ggufscope.measure.cached import TokenByToken
from ggufscope.measure.heads import Surveyed
from ggufscope.measure.looking import Look, TwoPrompts
from ggufscope.measure.patterns import most_attended
from ggufscope.model.tokenizer.places import Place
from ggufscope.report.attention.explain import place_words
from ggufscope.report.attention.numbers import number
from ggufscope.report.attention.text import cut, head_views
from ggufscope.report.console import cell, facts, left, paragraph, plain_table, right, title
from ggufscope.report.subject import Subject
from ggufscope.report.units import size

_LOOKS: Final = 24
"""Heads that are printed; ``--full`` prints all."""
_STEPS: Final = 24
"""Tokens of a run with a cache that are printed: the last ones."""
_LEAST: Final = 0.005
_IGNORED: Final = 0.05
"""Below this length, of that of the layer's output, W_O makes next to nothing of a head."""
_TOKEN: Final = 12
"""Columns for a token; fewer where four stand in a line."""
_NARROW: Final = 7


def token_views(
    layers: Mapping[int, Floats], place: Place, subject: Subject
) -> Iterator[RenderableType]:
    """Return what one token looks at in each head, one line a head."""
    yield from head_views(subject)
    yield facts([("token", place_words(place, subject))])
    yield title(f"What token {place.position}, {subject.tokens[place.position]}, attends to")
    table = plain_table(left("head"), left("most"), left("then"), left("then"))
    for layer, rows in layers.items():
        for head, best in enumerate(most_attended(rows, 3)):
            named = [_named(share, n, subject) for n, share in best if share >= _LEAST]
            cells = (*named, *[""] * (3 - len(named)))
            table.add_row(f"L{layer} H{head}", *map(cell, cells))
    yield table
    yield ""


def _named(share: float, n: int, subject: Subject, room: int = _TOKEN) -> str:
    return f"{100 * share:3.0f}% {n} {cut(subject.tokens[n], room)}"


def to_views(
    looks: Sequence[Look], place: Place, of: Place | None, subject: Subject, *, full: bool
) -> Iterator[RenderableType]:
    """Return who looks at a word, the best heads first."""
    pieces = " ".join(subject.tokens[n] for n in place.pieces)
    yield from head_views(subject)
    yield facts([("to", place_words(place, subject, ""))])
    who = f"How {subject.tokens[of.position]} looks" if of is not None else "Who looks"
    yield title(f"{who} at {pieces}: the best heads first")
    if not looks:
        yield paragraph(_nobody(place, of, subject))
        yield ""
        return
    table = plain_table(left("head"), left("token"), right("share"))
    for each in looks if full else looks[:_LOOKS]:
        token = f"{each.position} {cut(subject.tokens[each.position], _TOKEN)}"
        table.add_row(f"L{each.layer} H{each.head}", cell(token), number(each.share))
    yield table
    if len(looks) > _LOOKS and not full:
        yield paragraph(f"... and {len(looks) - _LOOKS:,} more with less: --full", "dim")
    yield ""


def _nobody(place: Place, of: Place | None, subject: Subject) -> str:
    """Say why no head gives a word anything."""
    if of is None:
        return "Nobody: no token after it gives it anything."
    if of.position < place.pieces[0]:
        token, later = (each.word or subject.tokens[each.position] for each in (of, place))
        return f"Not at all: {token} stands before {later}, and no token sees a later one."
    return "Not at all: no head gives it anything."


def heads_views(
    layers: Sequence[Surveyed], subject: Subject, tokens: int
) -> Iterator[RenderableType]:
    """Return what W_O makes of each head, and what each looks at; ``tokens`` that came twice."""
    yield from head_views(subject)
    yield title("The heads: what W_O makes of them, and what they look at")
    columns = ("share", "length", "previous", "first", "itself", "equal", "induction")
    table = plain_table(left("head"), *map(right, columns))
    ignored = []
    for each in layers:
        for head, share in enumerate(each.outputs.shares):
            length = float(each.outputs.sizes[head])
            if length < _IGNORED:
                ignored.append(f"L{each.layer} H{head}")
            seen = [each.patterns.of(name)[head] for name in ("previous", "first", "itself")]
            twice = each.repeated
            seen += [twice.equal[head], twice.induction[head]] if twice else [np.nan, np.nan]
            cells = (_percent(share), f"{length:.2f}", *map(_percent, seen))
            table.add_row(f"L{each.layer} H{head}", *cells)
    yield table
    yield paragraph(
        "share: of what the layer's attention adds, together 100% (with a bias's); below 0 it "
        "works against the others. length: of head @ W_O, over that of the sum.",
        "dim",
    )
    if tokens:
        yield paragraph(
            f"equal, induction: over {tokens} random tokens that come twice, attention to the same "
            "token, and to what followed it.",
            "dim",
        )
    yield paragraph(
        f"W_O ignores {', '.join(ignored)} on this prompt: a length below {_IGNORED}."
        if ignored
        else f"W_O ignores no head on this prompt: none is shorter than {_IGNORED}."
    )
    yield ""


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.0f}%"


def pair_views(
    met: TwoPrompts, places: tuple[Place, Place], subjects: tuple[Subject, Subject], *, full: bool
) -> Iterator[RenderableType]:
    """Return the same word in two prompts: what becomes of its vector, what its heads look at."""
    one, other = subjects
    yield from head_views(one)
    yield facts([("and", f"{other.counted}: {' '.join(other.tokens[:48])}")])
    (a, b) = places
    yield facts([("A", place_words(a, one)), ("B", place_words(b, other, ""))])
    yield title("How much alike its vector is in both, by cosine")
    table = plain_table(left(""), right("cosine"), left(""))
    same = "the same row of the table" if met.same_row else "two tokens, two rows"
    table.add_row("embd", f"{met.embedding:.4f}", same)
    for each in met.layers:
        table.add_row(f"l_out-{each.layer}", f"{each.cosine:.4f}", "")
    yield table
    yield title("What its heads look at; those that found most different things first")
    heads = plain_table(left("head"), right("differs"), left("in A"), left("in B"))
    order = sorted(
        ((float(d), each, head) for each in met.layers for head, d in enumerate(each.differences)),
        key=lambda item: (-np.nan_to_num(item[0]), item[1].layer, item[2]),
    )
    for differs, each, head in order if full else order[:_LOOKS]:
        cells = []
        for rows, subject in zip(each.rows, subjects, strict=True):
            best = most_attended(rows[head : head + 1], 2)[0]
            cells.append(
                ", ".join(
                    _named(share, n, subject, _NARROW).strip()
                    for n, share in best
                    if share >= _LEAST
                )
            )
        heads.add_row(f"L{each.layer} H{head}", f"{differs:.2f}", *map(cell, cells))
    yield heads
    if len(order) > _LOOKS and not full:
        yield paragraph(f"... and {len(order) - _LOOKS} more heads: --full", "dim")
    yield paragraph(
        "differs: length of the difference of what the head found (kqv), over the larger of both.",
        "dim",
    )
    yield ""


def cached_views(found: TokenByToken, layers: int, subject: Subject) -> Iterator[RenderableType]:
    """Return what each token computes and reads with a cache, and that the result is the same."""
    yield from head_views(subject)
    yield title("Token by token with a KV cache")
    columns = (right("computed"), right("read"), left("next"), left("all at once"))
    table = plain_table(right("#"), left("token"), *columns)
    first = max(0, found.tokens - _STEPS)
    if first:
        table.add_row("", cell(f"({first} before)", "dim"))
    for n in range(first, found.tokens):
        token = cell(cut(subject.tokens[n], _TOKEN))
        said = [subject.label(int(each[n])) for each in (found.next_cached, found.next_whole)]
        table.add_row(str(n), token, "1", str(n), *(cell(cut(each, _TOKEN)) for each in said))
    yield table
    yield paragraph(
        "computed: keys, and as many values, made for this token in each of the "
        f"{layers} layers. read: those of the tokens before it, from the cache.",
        "dim",
    )
    yield ""
    each = 2 * found.numbers
    verdict = "the same" if found.same else "NOT the same"
    yield facts(
        [
            ("with", f"{found.computed:,} keys computed a layer, {found.read:,} read"),
            ("without", f"{found.without:,} computed, the text so far anew for each token"),
            ("kept", f"{size(each * found.tokens)} in F16, {size(each)} a token"),
            ("result", f"{verdict}: logits differ by {found.gap:.1e} of the largest, at most"),
        ]
    )
    yield paragraph(
        "A key is made from its own token and those before it, so it stays as it is when more text "
        "comes: a cache saves work, and need not change anything.",
    )
    yield ""
