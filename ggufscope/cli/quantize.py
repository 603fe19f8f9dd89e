"""``ggufscope quantize`` and ``ggufscope dequantize``: the files that llama-quantize writes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ggufscope.cli import completion
from ggufscope.cli.options import AsJson, Force, split_types, warn, warn_of_a_long_job
from ggufscope.cli.options import Model as Source
from ggufscope.cli.output import Brief, Quiet, print_views, require_one_form
from ggufscope.cli.sizes import parse_size_if
from ggufscope.cli.texts import read_text
from ggufscope.errors import BadUsage, TargetNotAFile

if TYPE_CHECKING:
    from ggufscope.blocks.layouts import Layout
    from ggufscope.measure.tailor import Tailored
    from ggufscope.recipes.options import TypeRule
    from ggufscope.recipes.request import Request, Target

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan, write nothing.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, max=256, help="Workers side by side.  \\[default: all cores]"),
]

LONGEST_RULES: Final = 1 << 24
"""Bytes of a --tensor-type-file: a rule for each of very many tensors."""


def quantize_command(
    source: Source,
    target_and_type: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TARGET] TYPE",
            help="Q4_K_M, Q8_0, ...",
            autocompletion=completion.presets,
        ),
    ] = None,
    types: Annotated[
        list[str] | None,
        typer.Option(
            *("--type", "--types"),
            metavar="T1,T2,...",
            help="Several types, one reading.",
            autocompletion=completion.presets,
        ),
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option("-o", "--output-dir", help="Where the targets go.")
    ] = None,
    dry_run: DryRun = False,
    allow_requantize: Annotated[
        bool, typer.Option("--allow-requantize", help="Quantize what is quantized already.")
    ] = False,
    leave_output_tensor: Annotated[
        bool, typer.Option("--leave-output-tensor", help="Let output.weight keep its type.")
    ] = False,
    pure: Annotated[bool, typer.Option("--pure", help="One type for every tensor.")] = False,
    output_tensor_type: Annotated[
        str | None,
        typer.Option(
            "--output-tensor-type",
            help="The type of output.weight.",
            autocompletion=completion.types,
        ),
    ] = None,
    token_embedding_type: Annotated[
        str | None,
        typer.Option(
            "--token-embedding-type",
            help="The type of token_embd.weight.",
            autocompletion=completion.types,
        ),
    ] = None,
    tensor_type: Annotated[
        list[str] | None,
        typer.Option(
            "--tensor-type", metavar="REGEX=TYPE", help="A type for the names that match."
        ),
    ] = None,
    tensor_type_file: Annotated[
        Path | None, typer.Option("--tensor-type-file", help="Such rules, from a file.")
    ] = None,
    prune_layers: Annotated[
        str | None, typer.Option("--prune-layers", metavar="L0,L1,...", help="Layers to leave out.")
    ] = None,
    keep_split: Annotated[
        bool, typer.Option("--keep-split", help="Write as many shards as the source has.")
    ] = False,
    split_max_size: Annotated[
        str | None,
        typer.Option("--split-max-size", metavar="SIZE", help="Shards no larger: 2G, 500M."),
    ] = None,
    override_kv: Annotated[
        list[str] | None,
        typer.Option("--override-kv", metavar="KEY=TYPE:VALUE", help="Set metadata."),
    ] = None,
    imatrix: Annotated[
        Path | None,
        typer.Option("--imatrix", metavar="FILE", help="Weigh errors by an importance matrix."),
    ] = None,
    include_weights: Annotated[
        list[str] | None,
        typer.Option("--include-weights", metavar="NAME", help="Use it for these tensors alone."),
    ] = None,
    exclude_weights: Annotated[
        list[str] | None,
        typer.Option("--exclude-weights", metavar="NAME", help="Do not use it for these tensors."),
    ] = None,
    target_size: Annotated[
        str | None,
        typer.Option(
            "--target-size", metavar="SIZE", help="Choose types by measurement: 4GiB at most."
        ),
    ] = None,
    target_bpw: Annotated[
        float | None,
        typer.Option("--target-bpw", metavar="BITS", help="The same, by bits per weight."),
    ] = None,
    target_kl: Annotated[
        float | None,
        typer.Option("--target-kl", metavar="NATS", help="The smallest that diverges no more."),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option("--text", "-f", metavar="FILE", help="What to choose and to verify by."),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(
            "--tokens",
            min=16,
            max=1 << 24,
            metavar="N",
            help="To choose by, and as many to verify.  [default: 2048]",
        ),
    ] = None,
    floor: Annotated[
        str | None,
        typer.Option(
            "--floor",
            metavar="TYPE",
            help="No tensor gets fewer bits.",
            autocompletion=completion.types,
        ),
    ] = None,
    sensitivities: Annotated[
        Path | None,
        typer.Option("--sensitivities", metavar="FILE", help="Keep what was measured; reuse it."),
    ] = None,
    make_imatrix: Annotated[
        Path | None,
        typer.Option(
            "--make-imatrix", metavar="FILE", help="Gather an importance matrix on the way, use it."
        ),
    ] = None,
    write_types: Annotated[
        Path | None,
        typer.Option("--write-types", metavar="FILE", help="The choice, as --tensor-type-file."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="What a step up or down would cost, by tensor.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="A page of the choice, and of each step."),
    ] = None,
    threads: Threads = None,
    max_buffer_size: Annotated[
        str | None,
        typer.Option("--max-buffer-size", metavar="SIZE", help="Weights a thread holds at once."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what is done; go on where a run was ended.")
    ] = False,
    scheduler: Annotated[
        str | None,
        typer.Option("--scheduler", metavar="ADDRESS", help="Have a Dask cluster do the work."),
    ] = None,
    force: Force = False,
    brief: Brief = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Quantize a model: byte for byte the files that llama-quantize writes.

    TARGET defaults to the source's name with the type in it. Several types in
    one run read and decode the source once.

    With --target-size, --target-bpw or --target-kl the type of each tensor is
    chosen by what it costs on a text, of --types, and tried on another text.

    For example: ggufscope quantize model-f16.gguf --type Q8_0 --type Q4_K_M
    """
    from ggufscope.cli.tailor import Aim, tailor_request
    from ggufscope.recipes.metadata import parse_overrides
    from ggufscope.recipes.options import PlanOptions, parse_layers
    from ggufscope.recipes.request import Request

    options = PlanOptions(
        allow_requantize=allow_requantize,
        leave_output_tensor=leave_output_tensor,
        pure=pure,
        output_tensor_type=_layout(output_tensor_type),
        token_embedding_type=_layout(token_embedding_type),
        tensor_types=_type_rules(tensor_type or [], tensor_type_file),
        prune_layers=() if prune_layers is None else parse_layers(prune_layers),
        keep_split=keep_split,
    )
    named = split_types(types)
    aim = Aim(
        *(target_size, target_bpw, target_kl, text, sensitivities, tokens),
        types=tuple(named),
        floor=floor,
        recipe=write_types,
        imatrix=make_imatrix,
        html=html,
        explain=explain,
    )
    words = target_and_type or []
    request = Request(
        source,
        {} if aim.given else _targets(words, named, output_dir),
        options=options,
        overrides=parse_overrides(override_kv or []),
        split_max_size=parse_size_if(split_max_size, "--split-max-size", "a shard"),
        directory=output_dir,
        overwrite=force,
        imatrix=imatrix,
        include_weights=tuple(include_weights or ()),
        exclude_weights=tuple(exclude_weights or ()),
    )
    buffer_bytes = parse_size_if(max_buffer_size, "--max-buffer-size", "a buffer")
    if scheduler is not None and threads is not None:
        raise BadUsage(
            "--threads is about this machine, and --scheduler about others",
            hint="say where the workers are started how many threads they have",
        )
    require_one_form(as_json=as_json, brief=brief)
    chosen = None
    if aim.given:
        request, chosen = tailor_request(request, aim, words, force=force, resume=resume)
    _carry_out(
        request,
        threads,
        buffer_bytes,
        dry_run=dry_run,
        brief=brief,
        as_json=as_json,
        chosen=chosen,
        explain=explain,
        resume=resume,
        scheduler=scheduler,
    )


