"""``ggufscope attention``: what each token of a prompt attends to, computed and shown."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from ggufscope.cli.pages import OpenPage, open_in_browser, require_page_to_open, write_page
from ggufscope.errors import BadUsage, naming

if TYPE_CHECKING:
    from ggufscope.arrays import Floats
    from ggufscope.forward.transformer import Transformer
    from ggufscope.measure.watching import Spotlight
    from ggufscope.report.progress import CommandBar
    from ggufscope.report.subject import Subject


def attention_command(
    model: Model,
    prompt: Text = None,
    prompt_file: TextFile = None,
    ids: Ids = None,
    context: Context = None,
    layer: Annotated[int | None, typer.Option("--layer", help="The layer, from 0.")] = None,
    head: Annotated[int | None, typer.Option("--head", help="The head, from 0.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check what must hold; exit 1 where it does not.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page of all heads.")
    ] = None,
    open_page: OpenPage = False,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE.npz", help="Write all matrices.")
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
    from ggufscope.cli.prompts import read_prompt
    from ggufscope.container.file import open_gguf
    from ggufscope.forward.finite import require_finite_weights
    from ggufscope.forward.transformer import Transformer
    from ggufscope.measure.maps import TERMINAL_TOKENS
    from ggufscope.measure.watching import Spotlight
    from ggufscope.model.summary import summarize
    from ggufscope.report.progress import CommandBar
    from ggufscope.report.subject import Subject

    if verify and (html or save or layer is not None or head is not None):
        raise BadUsage(
            "--verify checks all layers and heads, and shows no picture",
            hint="leave out --layer, --head, --html and --save",
        )
    if html is not None and save is not None and html.absolute() == save.absolute():
        raise BadUsage("--html and --save name one file", hint="name two files")
    require_page_to_open(html, open_page=open_page)
    with open_gguf(model) as file, naming(file.path):
        check_results([html, save], [file], prompt_file, overwrite=force)
        warn_about(file)
        runnable = Transformer.of(file, context=context)
        spotlight = Spotlight(runnable, layer, head, most=None if as_json else TERMINAL_TOKENS)
        text = read_prompt(
            file.metadata, prompt, prompt_file, ids, DEFAULT_PROMPT, runnable.n_vocab
        )
        runnable.require_runnable(text.ids)
        warn_of_a_long_job([file])
        subject = Subject(
            *(file.path, summarize(file), text.text, text.ids, text.tokens, text.label),
            runnable.long_rope,
        )
        with CommandBar(file.path.name) as bar:
            checked = bar.phase("checking weights", CHECKING)
            require_finite_weights(file, checked, tokens=len(text.ids))
            if verify:
                _verify(runnable, subject, bar, as_json=as_json)
            else:
                _show(runnable, subject, spotlight, html, save, bar, force=force, as_json=as_json)
        file.require_unchanged()
    if html is not None and open_page:
        open_in_browser(html)


def _verify(model: Transformer, subject: Subject, bar: CommandBar, *, as_json: bool) -> None:
    from ggufscope.measure.verify import verify
    from ggufscope.report.as_json import dumps
    from ggufscope.report.attention.json import verify_json
    from ggufscope.report.attention.text import head_views, verify_views
    from ggufscope.report.console import make_console, show

    advance = bar.phase("running", 1 - CHECKING, "layers")
    findings = verify(model, subject.ids, lambda done: advance(done, model.n_layers + 1))
    bar.end()
    if as_json:
        typer.echo(dumps(verify_json(findings, subject)))
    else:
        show(make_console(), head_views(subject))
        show(make_console(), verify_views(findings))
    if not all(each.holds for each in findings):
        raise typer.Exit(ExitCode.NO)


def _show(
    model: Transformer,
    subject: Subject,
    spotlight: Spotlight,
    html: Path | None,
    save: Path | None,
    bar: CommandBar,
    *,
    force: bool,
    as_json: bool,
) -> None:
    import numpy as np

    from ggufscope.measure.maps import tokens_shown
    from ggufscope.measure.watching import LastMaps, watch
    from ggufscope.report.as_json import dumps
    from ggufscope.report.attention import text as report
    from ggufscope.report.attention.json import result_json
    from ggufscope.report.attention.page import attention_page
    from ggufscope.report.console import make_console, show
    from ggufscope.report.heatmap import map_width, shades_for
    from ggufscope.report.saving import ArraysFile
    from ggufscope.report.units import printable

    heads = sum(model.block(layer).heads.count for layer in range(model.n_layers))
    maps = LastMaps(tokens_shown(len(subject.ids), heads, 1))
    with ExitStack() as stack:
        keep = None
        if save is not None:
            arrays = stack.enter_context(ArraysFile(save, overwrite=force))
            arrays.add("ids", np.array(subject.ids, np.int32))

            def keep(layer: int, weights: Floats) -> None:
                arrays.add(f"kq_soft_max-{layer}", weights)

        advance = bar.phase("running", 1 - CHECKING, "layers")
        steps = model.n_layers + 1
        watched = watch(
            model,
            subject.ids,
            watchers=[spotlight, maps] if html else [spotlight],
            keep=keep,
            progress=lambda done: advance(done, steps),
        )
        if save is not None:
            arrays.add("result_output", watched.logits)
    if html is not None:
        page = attention_page(watched, spotlight, subject, maps.maps)
        write_page(html, page, overwrite=force)
    bar.end()
    if as_json:
        typer.echo(dumps(result_json(watched, spotlight, subject)))
        return
    console = make_console()
    show(console, report.head_views(subject))
    width, shades = map_width(console), shades_for(console)
    show(console, report.views(watched, spotlight, subject, width=width, shades=shades))
    for what, path in (("page", html), ("arrays", save)):
        if path is not None:
            typer.echo(f"{what:<10} {printable(str(path))}")
