"""``ggufscope attention``: what each token of a prompt attends to, computed and shown."""

from __future__ import annotations

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
from ggufscope.errors import BadUsage, naming

if TYPE_CHECKING:
    from ggufscope.cli.attention_modes import Answer, Mode

_QUESTION: Final = "A question"
_RESULT: Final = "What is written"


def attention_command(
    model: Model,
    prompt: Text = None,
    prompt_file: TextFile = None,
    ids: Ids = None,
    context: Context = None,
    layer: Annotated[int | None, typer.Option("--layer", help="The layer, from 0.")] = None,
    head: Annotated[int | None, typer.Option("--head", help="The head, from 0.")] = None,
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
            help="The token that is explained.",
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
    from ggufscope.cli.prompts import read_prompt
    from ggufscope.container.file import open_gguf
    from ggufscope.forward.finite import require_finite_weights
    from ggufscope.forward.transformer import Transformer
    from ggufscope.measure.maps import TERMINAL_TOKENS
    from ggufscope.model.summary import summarize
    from ggufscope.model.tokenizer.places import place_of
    from ggufscope.report.progress import CommandBar
    from ggufscope.report.subject import Subject

    if explain and verify:
        raise BadUsage("--explain and --verify are two questions", hint="ask one of them")
    if verify and (html or save or layer is not None or head is not None):
        raise BadUsage(
            "--verify checks all layers and heads, and shows no picture",
            hint="leave out --layer, --head, --html and --save",
        )
    if explain and (html or save):
        raise BadUsage(
            "--explain writes no file", hint="--json has every number; or leave out --explain"
        )
    if not explain and (full or token is not None or position is not None):
        raise BadUsage("--token, --position and --full need --explain", hint="add --explain")
    if html is not None and save is not None and html.absolute() == save.absolute():
        raise BadUsage("--html and --save name one file", hint="name two files")
    if keep and save is None:
        raise BadUsage("--keep names what --save writes", hint="name a file with --save")
    mode: Mode
    if verify:
        mode = modes.Verify()
    elif explain:
        mode = modes.Explain(layer or 0, head or 0, full)
    else:
        names, most = modes.split_names(keep), None if as_json else TERMINAL_TOKENS
        mode = modes.Show(layer, head, html, save, names, force, most)
    with open_gguf(model) as file, naming(file.path):
        check_results([html, save], [file], prompt_file, overwrite=force)
        warn_about(file)
        runnable = Transformer.of(file, context=context)
        mode.check(file, runnable)
        text = read_prompt(
            file.metadata, prompt, prompt_file, ids, DEFAULT_PROMPT, runnable.n_vocab
        )
        runnable.require_runnable(text.ids)
        place = place_of(text.pieces, text.tokens, token, position)
        warn_of_a_long_job([file])
        subject = Subject(
            *(file.path, summarize(file), text.text, text.ids, text.tokens, text.label),
            runnable.long_rope,
        )
        with CommandBar(file.path.name) as bar:
            checked = bar.phase("checking weights", CHECKING)
            require_finite_weights(file, checked, tokens=len(text.ids))
            advance = bar.phase("running", 1 - CHECKING, "layers")
            steps = runnable.n_layers + 1
            asked = modes.Asked(runnable, subject, place, lambda done: advance(done, steps))
            answer = mode.answer(asked)
            bar.end()
            _print(answer, as_json=as_json)
        file.require_unchanged()
    if not answer.holds:
        raise typer.Exit(ExitCode.NO)


def _print(answer: Answer, *, as_json: bool) -> None:
    from ggufscope.report.as_json import dumps
    from ggufscope.report.console import make_console, show
    from ggufscope.report.units import printable

    if as_json:
        typer.echo(dumps(answer.data()))
        return
    console = make_console()
    show(console, answer.views(console))
    for what, path in answer.files:
        typer.echo(f"{what:<10} {printable(str(path))}")
