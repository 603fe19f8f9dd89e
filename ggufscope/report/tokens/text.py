"""What ``ggufscope tokens`` prints: tokens of a text, the vocabulary, neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import RenderableType

from ggufscope.checking.findings import Finding
from ggufscope.measure.nearest import Neighbour
from ggufscope.model.tokenizer.overview import KINDS, VocabularyFacts, type_words
from ggufscope.model.tokenizer.text import TextTokenizer
from ggufscope.model.tokenizer.words import Term
from ggufscope.report.console import (
    MOST_ROWS,
    cell,
    facts,
    hidden_rows,
    left,
    name_cell,
    paragraph,
    plain_table,
    right,
    title,
    words,
)

_BYTES: Final = 8
"""Bytes of a token that are printed."""
_SPECIAL: Final = 12
"""Control tokens that are named."""


def token_views(tokenizer: TextTokenizer, ids: Sequence[int]) -> Iterator[RenderableType]:
    """Return the tokens of a text, one a line, and the text that they stand for."""
    table = plain_table(right("#"), right("id"), left("token"), left("bytes"), words("what it is"))
    for n, id_ in enumerate(ids[:MOST_ROWS]):
        raw = tokenizer.token_bytes(id_)
        shown = raw[:_BYTES].hex(" ") + (f" ... of {len(raw)}" if len(raw) > _BYTES else "")
        kind = type_words(tokenizer.vocabulary, id_)
        table.add_row(str(n), str(id_), name_cell(tokenizer.piece(id_)), shown, cell(kind))
    yield table
    yield from hidden_rows(len(ids), "tokens", "--json has all")
    text = tokenizer.decode(ids)
    size = sum(len(tokenizer.token_bytes(id_)) for id_ in ids)
    yield ""
    some = f"{len(ids):,} token{'' if len(ids) == 1 else 's'}"
    yield facts([("tokens", f"{some}, {size:,} bytes"), ("text", text)])


def vocabulary_views(
    found: VocabularyFacts,
    tokenizer: TextTokenizer,
    rows: int | None,
    findings: Sequence[Finding],
) -> Iterator[RenderableType]:
    """Return the vocabulary in a few lines; ``rows`` are those of the embedding table."""
    pre = f", words cut as {found.pre}" if found.pre else ""
    counted = ", ".join(f"{count:,} {name}" for name, count in found.types.items())
    lines = [
        ("kind", f"{found.model}: {KINDS[found.model]}{pre}"),
        ("tokens", f"{found.tokens:,}: {counted}"),
    ]
    if found.merges:
        lines.append(("merges", f"{found.merges:,}"))
    if rows is not None and rows != found.tokens:
        more = "more" if rows > found.tokens else "fewer"
        lines.append(("rows", f"{rows:,} in the embedding table, {more} than there are tokens"))
    for name, id_ in found.special.items():
        lines.append((name, f"{id_} {tokenizer.piece(id_)}"))
    around = [name for name, put in (("BOS", found.add_bos), ("EOS", found.add_eos)) if put]
    lines.append(("around", f"a text gets {' and '.join(around) if around else 'no token'}"))
    named = " ".join(f"{id_} {tokenizer.piece(id_)}" for id_ in found.control[:_SPECIAL])
    more_of_them = len(found.control) - _SPECIAL
    tail = f" ... and {more_of_them:,} more" if more_of_them > 0 else ""
    lines.append(("control", f"{named}{tail}" or "none"))
    lines.append(("longest", f"{found.longest} {tokenizer.piece(found.longest)}"))
    lines += [("odd", finding.what) for finding in findings] or [("odd", "nothing")]
    yield facts(lines)


def near_views(
    terms: Sequence[Term], found: Sequence[Neighbour], tokenizer: TextTokenizer, table: str
) -> Iterator[RenderableType]:
    """Return what was asked for, and the nearest rows of the embedding table."""
    yield facts(
        [
            ("table", table),
            *((_signed(n, each), _pieces(each, tokenizer)) for n, each in enumerate(terms)),
        ]
    )
    yield title("Nearest rows, by cosine")
    columns = plain_table(right("cosine"), right("id"), left("token"), words(""))
    for each in found:
        named = _label(tokenizer, each.id)
        given = "asked for" if each.asked else ""
        columns.add_row(f"{each.cosine:.4f}", str(each.id), name_cell(named), cell(given, "dim"))
    yield columns
    if len(terms) > 1:
        yield paragraph(
            "The words that were asked for stand among the others: introductions leave them out, "
            "and the nearest of all is often one of them.",
            "dim",
        )
    yield ""


def _signed(n: int, term: Term) -> str:
    return "-" if term.sign < 0 else "+" if n else "near"


def _pieces(term: Term, tokenizer: TextTokenizer) -> str:
    named = " ".join(f"{id_} {_label(tokenizer, id_)}" for id_ in term.ids)
    if len(term.ids) == 1:
        return f"{term.word}: token {named}"
    return f"{term.word}: {len(term.ids)} pieces, {named}; the mean of their rows is taken"


def _label(tokenizer: TextTokenizer, id_: int) -> str:
    return tokenizer.piece(id_) if id_ < tokenizer.vocab_size else "(no token)"
