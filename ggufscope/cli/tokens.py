"""``ggufscope tokens``: what text becomes, and what lies near in the embedding table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ggufscope.cli.options import AsJson, Model, TextFile, only_one, warn_about
from ggufscope.cli.output import Quiet, print_views
from ggufscope.errors import BadUsage, naming

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ggufscope.container.file import GGUFFile
    from ggufscope.model.tokenizer.text import TextTokenizer

NEAREST: Final = 10
"""Rows that ``--near`` shows, where nobody says how many."""

Views = Callable[[], "Iterable[RenderableType]"]
Data = Callable[[], dict[str, Any]]


def tokens_command(
    model: Model,
    words: Annotated[str | None, typer.Argument(metavar="TEXT", help="The text.")] = None,
    prompt_file: TextFile = None,
    decode: Annotated[
        str | None, typer.Option("--decode", metavar="N,N,...", help="Token numbers to text.")
    ] = None,
    near: Annotated[
        str | None,
        typer.Option(
            "--near",
            metavar="WORD",
            help="The nearest rows of the embedding: king, king-man+woman.",
        ),
    ] = None,
    most: Annotated[
        int | None,
        typer.Option(
            "-n", min=1, max=10_000, metavar="N", help="How many of them.  \\[default: 10]"
        ),
    ] = None,
    no_bos: Annotated[
        bool, typer.Option("--no-bos", help="Put no BOS and no EOS around the text.")
    ] = False,
    no_parse_special: Annotated[
        bool,
        typer.Option("--no-parse-special", help="Read <|im_end|> and the like as characters."),
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Turn text into the tokens of a model, and back.

    Without a text: the vocabulary in a few lines. --near reads the embedding
    table and no other tensor, from whatever type it is stored in.

    For example: ggufscope tokens model.gguf "The cat sat"
    """
    from ggufscope.container.file import open_gguf
    from ggufscope.model.tokenizer.text import read_tokenizer
    from ggufscope.report.as_json import dumps

    options = {"TEXT": words, "--prompt-file": prompt_file, "--decode": decode, "--near": near}
    given = only_one(options)
    if words is None and prompt_file is None and (no_bos or no_parse_special):
        option = "--no-bos" if no_bos else "--no-parse-special"
        raise BadUsage(f"{option} is about a text", hint="give one: ggufscope tokens MODEL TEXT")
    if near is None and most is not None:
        raise BadUsage("-n is how many rows --near shows", hint="give --near WORD, or leave it out")
    with open_gguf(model) as file, naming(file.path):
        warn_about(file)
        tokenizer = read_tokenizer(file.metadata)
        if near is not None:
            views, data = _near(file, tokenizer, near, most or NEAREST)
        elif given:
            ids = _ids(tokenizer, words, prompt_file, decode, not no_bos, not no_parse_special)
            views, data = _tokens(file, tokenizer, ids)
        else:
            views, data = _vocabulary(file, tokenizer)
        file.require_unchanged()
    if as_json:
        typer.echo(dumps(data()))
    else:
        print_views(views())


def _ids(
    tokenizer: TextTokenizer,
    text: str | None,
    path: Path | None,
    decode: str | None,
    add_special: bool,
    parse_special: bool,
) -> list[int]:
    from ggufscope.cli.prompts import LONGEST_PROMPT, parse_ids
    from ggufscope.cli.texts import read_text

    if decode is not None:
        ids = [*parse_ids(decode, "--decode")]
        for id_ in ids:
            tokenizer.token_bytes(id_)  # raises for a number that no token has
        return ids
    said = read_text(path, LONGEST_PROMPT, "a text") if path is not None else text or ""
    return tokenizer.encode(said, add_special=add_special, parse_special=parse_special)


def _tokens(file: GGUFFile, tokenizer: TextTokenizer, ids: list[int]) -> tuple[Views, Data]:
    from ggufscope.report.tokens.json import tokens_json
    from ggufscope.report.tokens.text import token_views

    return (
        lambda: token_views(tokenizer, ids),
        lambda: tokens_json(file.path, tokenizer, ids),
    )


def _vocabulary(file: GGUFFile, tokenizer: TextTokenizer) -> tuple[Views, Data]:
    from ggufscope.checking.vocabulary import tokenizer_findings
    from ggufscope.measure.nearest import TABLE
    from ggufscope.model.tokenizer.overview import vocabulary_facts
    from ggufscope.report.tokens.json import vocabulary_json
    from ggufscope.report.tokens.text import vocabulary_views

    facts = vocabulary_facts(file.metadata, tokenizer.vocabulary)
    findings = [*tokenizer_findings(file.metadata)]
    table = file.tensors.get(TABLE)
    rows = table.shape[0] if table is not None and table.shape else None
    return (
        lambda: vocabulary_views(facts, tokenizer, rows, findings),
        lambda: vocabulary_json(file.path, facts, rows, findings),
    )


def _near(file: GGUFFile, tokenizer: TextTokenizer, near: str, most: int) -> tuple[Views, Data]:
    from ggufscope.forward.weights import StoredWeights
    from ggufscope.measure.nearest import TABLE, nearest
    from ggufscope.model.tokenizer.words import read_sum
    from ggufscope.report.progress import CommandBar
    from ggufscope.report.tokens.json import near_json
    from ggufscope.report.tokens.text import near_views
    from ggufscope.report.units import extents

    terms = read_sum(tokenizer, near)
    weights = StoredWeights(file)
    shape = weights.shape(TABLE)
    with CommandBar(file.path.name) as bar:
        found = nearest(weights, terms, most, bar.phase("reading the table", 1.0, "tiles"))
    table = f"{TABLE}, {extents(shape)}, {weights.type(TABLE)}"
    return (
        lambda: near_views(terms, found, tokenizer, table),
        lambda: near_json(file.path, terms, found, tokenizer),
    )
