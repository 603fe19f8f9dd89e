"""A text that is run chunk by chunk: the options that say which, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from typer import Option

from ggufscope.cli.options import warn
from ggufscope.cli.prompts import no_token, parse_ids, tokenizer_of
from ggufscope.cli.texts import LONGEST_TEXT, name_of_text, read_text
from ggufscope.errors import BadUsage

if TYPE_CHECKING:
    from ggufscope.measure.gathering import Calibration
    from ggufscope.model.tokenizer.text import TextTokenizer

USUAL_CONTEXT: Final = 512
"""Tokens of a chunk, as llama.cpp has it; fewer where the model was made for fewer."""
_LEAST: Final = 16
"""Tokens of the shortest chunk."""

Texts = Annotated[
    list[Path] | None,
    Option("--text", "-f", metavar="FILE", help="A text to run, or -; may be repeated."),
]
IdsFile = Annotated[
    Path | None, Option("--ids-file", metavar="FILE", help="Token numbers, from a file.")
]
ChunkTokens = Annotated[
    int | None,
    Option(
        *("--context", "-c"),
        min=_LEAST,
        max=1 << 24,
        metavar="N",
        help="Tokens of a chunk; by default no more than the model was made for.  \\[default: 512]",
    ),
]
Chunks = Annotated[
    int | None, Option("--chunks", min=1, metavar="N", help="Chunks of each text at the most.")
]
ParseSpecial = Annotated[bool, Option("--parse-special", help="Find special tokens in the text.")]


def read_texts(
    metadata: Mapping[str, Any],
    texts: Sequence[Path],
    ids: str | None,
    ids_file: Path | None,
    *,
    parse_special: bool,
) -> Calibration:
    """Return what is to be run, texts first, and the token that each chunk begins with."""
    from ggufscope.measure.gathering import Calibration

    if not (texts or ids or ids_file):
        raise BadUsage(
            "there is no text to run", hint="give --text FILE, or token numbers with --ids-file"
        )
    tokenizer = tokenizer_of(metadata, needed=bool(texts))
    found: list[tuple[str, Sequence[int]]] = []
    for path in texts:
        assert tokenizer is not None  # it was needed
        said = read_text(path, LONGEST_TEXT, "a text to run").removesuffix("\n")
        encoded = tokenizer.encode(said, parse_special=parse_special)
        if said and not encoded:
            raise no_token(f"the text of {name_of_text(path)}", "--ids or --ids-file")
        found.append((name_of_text(path), encoded))
    if ids_file is not None:
        numbers = read_text(ids_file, LONGEST_TEXT, "a list of token numbers")
        name = name_of_text(ids_file)
        found.append((name, parse_ids(numbers, name)))
    if ids is not None:
        found.append(("", parse_ids(ids)))
    return Calibration(found, bos=first_token(tokenizer))


def first_token(tokenizer: TextTokenizer | None) -> int | None:
    """Return the token that every chunk begins with, or None where the model wants none."""
    if tokenizer is None or not tokenizer.vocabulary.add_bos:
        return None
    return tokenizer.vocabulary.bos


def chunk_tokens(metadata: Mapping[str, Any], asked: int | None, path: Path) -> int:
    """Return the tokens of a chunk, and print a warning where the model was made for fewer."""
    from ggufscope.model.hparams import read_hparams

    trained = read_hparams(metadata).context_length
    if trained and asked and asked > trained:
        warn(
            f"{path} was made for {trained:,} tokens, and chunks have {asked:,}: "
            f"-c {trained} makes them as long"
        )
    return asked or max(_LEAST, min(USUAL_CONTEXT, trained or USUAL_CONTEXT))
