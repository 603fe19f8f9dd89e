"""``ggufscope evaluate``: quality over a text: perplexity, and divergence from the original."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ggufscope.cli import completion
from ggufscope.cli.chunks import (
    Chunks,
    ChunkTokens,
    IdsFile,
    ParseSpecial,
    Texts,
    chunk_tokens,
    first_token,
    read_texts,
)
from ggufscope.cli.options import (
    CHECKING,
    Against,
    AsJson,
    Force,
    Ids,
    Model,
    Recipes,
    check_results,
    check_weights,
    split_types,
    warn_about,
    warn_of_a_long_job,
)
from ggufscope.cli.output import AsMarkdown, Quiet, print_views, require_one_form
from ggufscope.cli.prompts import tokenizer_of
from ggufscope.errors import BadUsage, naming

if TYPE_CHECKING:
    from ggufscope.container.file import GGUFFile
    from ggufscope.measure.candidates import Candidate
    from ggufscope.measure.presets import LeftOut
    from ggufscope.recipes.importance import ImportanceMatrix


def evaluate_command(
    model: Model,
    text: Texts = None,
    ids: Ids = None,
    ids_file: IdsFile = None,
    context: ChunkTokens = None,
    chunks: Chunks = None,
    parse_special: ParseSpecial = False,
    against: Against = None,
    types: Annotated[
        list[str] | None,
        typer.Option(
            *("--type", "--types"),
            metavar="T1,T2,...",
            help="Every matrix in these types, in memory.",
            autocompletion=completion.types,
        ),
    ] = None,
    recipe: Recipes = None,
    all_presets: Annotated[
        bool, typer.Option("--all-presets", help="Every preset that makes the model smaller.")
    ] = False,
    imatrix: Annotated[
        Path | None,
        typer.Option("--imatrix", metavar="FILE", help="Quantize with an importance matrix."),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            *("--base", "--kl-divergence-base"),
            metavar="FILE",
            help="The reference: what llama-perplexity saved, or --save-base.",
        ),
    ] = None,
    save_base: Annotated[
        Path | None,
        typer.Option(
            *("--save-base", "--save-all-logits"),
            metavar="FILE",
            help="Write what the model says, for --base and llama-perplexity.",
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="A page with all tables.")
    ] = None,
    force: Force = False,
    markdown: AsMarkdown = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure quality over a text: perplexity, and divergence from the original.

    Cuts and scores the text as llama-perplexity does. Held against the model
    are files, types and presets made of it in memory, or all presets: mean
    and percentiles of the KL divergence, with errors. Models and texts may be
    larger than memory.

    For example: ggufscope evaluate model-f16.gguf --text wiki.txt --all-presets
    """
    from ggufscope.container.file import open_gguf
    from ggufscope.measure.base_file import BaseFile, BaseWriter
    from ggufscope.measure.evaluate import evaluate
    from ggufscope.model.summary import summarize
    from ggufscope.recipes.imatrix_file import read_imatrix
    from ggufscope.report.console import make_console
    from ggufscope.report.evaluate.text import evaluation_views
    from ggufscope.report.evaluate.words import Subject, subject_facts
    from ggufscope.report.progress import CommandBar
    from ggufscope.report.units import printable

    require_one_form(as_json=as_json, markdown=markdown)
    _require_sense(text, ids, ids_file, base, context, imatrix, types, recipe, all_presets)
    saved = None if base is None else BaseFile.read(base, chunks)
    matrix = None if imatrix is None else read_imatrix(imatrix)
    if matrix is not None:
        matrix.require_usable()
    with ExitStack() as stack:
        file = stack.enter_context(open_gguf(model))
        others = [stack.enter_context(open_gguf(path)) for path in against or []]
        stack.enter_context(naming(file.path))
        for target in (html, save_base):
            sources = [each for each in (*(text or ()), ids_file, base, imatrix) if each]
            for source in sources or [None]:
                check_results([target], [file, *others], source, overwrite=force)
        for opened in (file, *others):
            warn_about(opened)
        if saved is None:
            found = read_texts(
                file.metadata, text or [], ids, ids_file, parse_special=parse_special
            )
            size = chunk_tokens(file.metadata, context, file.path)
            found = replace(found, context=size, chunks=chunks)
            pieces, bos = found.cut(), found.bos
            names = [name for name, _ in found.texts]
        else:
            pieces = [[*chunk] for chunk in saved.chunks]
            bos, names = first_token(tokenizer_of(file.metadata, needed=False)), [str(base)]
        candidates, left_out = _candidates(
            file, split_types(types), recipe or [], others, matrix, all_presets=all_presets
        )
        warn_of_a_long_job([file, *others])
        writer = stack.enter_context(BaseWriter(save_base, overwrite=force)) if save_base else None
        with CommandBar(file.path.name) as bar:
            check_weights([file, *others], bar)
            advance = bar.phase("evaluating", 1 - CHECKING, "steps")
            evaluation = evaluate(
                file,
                pieces,
                candidates,
                bos=bos,
                base=saved,
                save_base=writer,
                progress=advance,
            )
        for opened in (file, *others):
            opened.require_unchanged()
        summary = summarize(file)
    subject = Subject(
        *(file.path, summary, names, base, imatrix, left_out), all_presets=all_presets
    )
    if html is not None:
        from ggufscope.report.evaluate.page import evaluation_page
        from ggufscope.report.saving import write_text

        write_text(html, evaluation_page(subject, evaluation), overwrite=force)
    if as_json:
        from ggufscope.report.as_json import dumps
        from ggufscope.report.evaluate.json import evaluation_json

        typer.echo(dumps(evaluation_json(subject, evaluation)))
        return
    width = min(make_console().width, 100)
    print_views(evaluation_views(subject, evaluation, width=width), markdown=markdown)
    column = max(len(word) for word, _ in subject_facts(subject, evaluation))
    for word, path in (("saved", save_base), ("page", html)):
        if path is not None and not markdown:
            typer.echo(f"{word:<{column}}  {printable(str(path))}")


