"""``ggufscope size``: what a model weighs, on disk and in memory."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer import Argument, Option

from ggufscope.cli import completion
from ggufscope.cli.options import AsJson, ExitCode, TypeK, TypeV, split_types, warn
from ggufscope.cli.output import AsMarkdown, Brief, Quiet, print_views, require_one_form
from ggufscope.cli.sizes import check_bits, parse_size, parse_size_if
from ggufscope.errors import BadUsage

if TYPE_CHECKING:
    from ggufscope.recipes.sensitivities import Sensitivities

HERE: Final = "here"
"""What stands for this machine's memory, in place of a size."""


def size_command(
    model: Annotated[
        str,
        Argument(
            help="A GGUF file, a known shape (llama-3.1-8b), or a count (7B).",
            autocompletion=completion.shapes,
        ),
    ],
    context: Annotated[
        list[str] | None,
        Option("--context", "-c", metavar="N", help="Tokens of context; several: 4096,16384."),
    ] = None,
    type_k: TypeK = None,
    type_v: TypeV = None,
    parallel: Annotated[
        int, Option("--parallel", "-np", min=1, max=256, help="Sequences side by side.")
    ] = 1,
    batch: Annotated[
        int, Option("--batch", "-ub", min=1, max=2**31, help="Tokens computed at once.")
    ] = 512,
    kv_unified: Annotated[
        bool, Option("--kv-unified", help="One cache for all sequences.")
    ] = False,
    swa_full: Annotated[
        bool, Option("--swa-full", help="Windowed layers keep every token.")
    ] = False,
    no_flash_attention: Annotated[
        bool, Option("--no-flash-attention", help="For a device that has none.")
    ] = False,
    fits: Annotated[
        list[str] | None,
        Option("--fits", metavar="SIZE", help="Does it fit? `here`: in what this machine has."),
    ] = None,
    vram: Annotated[
        str | None, Option("--vram", metavar="SIZE", help="How many layers go on this GPU.")
    ] = None,
    ram: Annotated[
        str | None, Option("--ram", metavar="SIZE", help="Of the host, beside --vram.")
    ] = None,
    target_size: Annotated[
        str | None,
        Option("--target-size", metavar="SIZE", help="The preset nearest below, on disk."),
    ] = None,
    target_bpw: Annotated[
        float | None,
        Option("--target-bpw", metavar="BITS", help="The same, by bits per weight."),
    ] = None,
    types: Annotated[
        list[str] | None,
        Option(
            *("--type", "--types"),
            metavar="T1,T2,...",
            help="Only these presets.",
            autocompletion=completion.presets,
        ),
    ] = None,
    sensitivities: Annotated[
        Path | None,
        Option(
            "--sensitivities",
            metavar="FILE",
            help="What quantize measured: the best mixes, too.",
        ),
    ] = None,
    with_imatrix: Annotated[
        bool, Option("--with-imatrix", help="Count on an importance matrix.")
    ] = False,
    brief: Brief = False,
    markdown: AsMarkdown = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Show what a model weighs, in every preset, on disk and in memory.

    Only the header is read; for a name or a count, nothing is. Exit code 1
    where a file as it is does not fit; for a name or a target, where no preset
    does.

    For example: ggufscope size llama-3.1-8b --fits 8GiB --context 16384
    """
    from ggufscope.recipes.options import PlanOptions
    from ggufscope.sizing.here import this_machine
    from ggufscope.sizing.overview import Question, named, overview_of
    from ggufscope.sizing.settings import RunSettings, cache_type

    require_one_form(as_json=as_json, markdown=markdown, brief=brief)
    subject = named(model)
    if isinstance(subject, int):
        asked = [context, fits, vram, ram, target_size, target_bpw, types, type_k, type_v]
        if any(option is not None for option in (*asked, sensitivities)):
            raise BadUsage(
                f"{model} says how many weights, and nothing of layers and heads",
                hint="for memory and presets give a GGUF file, or a name such as llama-3.1-8b",
            )
        _print_count(subject, as_json=as_json, markdown=markdown)
        return
    if ram is not None and vram is None:
        raise BadUsage("--ram goes with --vram", hint="without a GPU ask for --fits")
    limits = [parse_size(each, "--fits", "a memory") for each in fits or [] if each != HERE]
    on_gpu = parse_size_if(vram, "--vram", "the GPU's memory")
    in_ram = parse_size_if(ram, "--ram", "the host's memory")
    here = this_machine() if HERE in (fits or []) else None
    if here is not None:
        if on_gpu is None and here.gpu is not None:
            on_gpu = here.gpu.free
        if on_gpu is None:
            limits.append(here.free)
        elif in_ram is None:
            in_ram = here.free
    question = Question(
        _contexts(context or []),
        RunSettings(
            1,  # in its place comes each of the contexts
            parallel=parallel,
            batch=batch,
            type_k=cache_type(type_k),
            type_v=cache_type(type_v),
            unified=kv_unified,
            swa_full=swa_full,
            flash_attention=not no_flash_attention,
        ),
        limits=tuple(limits),
        vram=on_gpu,
        ram=in_ram,
        target_nbytes=parse_size_if(target_size, "--target-size", "a file"),
        target_bits=check_bits(target_bpw),
        presets=tuple(split_types(types)),
        options=PlanOptions(importance=with_imatrix),
        known=_known(sensitivities) if sensitivities else None,
        here=here,
    )
    overview = overview_of(subject, question)
    for words in overview.warnings:
        warn(words)
    if as_json:
        from ggufscope.report.as_json import write_json
        from ggufscope.report.size.json import overview_json

        write_json(overview_json(overview), sys.stdout)
    else:
        from ggufscope.report.size.text import overview_views

        print_views(overview_views(overview, brief=brief), markdown=markdown)
    if overview.nothing_fits:
        raise typer.Exit(ExitCode.NO)


def _known(path: Path) -> Sensitivities:
    from ggufscope.recipes.sensitivities import read_sensitivities

    return read_sensitivities(path)


def _print_count(count: int, *, as_json: bool, markdown: bool) -> None:
    from ggufscope.report.as_json import write_json
    from ggufscope.report.size.json import bare_json
    from ggufscope.report.size.text import bare_views
    from ggufscope.sizing.bare import bare_sizes, example_plans

    sizes, examples = bare_sizes(count), example_plans()
    if as_json:
        write_json(bare_json(sizes, examples), sys.stdout)
    else:
        print_views(bare_views(sizes, examples), markdown=markdown)


def _contexts(texts: list[str]) -> tuple[int, ...]:
    found: set[int] = set()
    for word in (word for text in texts for word in text.split(",")):
        match = re.fullmatch(r"([0-9_]+)([kK]?)", word.strip(), re.ASCII)
        number = int(match[1].replace("_", "") or 0) * (1024 if match[2] else 1) if match else 0
        if not 0 < number < 2**32:
            raise BadUsage(f"--context {word!r} is no length", hint="write 16384, 16k, or several")
        found.add(number)
    return tuple(sorted(found))
