"""``ggufscope compare-attention``: what quantizing did to a model, and whether it is well made."""

from __future__ import annotations

from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ggufscope.cli import completion
from ggufscope.cli.options import (
    CHECKING,
    DEFAULT_PROMPT,
    Against,
    AsJson,
    Context,
    ExitCode,
    Force,
    Ids,
    Model,
    Recipes,
    Text,
    TextFile,
    TypeK,
    TypeV,
    check_results,
    check_weights,
    split_types,
    warn_about,
    warn_of_a_long_job,
)
from ggufscope.cli.output import AsMarkdown, Brief, Quiet, print_views, require_one_form
from ggufscope.cli.pages import OpenPage, open_in_browser, require_page_to_open, write_page
from ggufscope.errors import BadUsage, naming

if TYPE_CHECKING:
    from ggufscope.measure.comparison import Comparison
    from ggufscope.measure.maps import KeptMaps
    from ggufscope.report.compare.text import Selection
    from ggufscope.report.subject import Subject


class By(StrEnum):
    """What a table has a row for."""

    LAYER = "layer"
    HEAD = "head"


class Require(StrEnum):
    """The largest effect that will do."""

    NEGLIGIBLE = "negligible"
    SMALL = "small"
    VISIBLE = "visible"


class Only(StrEnum):
    """Which weights are quantized."""

    ALL = "all"
    ATTENTION = "attention"
    FFN = "ffn"


