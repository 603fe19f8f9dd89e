"""What ``ggufscope tokens --json`` prints: ``schemas/tokens*.json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from ggufscope.checking.findings import Finding
from ggufscope.measure.nearest import Neighbour
from ggufscope.model.tokenizer.overview import VocabularyFacts, type_words
from ggufscope.model.tokenizer.text import TextTokenizer
from ggufscope.model.tokenizer.words import Term
from ggufscope.report.as_json import pick

SCHEMA: Final = "ggufscope.tokens/1"
VOCABULARY: Final = "ggufscope.tokens-vocabulary/1"
NEAR: Final = "ggufscope.tokens-near/1"


def tokens_json(path: Path, tokenizer: TextTokenizer, ids: Sequence[int]) -> dict[str, Any]:
    """Return the tokens of a text."""
    return {
        "schema": SCHEMA,
        "path": str(path),
        "text": tokenizer.decode(ids),
        "tokens": [
            {
                **_token(tokenizer, id_),
                "bytes": tokenizer.token_bytes(id_).hex(),
                "what": type_words(tokenizer.vocabulary, id_),
            }
            for id_ in ids
        ],
    }


def vocabulary_json(
    path: Path, found: VocabularyFacts, rows: int | None, findings: Sequence[Finding]
) -> dict[str, Any]:
    """Return the vocabulary in a few facts."""
    facts = pick(found, "model pre tokens merges types special control add_bos add_eos longest")
    return {
        "schema": VOCABULARY,
        "path": str(path),
        **facts,
        "rows": rows,
        "odd": [pick(finding, "grade what meaning advice") for finding in findings],
    }


def near_json(
    path: Path, terms: Sequence[Term], found: Sequence[Neighbour], tokenizer: TextTokenizer
) -> dict[str, Any]:
    """Return the nearest rows."""
    return {
        "schema": NEAR,
        "path": str(path),
        "words": [
            {
                **pick(term, "word sign"),
                "tokens": [_token(tokenizer, id_) for id_ in term.ids],
            }
            for term in terms
        ],
        "nearest": [{**_token(tokenizer, each.id), **pick(each, "cosine asked")} for each in found],
    }


def _token(tokenizer: TextTokenizer, id_: int) -> dict[str, Any]:
    label = tokenizer.piece(id_) if id_ < tokenizer.vocab_size else None
    return {"id": id_, "token": label}
