"""``ggufscope attention``: what each token of a prompt attends to, computed and shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ggufscope.cli.options import (
    CHECKING,
    DEFAULT_PROMPT,
    AsJson,
    Context,
    ExitCode,
    Force,
    Ids,
    Model,
    Text,
    TextFile,
    check_results,
    warn_about,
    warn_of_a_long_job,
)
from ggufscope.cli.output import Quiet
from ggufscope.cli.pages import OpenPage, open_in_browser, require_page_to_open
from ggufscope.errors import BadUsage, naming

if TYPE_CHECKING:
    from ggufscope.cli.attention_modes import Answer, Mode
    from ggufscope.cli.prompts import Prompt

_QUESTION: Final = "A question"
_RESULT: Final = "What is written"


def attention_command(
    model: Model,
    prompt: Text = None,
    prompt_file: TextFile = None,
    ids: Ids = None,
    context: Context = None,
    layer: Annotated[int | None, typer.Option("--layer", help="The layer, from 0.")] = None,
    head: Annotated[
        int | None, typer.Option("--head", help="The head, from 0; of layer 0 if no --layer.")
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="One token in one head, every step in numbers.",
            rich_help_panel=_QUESTION,
        ),
    ] = False,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="WORD",
            help="What one token attends to; or the token of another question.",
            rich_help_panel=_QUESTION,
        ),
    ] = None,
    position: Annotated[
        int | None,
        typer.Option(
            "--position",
            metavar="N",
            help="The token by its number, from 0.",
            rich_help_panel=_QUESTION,
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="WORD", help="Who looks at it; with --token.", rich_help_panel=_QUESTION
        ),
    ] = None,
    compare_prompt: Annotated[
        str | None,
        typer.Option(
            "--compare-prompt",
            metavar="TEXT",
            help="The same --token in another prompt.",
            rich_help_panel=_QUESTION,
        ),
    ] = None,
    heads: Annotated[
        bool,
        typer.Option(
            "--heads", help="All heads: W_O's share of each, patterns.", rich_help_panel=_QUESTION
        ),
    ] = False,
    cached: Annotated[
        bool,
        typer.Option(
            "--cached", help="Token by token with the KV cache.", rich_help_panel=_QUESTION
        ),
    ] = False,
    full: Annotated[
        bool,
        typer.Option("--full", help="Cut no vector and no table.", rich_help_panel=_QUESTION),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Check what must hold; exit 1 where it does not.",
            rich_help_panel=_QUESTION,
        ),
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Write a page of all heads.",
            rich_help_panel=_RESULT,
        ),
    ] = None,
    open_page: OpenPage = False,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save", metavar="FILE.npz", help="Write all matrices.", rich_help_panel=_RESULT
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            "--keep",
            metavar="NAME",
            help="What --save writes: Qcur, Kcur, ...; or all.",
            rich_help_panel=_RESULT,
        ),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Run a prompt through a model and show what its tokens attend to.

    Without --layer and --head: the head that attends to the previous token
    most. With --layer alone: the mean of the layer's heads.

    For example: ggufscope attention model.gguf --prompt "Hello" --layer 3
    """
    from ggufscope.cli import attention_modes as modes
    from ggufscope.cli import attention_questions as others
    from ggufscope.cli.prompts import read_prompt
    from ggufscope.container.file import open_gguf
    from ggufscope.forward.finite import require_finite_weights
    from ggufscope.forward.transformer import Transformer
    from ggufscope.measure.maps import TERMINAL_TOKENS
    from ggufscope.model.summary import summarize
    from ggufscope.model.tokenizer.places import place_of
    from ggufscope.report.progress import CommandBar
    from ggufscope.report.subject import Subject

    one_head = layer is not None or head is not None
    if verify and (html or save or one_head):
        raise BadUsage(
            "--verify checks all layers and heads, and shows no picture",
            hint="leave out --layer, --head, --html and --save",
        )
    of_token = token is not None or position is not None
    questions = {
        "--explain": explain,
        "--verify": verify,
        "--to": to is not None,
        "--compare-prompt": compare_prompt is not None,
        "--heads": heads,
        "--cached": cached,
    }
    asked_for = [name for name, wanted in questions.items() if wanted]
    asked_for += ["--token"] if of_token and not asked_for else []
    _require_one_question(asked_for, written=bool(html or save), full=full, of_token=of_token)
    if compare_prompt is not None and token is None:
        raise BadUsage("--compare-prompt needs --token", hint="name a word that both texts have")
    if one_head and asked_for and asked_for not in (["--explain"], ["--token"]):
        raise BadUsage(f"{asked_for[0]} is about all heads", hint="leave out --layer and --head")
    if asked_for == ["--token"] and head is not None:
        raise BadUsage("--token shows all heads", hint="leave out --head, or add --explain")
    if html is not None and save is not None and html.absolute() == save.absolute():
        raise BadUsage("--html and --save name one file", hint="name two files")
    if keep and save is None:
        raise BadUsage("--keep names what --save writes", hint="name a file with --save")
    mode: Mode
    if verify:
        mode = modes.Verify()
    elif explain:
        mode = modes.Explain(layer or 0, head or 0, full)
    elif to is not None:
        mode = others.To(of_token, full)
    elif compare_prompt is not None:
        mode = others.Pair(full)
    elif heads:
        mode = others.Heads()
    elif cached:
        mode = others.Cached()
    elif of_token:
        mode = others.Token(layer)
    else:
        names, most = modes.split_names(keep), None if as_json else TERMINAL_TOKENS
        mode = modes.Show(layer, head, html, save, names, force, most)
    require_page_to_open(html, open_page=open_page)
    with open_gguf(model) as file, naming(file.path):
        check_results([html, save], [file], prompt_file, overwrite=force)
        warn_about(file)
        runnable = Transformer.of(file, context=context)
        mode.check(file, runnable)

        def read(prompt: str | None, path: Path | None = None, ids: str | None = None) -> Prompt:
            vocabulary = runnable.n_vocab
            return read_prompt(file.metadata, prompt, path, ids, DEFAULT_PROMPT, vocabulary)

        text = read(prompt, prompt_file, ids)
        runnable.require_runnable(text.ids)
        place = place_of(text.pieces, text.tokens, token, position)
        warn_of_a_long_job([file])
        subject = Subject(
            *(file.path, summarize(file), text.text, text.ids, text.tokens, text.label),
            runnable.long_rope,
        )
        to_place = other = None
        if to is not None:
            before = place.position if of_token else None
            to_place = place_of(text.pieces, text.tokens, to, None, before=before)
        if compare_prompt is not None:
            second = read(compare_prompt)
            runnable.require_runnable(second.ids)
            there = replace(subject, text=second.text, ids=second.ids, tokens=second.tokens)
            other = there, place_of(second.pieces, second.tokens, token, None)
        with CommandBar(file.path.name) as bar:
            checked = bar.phase("checking weights", CHECKING)
            require_finite_weights(file, checked, tokens=len(text.ids))
            advance = bar.phase("running", 1 - CHECKING, "layers")
            steps = runnable.n_layers + 1
            asked = modes.Asked(
                *(runnable, subject, place, to_place, other),
                progress=lambda done: advance(done, steps),
            )
            answer = mode.answer(asked)
            bar.end()
            _print(answer, as_json=as_json)
        file.require_unchanged()
    if html is not None and open_page:
        open_in_browser(html)
    if not answer.holds:
        raise typer.Exit(ExitCode.NO)


