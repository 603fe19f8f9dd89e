"""The prompt of a command: text, a file, or token ids; and what each token is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ggufscope.cli.options import only_one
from ggufscope.cli.texts import read_text
from ggufscope.errors import BadUsage, GGUFScopeError

LONGEST_PROMPT: Final = 1 << 22
"""Bytes of a prompt: what fills a context of a million tokens."""

if TYPE_CHECKING:
    from ggufscope.model.tokenizer.text import TextTokenizer


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is run."""

    text: str | None
    """None where ids were given."""
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    """A printable label of each token."""
    pieces: tuple[bytes, ...]
    """The bytes of each token; those of its number where the file has no text for it."""
    label: Callable[[int], str]
    """The label of any token: its text, or its number where the file has no text for it."""


def read_prompt(
    metadata: Mapping[str, Any],
    text: str | None,
    path: Path | None,
    ids: str | None,
    default: str,
    vocabulary: int,
) -> Prompt:
    """Return the prompt that the options ask for, no more than one of them; else the default text.

    ``vocabulary``: how many tokens the model has. Ids outside it get their number for a label; the
    forward pass refuses them. Raises ``BadUsage``, ``SourceUnreadable``, and what the tokenizer
    raises; ids need no tokenizer.
    """
    only_one({"--prompt": text, "--prompt-file": path, "--ids": ids})
    numbers = parse_ids(ids) if ids is not None else None
    if path is not None:
        text = read_text(path, LONGEST_PROMPT, "a prompt")
    said = default if text is None else text
    if not said:
        raise BadUsage("the prompt is empty: there is nothing to run", hint="give some text")
    tokenizer = tokenizer_of(metadata, needed=numbers is None)
    if numbers is None and tokenizer is not None:
        numbers = tuple(tokenizer.encode(said))
        if not numbers:
            raise no_token("the text", "--ids 1,5,9")

    def label(id_: int) -> str:
        if tokenizer is None or not 0 <= id_ < min(vocabulary, tokenizer.vocab_size):
            return str(id_)
        return tokenizer.piece(id_)

    def piece(id_: int) -> bytes:
        if tokenizer is None or not 0 <= id_ < tokenizer.vocab_size:
            return str(id_).encode()
        return tokenizer.token_bytes(id_)

    found = numbers or ()
    words = said if ids is None else None
    return Prompt(words, found, tuple(map(label, found)), tuple(map(piece, found)), label)


def no_token(text: str, ids: str) -> BadUsage:
    """Return what is said of a text that becomes nothing; ``ids``: what gives token numbers."""
    return BadUsage(
        f"no token of this vocabulary fits {text}", hint=f"give token numbers instead: {ids}"
    )


def parse_ids(text: str, given: str = "--ids") -> tuple[int, ...]:
    """Read ``1,5,9`` or ``1 5 9``, given by an option or a file. Raises ``BadUsage``."""
    words = text.replace(",", " ").split()
    if not words and given != "--ids":
        option = f"{given} " if given.startswith("--") else "numbers: "
        raise BadUsage(f"{given} has no token number", hint=f"write {option}1,5,9")
    if not words:
        raise BadUsage("the prompt is empty: there is nothing to run", hint="write --ids 1,5,9")
    try:
        return tuple(int(word) for word in words)
    except ValueError:
        said = f"{given} {text!r}" if given == "--ids" else given
        raise BadUsage(f"{said} is no list of ids", hint="write numbers: 1,5,9") from None


def tokenizer_of(metadata: Mapping[str, Any], *, needed: bool) -> TextTokenizer | None:
    """Read the vocabulary; a model without one is run by ids all the same.

    Where no text is to be encoded (``needed`` is false), no encoder is built.
    """
    from ggufscope.model.tokenizer.text import TextTokenizer
    from ggufscope.model.tokenizer.vocabulary import read_vocabulary

    try:
        tokenizer = TextTokenizer(read_vocabulary(metadata))
        return tokenizer.require_encoder() if needed else tokenizer
    except GGUFScopeError:
        if needed:
            raise
        return None
