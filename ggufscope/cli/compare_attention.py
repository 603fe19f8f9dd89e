"""``ggufscope compare-attention``: whether quantized attention still matches FP32."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ggufscope.cli.options import (
    DEFAULT_PROMPT,
    AsJson,
    ExitCode,
    Force,
    Ids,
    Model,
    Text,
    TextFile,
    TypeK,
    TypeV,
    check_results,
    split_types,
    warn_about,
)
from ggufscope.errors import BadUsage, naming

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ggufscope.cli.prompts import Prompt
    from ggufscope.container.file import GGUFFile
    from ggufscope.forward.transformer import Transformer
    from ggufscope.measure.candidates import Candidate
    from ggufscope.measure.comparison import Comparison
    from ggufscope.report.compare.text import Selection, Subject

TERMINAL_TOKENS: Final = 120
"""The last tokens of a prompt that are kept for a terminal; hardly one has room for more."""


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
            help="Every matrix in these types.  [default: Q8_0,Q4_K,Q2_K]",
        ),
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option("--recipe", metavar="PRESET", help="A mixture such as Q4_K_M, in memory."),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option("--against", metavar="FILE", help="Another quantization of the same model."),
    ] = None,
    type_k: TypeK = None,
    type_v: TypeV = None,
    only: Annotated[Only, typer.Option("--only", help="Which weights are quantized.")] = Only.ALL,
    prompt: Text = None,
    prompt_file: TextFile = None,
    ids: Ids = None,
    layer: Annotated[
        int | None, typer.Option("--layer", help="Show this layer; the verdict is about all.")
    ] = None,
    head: Annotated[
        int | None, typer.Option("--head", help="Show this head; the verdict is about all.")
    ] = None,
    tolerance: Annotated[
        list[str] | None,
        typer.Option("--tolerance", metavar="METRIC=LIMIT", help="Instead of a type's own limit."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="A page of every layer and head.")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Tell whether the model still attends to the same things once it is quantized.

    The reference is the model's own weights in FP32. Against it run, on one
    prompt, Q8_0, Q4_K and Q2_K made of them in memory, or what you ask for.
    Exit code 0: every candidate is within its tolerances. 1: one is not.

    For example: ggufscope compare-attention model-f16.gguf --recipe Q4_K_M
    """
    from ggufscope.cli.prompts import read_prompt
    from ggufscope.container.file import open_gguf
    from ggufscope.forward.finite import require_finite_weights
    from ggufscope.forward.transformer import Transformer
    from ggufscope.measure.candidates import require_layer
    from ggufscope.measure.compare import compare
    from ggufscope.measure.verdict import parse_tolerances
    from ggufscope.report.compare.text import Selection
    from ggufscope.report.progress import steps_bar
    from ggufscope.report.saving import write_text
    from ggufscope.report.units import printable

    limits = parse_tolerances(tolerance or [])
    with ExitStack() as stack:
        file = stack.enter_context(open_gguf(model))
        stack.enter_context(naming(file.path))
        others = [stack.enter_context(open_gguf(path)) for path in against or []]
        check_results([html], [file, *others], prompt_file, overwrite=force)
        for opened in (file, *others):
            warn_about(opened)
        runnable = Transformer.of(file)
        heads = [runnable.block(n).heads.heads for n in range(runnable.n_layers)]
        require_layer(runnable.n_layers, heads, layer, head)
        candidates = _candidates(
            file, split_types(types), recipe or [], others, (type_k, type_v), only
        )
        text = read_prompt(
            file.metadata, prompt, prompt_file, ids, DEFAULT_PROMPT, runnable.n_vocab
        )
        runnable.require_runnable(text.ids)
        maps = _Maps(len(text.ids), sum(heads), len(candidates) + 1, layer, page=html is not None)
        with steps_bar("checking weights") as advance:
            for opened in (file, *others):
                require_finite_weights(opened, advance)
        with steps_bar("layers") as advance:
            comparison = compare(
                file, text.ids, candidates, tolerances=limits, keep=maps.keep, progress=advance
            )
        subject = _subject(file, runnable, text)
        selection = Selection(layer, head)
        if html is not None:
            page = _page(subject, comparison, selection, maps)
            write_text(html, page, overwrite=force)
        _print(subject, comparison, selection, maps, as_json=as_json)
        if html is not None and not as_json:
            typer.echo(f"page       {printable(str(html))}")
        for opened in (file, *others):
            opened.require_unchanged()
    if not comparison.matches:
        raise typer.Exit(ExitCode.NO)


