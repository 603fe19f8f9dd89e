"""``ggufscope size``: what a model weighs, on disk and in memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ggufscope.cli.common import ExitCode, warn, warn_about
from ggufscope.cli.sizes import parse_size, parse_size_if
from ggufscope.errors import BadUsage, naming

MOST_BITS: Final = 64

if TYPE_CHECKING:
    from ggufscope.sizing.overview import Overview, Question
    from ggufscope.sizing.settings import RunSettings


def size_command(
    model: Annotated[
        str, typer.Argument(help="A GGUF file, a known shape (llama-3.1-8b), or a count (7B).")
    ],
    context: Annotated[
        list[str] | None,
        typer.Option(
            "--context", "-c", metavar="N", help="Tokens of context; several: 4096,16384."
        ),
    ] = None,
    kv_type: Annotated[
        str | None, typer.Option("--kv-type", help="The type of keys and values.  [default: f16]")
    ] = None,
    type_k: Annotated[str | None, typer.Option("--type-k", help="Of keys alone.")] = None,
    type_v: Annotated[str | None, typer.Option("--type-v", help="Of values alone.")] = None,
    parallel: Annotated[
        int, typer.Option("--parallel", "-np", min=1, max=256, help="Sequences side by side.")
    ] = 1,
    batch: Annotated[
        int, typer.Option("--batch", "-ub", min=1, max=2**31, help="Tokens computed at once.")
    ] = 512,
    kv_unified: Annotated[
        bool, typer.Option("--kv-unified", help="One cache for all sequences.")
    ] = False,
    swa_full: Annotated[
        bool, typer.Option("--swa-full", help="Windowed layers keep every token.")
    ] = False,
    no_flash_attention: Annotated[
        bool, typer.Option("--no-flash-attention", help="For a device that has none.")
    ] = False,
    fits: Annotated[
        list[str] | None,
        typer.Option("--fits", metavar="SIZE", help="What fits in so much memory; several."),
    ] = None,
    vram: Annotated[
        str | None, typer.Option("--vram", metavar="SIZE", help="How many layers go on this GPU.")
    ] = None,
    ram: Annotated[
        str | None, typer.Option("--ram", metavar="SIZE", help="Of the host, beside --vram.")
    ] = None,
    target_size: Annotated[
        str | None,
        typer.Option("--target-size", metavar="SIZE", help="The preset nearest below, on disk."),
    ] = None,
    target_bpw: Annotated[
        float | None,
        typer.Option("--target-bpw", metavar="BITS", help="The same, by bits per weight."),
    ] = None,
    types: Annotated[
        list[str] | None, typer.Option("--type", help="Only this preset; several.")
    ] = None,
    with_imatrix: Annotated[
        bool, typer.Option("--with-imatrix", help="Count on an importance matrix.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Tell what a model weighs, in every preset, on disk and in memory.

    Only the header is read; for a name or a count, nothing is. Exit code 1
    where the answer to --fits, --vram or a target is that nothing does.

    For example: ggufscope size llama-3.1-8b --fits 8GiB --context 16384
    """
    from ggufscope.sizing.bare import parse_count

    asked = [context, fits, vram, ram, target_size, target_bpw, types]
    count = None if _is_there(model) else parse_count(model)
    if count is not None:
        if any(option is not None for option in asked):
            raise BadUsage(
                f"{model} says how many weights, and nothing of layers and heads",
                hint="for memory and presets give a GGUF file, or a name such as llama-3.1-8b",
            )
        _show_count(count, as_json=as_json)
        return
    if ram is not None and vram is None:
        raise BadUsage("--ram goes with --vram", hint="without a GPU ask for --fits")
    question = _question(
        contexts=_contexts(context or []),
        settings=_settings(
            kv_type,
            type_k,
            type_v,
            parallel=parallel,
            batch=batch,
            unified=kv_unified,
            swa_full=swa_full,
            flash_attention=not no_flash_attention,
        ),
        limits=tuple(parse_size(text, "--fits", "a memory") for text in fits or []),
        vram=parse_size_if(vram, "--vram", "the GPU's memory"),
        ram=parse_size_if(ram, "--ram", "the host's memory"),
        target_nbytes=parse_size_if(target_size, "--target-size", "a file"),
        target_bits=_bits(target_bpw),
        presets=tuple(types or ()),
        with_imatrix=with_imatrix,
    )
    overview = _answer(model, question)
    _show(overview, as_json=as_json)
    if overview.nothing_fits:
        raise typer.Exit(ExitCode.NO)