def _require_sense(
    text: list[Path] | None,
    ids: str | None,
    ids_file: Path | None,
    base: Path | None,
    context: int | None,
    imatrix: Path | None,
    types: list[str] | None,
    recipe: list[str] | None,
    all_presets: bool,
) -> None:
    """Raise ``BadUsage`` for options that say nothing together."""
    given = (("--text", text), ("--ids", ids), ("--ids-file", ids_file), ("--context", context))
    for name, value in given:
        if base is not None and value:
            raise BadUsage(
                f"{name} stands beside --base, which has the text and its chunks in it",
                hint="leave one of the two out",
            )
    if all_presets and (types or recipe):
        raise BadUsage(
            "--all-presets stands beside --types or --recipe", hint="leave one of the two out"
        )
    if imatrix is not None and not (types or recipe or all_presets):
        raise BadUsage(
            "--imatrix is for quantizing, and nothing is quantized",
            hint="give --types, --recipe or --all-presets as well",
        )


def _candidates(
    file: GGUFFile,
    types: list[str],
    recipes: list[str],
    others: list[GGUFFile],
    imatrix: ImportanceMatrix | None,
    *,
    all_presets: bool,
) -> tuple[list[Candidate], list[LeftOut]]:
    """Return what is held against the model, and the presets that are not."""
    from ggufscope.measure.candidates import of_file, of_recipes, of_types, with_own_names
    from ggufscope.measure.presets import of_all_presets

    left_out: list[LeftOut] = []
    if all_presets:
        found, left_out = of_all_presets(file, imatrix)
    else:
        found = of_types(file, types, imatrix=imatrix)
        found += of_recipes(file, recipes, imatrix=imatrix)
    return with_own_names(found + [of_file(file, other) for other in others]), left_out