class _Maps:
    """The matrices that are shown, of all runs: no more of a long prompt than there is room for."""

    def __init__(
        self, tokens: int, heads: int, runs: int, layer: int | None, *, page: bool
    ) -> None:
        """Take the number of tokens, of heads in all layers, of runs; the one layer to be shown."""
        from ggufscope.report.html import tokens_shown

        room = tokens_shown(tokens, heads, runs) if page else TERMINAL_TOKENS
        self._shown = min(tokens, room)
        self._layer = None if page else layer
        self.runs: list[dict[int, npt.NDArray[np.float32]]] = [{} for _ in range(runs)]

    def keep(self, run: int, layer: int, weights: Any) -> None:
        """Take a layer's matrices (H, T, T) of a run."""
        from ggufscope.report.html import window

        if self._layer in (None, layer):
            self.runs[run][layer] = window(weights, self._shown)


def _candidates(
    file: GGUFFile,
    types: list[str],
    recipes: list[str],
    others: list[GGUFFile],
    cache_types: tuple[str | None, str | None],
    only: Only,
) -> list[Candidate]:
    """Give the candidates in the order: types, recipes, files; the cache alone where none is."""
    from ggufscope.measure import candidates as make

    part: make.Part = only.value
    if only is not Only.ALL and others:
        raise BadUsage(
            f"--only {only} is about weights quantized in memory, --against about a file's",
            hint="leave one of the two out",
        )
    keys, values = cache_types
    cache = (keys or "F32", values or "F32") if keys or values else None
    if not types and not recipes and not others:
        if cache is not None and only is Only.ALL:
            return make.of_cache(*cache)
        types = list(make.DEFAULT_TYPES)
    found = make.of_types(file, types, part) + make.of_recipes(file, recipes, part)
    found += [make.of_file(file, other) for other in others]
    if cache is not None:
        found = [make.with_cache(each, *cache) for each in found]
    names = Counter(each.name for each in found)
    found = [
        replace(each, name=str(each.file.path)) if each.file and names[each.name] > 1 else each
        for each in found
    ]
    if len({each.name for each in found}) < len(found):
        raise BadUsage("a candidate is named twice", hint="name each type, recipe and file once")
    return found


def _subject(file: GGUFFile, model: Transformer, prompt: Prompt) -> Subject:
    from ggufscope.model.summary import summarize
    from ggufscope.report.as_json import model_json
    from ggufscope.report.compare.text import Subject

    summary = summarize(file)
    stored = Counter(t.type.name for t in file.tensors.values() if len(t.shape) > 1)
    types = ", ".join(name for name, _ in stored.most_common())
    heads = sorted({model.block(n).heads.heads for n in range(model.n_layers)})
    counted = f"{model.n_layers} layers of {' or '.join(map(str, heads))} heads"
    said = "" if prompt.text is None else f'"{_cut(prompt.text)}", '
    number = len(prompt.ids)
    return Subject(
        facts=[
            ("model", f"{file.path.name}: {summary.name or 'no name'}, {counted}"),
            ("prompt", f"{said}{number} token{'s' if number > 1 else ''}"),
            ("reference", f"its own weights ({types}) in FP32"),
        ],
        tokens=prompt.tokens,
        prompt=prompt.text,
        model=model_json(file.path, summary) | {"types": dict(stored)},
    )


def _cut(text: str, most: int = 240) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _page(subject: Subject, comparison: Comparison, selection: Selection, maps: _Maps) -> str:
    from ggufscope.report.compare.page import comparison_page
    from ggufscope.report.compare.text import place_to_show
    from ggufscope.report.html import page_html

    start = place_to_show(comparison, selection)
    return page_html(comparison_page(subject, comparison, maps.runs, start))


def _print(
    subject: Subject,
    comparison: Comparison,
    selection: Selection,
    maps: _Maps,
    *,
    as_json: bool,
) -> None:
    if as_json:
        from ggufscope.report.as_json import dumps
        from ggufscope.report.compare.json import comparison_json

        typer.echo(dumps(comparison_json(subject, comparison)))
        return
    from ggufscope.report.compare.text import comparison_views, map_views, place_to_show
    from ggufscope.report.console import make_console, show
    from ggufscope.report.heatmap import map_width, shades_for

    console = make_console()
    show(console, comparison_views(subject, comparison, selection))
    number, layer, head = place_to_show(comparison, selection)
    views = map_views(
        ("FP32", comparison.candidates[number].name),
        (layer, head),
        (maps.runs[0][layer][head], maps.runs[number + 1][layer][head]),
        subject.tokens,
        width=map_width(console),
        shades=shades_for(console),
    )
    show(console, views)