def dequantize_command(
    source: Source,
    target: Annotated[Path, typer.Argument(help="The file to write.")],
    type_: Annotated[str, typer.Option("--type", help="F32, F16 or BF16.")] = "F32",
    dry_run: DryRun = False,
    threads: Threads = None,
    force: Force = False,
    brief: Brief = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Turn a quantized model back into F32, F16 or BF16 weights.

    What quantization lost stays lost: the weights are those that the model
    computes with.

    For example: ggufscope dequantize model-Q4_K_M.gguf model-f16.gguf --type F16
    """
    from ggufscope.recipes.options import PlanOptions
    from ggufscope.recipes.request import Request

    if type_.upper() not in {"F32", "F16", "BF16"}:
        raise BadUsage(f"{type_} is no type to dequantize to", hint="the types are F32, F16, BF16")
    require_one_form(as_json=as_json, brief=brief)
    options = PlanOptions(allow_requantize=True)
    request = Request(source, {target: type_}, options=options, overwrite=force)
    _carry_out(request, threads, dry_run=dry_run, brief=brief, as_json=as_json)


def _carry_out(
    request: Request,
    threads: int | None,
    buffer_bytes: int | None = None,
    *,
    dry_run: bool,
    brief: bool,
    as_json: bool,
    chosen: Tailored | None = None,
    explain: bool = False,
    resume: bool = False,
    scheduler: str | None = None,
) -> None:
    """Prepare what is asked for, do it unless it is a dry run, and report."""
    from ggufscope.cli.cluster import cluster
    from ggufscope.model.file_types import file_type_name
    from ggufscope.recipes.apply import DEFAULT_BUFFER, run
    from ggufscope.recipes.request import prepare
    from ggufscope.report.as_json import dumps
    from ggufscope.report.console import make_console
    from ggufscope.report.progress import CommandBar
    from ggufscope.report.quantize.json import targets_json
    from ggufscope.report.quantize.tailored import tailored_views
    from ggufscope.report.quantize.text import target_views

    prepared = prepare(request, warn)
    targets: Sequence[Target] = prepared.targets
    if not dry_run:
        with ExitStack() as stack:
            executor = None
            if scheduler is None:
                warn_of_a_long_job([prepared.source])
            else:
                executor, threads = stack.enter_context(cluster(scheduler, warn))
            bar = stack.enter_context(CommandBar(prepared.source.path.name))
            advance = bar.phase("quantizing")
            targets = run(
                prepared,
                executor=executor,
                threads=threads,
                buffer_bytes=buffer_bytes or DEFAULT_BUFFER,
                resume=resume,
                progress=lambda done: advance(done.done, done.total, done.tensor),
                warn=warn,
            )
    if as_json:
        typer.echo(dumps(targets_json(targets, chosen, dry_run=dry_run)))
    else:
        if chosen is not None:
            width = min(make_console().width, 100)
            print_views(tailored_views(chosen, brief=brief, explain=explain, width=width))
            brief = True  # its tensors are told of above
        file_type = file_type_name(prepared.source.metadata.get("general.file_type"))
        overwrite = request.overwrite or resume
        print_views(target_views(targets, file_type, brief=brief, overwrite=overwrite))


def _targets(
    words: list[str], types: list[str], output_dir: Path | None
) -> dict[Path, str] | list[str]:
    """Read ``[TARGET] TYPE``, or the types given by option, which leave no place for a target."""
    if types:
        if words:
            raise BadUsage(
                f"{words[0]!r} cannot be used together with --type",
                hint="name targets with --output-dir, or TYPE alone",
            )
        return types
    if not words or len(words) > 2:
        raise BadUsage(
            "a type is needed" if not words else f"{words[2]!r} is one word too many",
            hint="ggufscope quantize SOURCE [TARGET] TYPE, such as Q4_K_M",
        )
    target = words[0]
    if len(words) == 1:
        if "/" in target or target.lower().endswith(".gguf"):
            raise BadUsage(
                f"a type is needed: {target!r} looks like a TARGET",
                hint=f"ggufscope quantize SOURCE {target} TYPE, such as Q4_K_M",
            )
        return words
    if output_dir is not None:
        raise BadUsage(
            "a target cannot be used together with --output-dir", hint="give one of the two"
        )
    if os.path.isdir(target):  # noqa: PTH112  # of a name that is too long it is no error
        raise TargetNotAFile(
            f"{target} is a directory", hint=f"name a file in it, or write -o {target}"
        )
    return {Path(target): words[1]}


def _type_rules(texts: list[str], path: Path | None) -> tuple[TypeRule, ...]:
    from ggufscope.recipes.options import TypeRule, parse_type_rules

    text = "" if path is None else read_text(path, LONGEST_RULES, "a list of types")
    return (*map(TypeRule.parse, texts), *parse_type_rules(text))


def _layout(name: str | None) -> Layout | None:
    from ggufscope.blocks.layouts import layout_named

    return None if name is None else layout_named(name)