def _is_there(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long for a name, or a NUL in it
        return False


def _answer(model: str, question: Question) -> Overview:
    from ggufscope.sizing.overview import overview_of_file, overview_of_shape
    from ggufscope.sizing.shapes import SHAPES, shape_named

    path = Path(model)
    written_as_path = path.suffix.lower() == ".gguf" or len(path.parts) > 1
    if _is_there(model) or (written_as_path and model.lower() not in SHAPES):
        from ggufscope.container.file import open_gguf

        with open_gguf(path) as file, naming(path):
            warn_about(file)
            overview = overview_of_file(file, question)
    else:
        overview = overview_of_shape(shape_named(model), question)
    made_for = overview.hparams.context_length if overview.hparams else None
    if made_for and max(question.contexts, default=0) > made_for:
        warn(f"the model was made for {made_for:,} tokens of context")
    return overview


def _show(overview: Overview, *, as_json: bool) -> None:
    if as_json:
        from ggufscope.report.as_json import dumps
        from ggufscope.report.size.json import overview_json

        typer.echo(dumps(overview_json(overview)))
        return
    from ggufscope.report.console import make_console, show
    from ggufscope.report.size.text import overview_views

    show(make_console(), overview_views(overview))


def _show_count(count: int, *, as_json: bool) -> None:
    from ggufscope.sizing.bare import bare_sizes, example_plan

    sizes = bare_sizes(count)
    examples = [example_plan(preset) for preset in ("Q4_K_M", "Q2_K")]
    if as_json:
        from ggufscope.report.as_json import dumps
        from ggufscope.report.size.json import bare_json

        typer.echo(dumps(bare_json(sizes, examples)))
        return
    from ggufscope.report.console import make_console, show
    from ggufscope.report.size.text import bare_views

    show(make_console(), bare_views(sizes, examples))


def _question(*, with_imatrix: bool, **asked: Any) -> Question:
    from ggufscope.recipes.options import PlanOptions
    from ggufscope.sizing.overview import Question

    return Question(**asked, options=PlanOptions(importance=with_imatrix))


def _settings(
    kv_type: str | None, type_k: str | None, type_v: str | None, **flags: Any
) -> RunSettings:
    from ggufscope.blocks.layouts import layout_named
    from ggufscope.sizing.settings import CACHE_TYPES, RunSettings

    layouts = []
    for text in (type_k or kv_type or "F16", type_v or kv_type or "F16"):
        layout = layout_named(text)
        if layout.name not in CACHE_TYPES:
            raise BadUsage(
                f"llama.cpp keeps no cache in {layout.name}",
                hint=f"the types are {', '.join(CACHE_TYPES)}",
            )
        layouts.append(layout)
    # Each run has a context of its own in place of the 1.
    return RunSettings(1, type_k=layouts[0], type_v=layouts[1], **flags)


def _bits(bits: float | None) -> float | None:
    if bits is not None and not 0 < bits <= MOST_BITS:
        raise BadUsage(
            f"--target-bpw {bits:g} is no number of bits", hint=f"more than 0, {MOST_BITS} at most"
        )
    return bits


def _contexts(texts: list[str]) -> tuple[int, ...]:
    words = [word for text in texts for word in text.split(",")]
    found: set[int] = set()
    for word in words:
        match = re.fullmatch(r"([0-9_]+)([kK]?)", word.strip(), re.ASCII)
        number = int(match[1].replace("_", "") or 0) * (1024 if match[2] else 1) if match else 0
        if not 0 < number < 2**32:
            raise BadUsage(f"--context {word!r} is no length", hint="write 16384, 16k, or several")
        found.add(number)
    return tuple(sorted(found))