def compare_attention_command(
    model: Model,
    types: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            "--types",
            metavar="T1,T2,...",
            help="Every matrix in these types.  \\[default: Q8_0,Q4_K,Q2_K]",
            autocompletion=completion.types,
        ),
    ] = None,
    recipe: Recipes = None,
    against: Against = None,
    type_k: TypeK = None,
    type_v: TypeV = None,
    only: Annotated[Only, typer.Option("--only", help="Which weights are quantized.")] = Only.ALL,
    prompt: Text = None,
    prompt_file: TextFile = None,
    ids: Ids = None,
    context: Context = None,
    layer: Annotated[
        int | None, typer.Option("--layer", help="Show this layer; the verdict is about all.")
    ] = None,
    head: Annotated[
        int | None, typer.Option("--head", help="Show this head; the verdict is about all.")
    ] = None,
    tolerance: Annotated[
        list[str] | None,
        typer.Option("--tolerance", metavar="METRIC=LIMIT", help="A limit on one metric."),
    ] = None,
    require: Annotated[
        Require | None,
        typer.Option("--require", help="The largest effect that will do."),
    ] = None,
    by: Annotated[
        list[By] | None, typer.Option("--by", help="Show every layer, or the heads that moved.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="A page of every layer and head.")
    ] = None,
    open_page: OpenPage = False,
    force: Force = False,
    brief: Brief = False,
    markdown: AsMarkdown = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Tell what quantizing does to a model, and whether a quantized file is well made.

    The reference is the model's own weights in FP32. Against it run, on one
    prompt, Q8_0, Q4_K and Q2_K made of them in memory, or what you ask for.
    A file is also held to what quantizing the reference to its types gives.
    Exit code 1: a file is not well made, or beyond --require or --tolerance.

    For example: ggufscope compare-attention model-f16.gguf --against q4.gguf
    """
    from ggufscope.cli.prompts import read_prompt
    from ggufscope.container.file import open_gguf
    from ggufscope.forward.checks import require_ids
    from ggufscope.forward.transformer import Transformer
    from ggufscope.measure.candidates import choose, require_layer
    from ggufscope.measure.compare import compare
    from ggufscope.measure.maps import TERMINAL_TOKENS, KeptMaps, tokens_shown
    from ggufscope.measure.verdict import parse_tolerances
    from ggufscope.measure.windows import in_windows
    from ggufscope.model.summary import summarize
    from ggufscope.report.compare.text import (
        Selection,
        brief_views,
        comparison_views,
        place_to_show,
    )
    from ggufscope.report.progress import CommandBar
    from ggufscope.report.subject import Subject
    from ggufscope.report.units import printable

    require_one_form(as_json=as_json, markdown=markdown, brief=brief)
    if brief:
        # A page begins with the layer and the head.
        places = () if html is not None else (("--layer", layer), ("--head", head))
        for name, value in (("--by", by), *places):
            if value is not None:
                raise BadUsage(f"--brief leaves out what {name} asks for", hint="give one of them")
    require_page_to_open(html, open_page=open_page)
    limits = parse_tolerances(tolerance or [])
    with ExitStack() as stack:
        file = stack.enter_context(open_gguf(model))
        others = [stack.enter_context(open_gguf(path)) for path in against or []]
        stack.enter_context(naming(file.path))
        check_results([html], [file, *others], prompt_file, overwrite=force)
        for opened in (file, *others):
            warn_about(opened)
        runnable = Transformer.of(file, context=context)
        heads = [runnable.block(n).heads.count for n in range(runnable.n_layers)]
        require_layer(runnable.n_layers, heads, layer, head)
        candidates = choose(
            *(file, split_types(types), recipe or [], others, (type_k, type_v), only.value)
        )
        text = read_prompt(
            file.metadata, prompt, prompt_file, ids, DEFAULT_PROMPT, runnable.n_vocab
        )
        require_ids(text.ids, 0, runnable.n_vocab, None)
        first = in_windows(text.ids, runnable.n_context, file.metadata)[0]
        warn_of_a_long_job([file, *others])
        runs = len(candidates) + 1
        if html is None:
            maps = KeptMaps(runs, TERMINAL_TOKENS, layer)
        else:
            maps = KeptMaps(runs, tokens_shown(len(first), sum(heads), runs), ids=first)
        with CommandBar(file.path.name) as bar:
            check_weights([file, *others], bar)
            advance = bar.phase("comparing", 1 - CHECKING, "layers")
            comparison = compare(
                *(file, text.ids, candidates),
                context=context,
                tolerances=limits,
                require=require,
                keep=maps.keep,
                progress=advance,
            )
        subject = Subject(
            *(file.path, summarize(file), text.text, text.ids, text.tokens, text.label),
            runnable.long_rope,
        )
        selection = Selection(layer, head, By.LAYER in (by or ()), By.HEAD in (by or ()))
        if html is not None:
            from ggufscope.report.compare.page import comparison_page

            start = place_to_show(comparison, selection)
            page = comparison_page(subject, comparison, maps, start)
            write_page(html, page, overwrite=force)
        if as_json:
            from ggufscope.report.as_json import dumps
            from ggufscope.report.compare.json import comparison_json

            typer.echo(dumps(comparison_json(subject, comparison)))
        elif brief:
            print_views(brief_views(comparison), markdown=markdown)
        elif markdown:
            print_views(comparison_views(subject, comparison, selection), markdown=True)
        else:
            _print(subject, comparison, selection, maps)
        if html is not None and not (as_json or markdown):
            typer.echo(f"page       {printable(str(html))}")
        for opened in (file, *others):
            opened.require_unchanged()
    if html is not None and open_page:
        open_in_browser(html)
    if not comparison.accepted:
        raise typer.Exit(ExitCode.NO)


def _print(
    subject: Subject,
    comparison: Comparison,
    selection: Selection,
    maps: KeptMaps,
) -> None:
    from ggufscope.report.compare.text import (
        answer_view,
        comparison_views,
        map_views,
        place_to_show,
    )
    from ggufscope.report.console import make_console, show
    from ggufscope.report.heatmap import map_width, shades_for

    console = make_console()
    show(console, comparison_views(subject, comparison, selection))
    if selection.maps:
        number, layer, head = place_to_show(comparison, selection)
        views = map_views(
            ("FP32", comparison.candidates[number].name),
            (layer, head),
            (maps.runs[0][layer][head], maps.runs[number + 1][layer][head]),
            subject.tokens[: len(comparison.windows[0])],
            width=map_width(console),
            shades=shades_for(console),
            windows=len(comparison.windows),
        )
        show(console, views)
    show(console, ["", answer_view(comparison)])