def _require_one_question(
    asked_for: list[str], *, written: bool, full: bool, of_token: bool
) -> None:
    """Raise ``BadUsage`` for two questions, or for what a question has no use for."""
    if len(asked_for) > 1:
        raise BadUsage(
            f"{asked_for[0]} and {asked_for[1]} are two questions", hint="ask one of them"
        )
    if asked_for and written:
        raise BadUsage(
            f"{asked_for[0]} writes no file", hint=f"--json has all; or leave out {asked_for[0]}"
        )
    if full and asked_for not in (["--explain"], ["--to"], ["--compare-prompt"]):
        raise BadUsage("--full needs a question that is cut", hint="add, say, --explain")
    if of_token and asked_for in (["--verify"], ["--heads"], ["--cached"]):
        raise BadUsage(
            f"{asked_for[0]} is about all tokens", hint="leave out --token and --position"
        )


def _print(answer: Answer, *, as_json: bool) -> None:
    if as_json:
        from ggufscope.report.as_json import dumps

        typer.echo(dumps(answer.data()))
        return
    from ggufscope.report.console import make_console, show
    from ggufscope.report.units import printable

    console = make_console()
    show(console, answer.views(console))
    for what, path in answer.files:
        typer.echo(f"{what:<10} {printable(str(path))}")
