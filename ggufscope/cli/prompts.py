"""The prompt of a command: text, a file, or token ids; and what each token is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ggufscope.errors import BadUsage, SourceUnreadable


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is run."""

    text: str | None
    """None where ids were given."""
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    """A printable label of each token."""


def read_prompt(
    metadata: Mapping[str, Any],
    text: str | None,
    path: Path | None,
    ids: str | None,
    default: str,
    vocabulary: int,
) -> Prompt:
    """Give the prompt that the options ask for, no more than one of them; else the default text.

    ``vocabulary``: how many tokens the model has. Ids outside it get their number for a label; the
    forward pass refuses them. Raises ``BadUsage``, ``SourceUnreadable``, and what the tokenizer
    raises; ids need no tokenizer.
    """
    given = [
        name
        for name, value in (("--prompt", text), ("--prompt-file", path), ("--ids", ids))
        if value is not None
    ]
    if len(given) > 1:
        raise BadUsage(f"{given[0]} stands beside {given[1]}", hint="give one of the two")
    if ids is not None:
        numbers = parse_ids(ids)
        return Prompt(None, numbers, _labels(metadata, numbers))
    if path is not None:
        text = _read(path)
    from ggufscope.model.tokenizer import read_tokenizer

    tokenizer = read_tokenizer(metadata)
    said = default if text is None else text
    if not said:
        raise BadUsage("the prompt is empty: there is nothing to run", hint="give some text")
    encoded = tuple(tokenizer.encode(said))
    labels = [
        tokenizer.piece(id_) if id_ < min(vocabulary, tokenizer.vocab_size) else str(id_)
        for id_ in encoded
    ]
    return Prompt(said, encoded, tuple(labels))


def parse_ids(text: str) -> tuple[int, ...]:
    """Read ``1,5,9`` or ``1 5 9``. Raises ``BadUsage``."""
    words = text.replace(",", " ").split()
    if not words:
        raise BadUsage("the prompt is empty: there is nothing to run", hint="write --ids 1,5,9")
    try:
        return tuple(int(word) for word in words)
    except ValueError:
        raise BadUsage(f"--ids {text!r} is no list of ids", hint="write --ids 1,5,9") from None


def _labels(metadata: Mapping[str, Any], ids: tuple[int, ...]) -> tuple[str, ...]:
    """Name ids where the vocabulary can be read; a model without one is run by ids all the same."""
    from ggufscope.errors import GGUFScopeError
    from ggufscope.model.tokenizer import read_tokenizer

    try:
        tokenizer = read_tokenizer(metadata)
    except GGUFScopeError:
        return tuple(map(str, ids))
    return tuple(
        tokenizer.piece(id_) if 0 <= id_ < tokenizer.vocab_size else str(id_) for id_ in ids
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceUnreadable(
            f"{path} cannot be read: {error}", hint="check --prompt-file"
        ) from None
