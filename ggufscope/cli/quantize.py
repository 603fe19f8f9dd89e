"""``ggufscope quantize`` and ``ggufscope dequantize``: the files that llama-quantize writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ggufscope.cli.options import warn, warn_about
from ggufscope.cli.sizes import parse_size_if
from ggufscope.cli.texts import read_text
from ggufscope.errors import BadUsage, naming

if TYPE_CHECKING:
    from ggufscope.blocks.layouts import Layout
    from ggufscope.container.file import GGUFFile
    from ggufscope.container.values import Value
    from ggufscope.recipes.options import PlanOptions

Source = Annotated[Path, typer.Argument(help="A GGUF file, or any shard of a split model.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite a target that exists.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the whole plan, write nothing.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, max=256, help="Workers side by side.  [default: all cores]"),
]
AsJson = Annotated[bool, typer.Option("--json", help="The result, or the plan, as JSON.")]

LONGEST_RULES: Final = 1 << 24
"""Bytes of a --tensor-type-file: a rule for each of very many tensors."""


def quantize_command(
    source: Source,
    target_and_type: Annotated[
        list[str] | None, typer.Argument(metavar="[TARGET] TYPE", help="Q4_K_M, Q8_0, ...")
    ] = None,
    types: Annotated[
        list[str] | None, typer.Option("--type", help="A type; several read the source once.")
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
        str | None, typer.Option("--output-tensor-type", help="The type of output.weight.")
    ] = None,
    token_embedding_type: Annotated[
        str | None, typer.Option("--token-embedding-type", help="The type of token_embd.weight.")
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
    threads: Threads = None,
    max_buffer_size: Annotated[
        str | None,
        typer.Option("--max-buffer-size", metavar="SIZE", help="Weights a thread holds at once."),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Quantize a model: byte for byte the files that llama-quantize writes.

    TARGET defaults to the source's name with the type in it. Several types in
    one run read and decode the source once.

    For example: ggufscope quantize model-f16.gguf --type Q8_0 --type Q4_K_M
    """
    from ggufscope.container.file import open_gguf
    from ggufscope.recipes.metadata import parse_overrides

    target, wanted = _target_and_types(target_and_type or [], types or [], output_dir)
    options = _options(
        allow_requantize=allow_requantize,
        leave_output_tensor=leave_output_tensor,
        pure=pure,
        output_tensor_type=output_tensor_type,
        token_embedding_type=token_embedding_type,
        tensor_types=tensor_type or [],
        tensor_type_file=tensor_type_file,
        prune_layers=prune_layers,
        keep_split=keep_split,
    )
    file = open_gguf(source)
    with naming(file.path):
        _run(
            file,
            target,
            wanted,
            output_dir,
            options,
            parse_overrides(override_kv or []),
            split_max_size=parse_size_if(split_max_size, "--split-max-size", "a shard"),
            buffer_bytes=parse_size_if(max_buffer_size, "--max-buffer-size", "a buffer"),
            dry_run=dry_run,
            force=force,
            threads=threads,
            as_json=as_json,
        )


def dequantize_command(
    source: Source,
    target: Annotated[Path, typer.Argument(help="The file to write.")],
    type_: Annotated[str, typer.Option("--type", help="F32, F16 or BF16.")] = "F32",
    dry_run: DryRun = False,
    threads: Threads = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Turn a quantized model back into F32, F16 or BF16 weights.

    What quantization lost stays lost: the weights are those that the model
    computes with.
    """
    from ggufscope.container.file import open_gguf
    from ggufscope.recipes.options import PlanOptions

    if type_.upper() not in {"F32", "F16", "BF16"}:
        raise BadUsage(f"{type_} is no type to dequantize to", hint="the types are F32, F16, BF16")
    options = PlanOptions(allow_requantize=True)
    file = open_gguf(source)
    with naming(file.path):
        _run(
            file,
            target,
            [type_],
            None,
            options,
            {},
            split_max_size=None,
            buffer_bytes=None,
            dry_run=dry_run,
            force=force,
            threads=threads,
            as_json=as_json,
        )


def _run(
    file: GGUFFile,
    target: Path | None,
    wanted: list[str],
    output_dir: Path | None,
    options: PlanOptions,
    overrides: dict[str, Value],
    *,
    split_max_size: int | None,
    buffer_bytes: int | None,
    dry_run: bool,
    force: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    from ggufscope.container.header import Metadata
    from ggufscope.recipes.apply import DEFAULT_BUFFER, preview, quantize_model
    from ggufscope.recipes.files import default_target
    from ggufscope.recipes.plan import plan
    from ggufscope.report.as_json import dumps
    from ggufscope.report.console import make_console, show
    from ggufscope.report.progress import steps_bar
    from ggufscope.report.quantize import text as quantizing

    warn_about(file)
    # What is overridden can change types: upstream reads the model as overridden too.
    metadata = Metadata({**file.metadata.typed, **overrides})
    plans = [plan(file.tensors.values(), metadata, type_, options) for type_ in wanted]
    targets = {target or default_target(file.path, each.preset, output_dir): each for each in plans}
    if len(targets) < len(plans):
        raise BadUsage("two of the types give one target", hint="name each type once")
    settings: dict[str, Any] = {"overrides": overrides, "split_max_size": split_max_size}
    if dry_run:
        outlooks = preview(file, targets, **settings)
        if as_json:
            typer.echo(dumps([quantizing.outlook_json(each) for each in outlooks]))
        else:
            for outlook in outlooks:
                show(make_console(), quantizing.outlook_views(outlook))
        return
    with steps_bar("") as advance:
        results = quantize_model(
            file,
            targets,
            **settings,
            overwrite=force,
            threads=threads,
            buffer_bytes=buffer_bytes or DEFAULT_BUFFER,
            progress=lambda done: advance(done.done, done.total, done.tensor),
            warn=warn,
        )
    if as_json:
        typer.echo(dumps([quantizing.result_json(each) for each in results]))
    else:
        for result in results:
            show(make_console(), quantizing.result_views(result))


def _target_and_types(
    words: list[str], types: list[str], output_dir: Path | None
) -> tuple[Path | None, list[str]]:
    """Read ``[TARGET] TYPE``, or the types given by option, which leave no place for a target."""
    if types:
        if words:
            raise BadUsage(
                f"{words[0]!r} stands beside --type",
                hint="name targets with --output-dir, or TYPE alone",
            )
        return None, types
    if not words or len(words) > 2:
        raise BadUsage(
            "a type is needed" if not words else f"{words[2]!r} is one word too many",
            hint="ggufscope quantize SOURCE [TARGET] TYPE, such as Q4_K_M",
        )
    if len(words) == 2 and output_dir is not None:
        raise BadUsage("a target stands beside --output-dir", hint="give one of the two")
    return (Path(words[0]) if len(words) == 2 else None), [words[-1]]


def _options(
    *,
    output_tensor_type: str | None,
    token_embedding_type: str | None,
    tensor_types: list[str],
    tensor_type_file: Path | None,
    prune_layers: str | None,
    **flags: bool,
) -> PlanOptions:
    from ggufscope.recipes.options import PlanOptions, TypeRule, parse_layers, parse_type_rules

    rules = tuple(TypeRule.parse(text) for text in tensor_types)
    if tensor_type_file is not None:
        rules += parse_type_rules(read_text(tensor_type_file, LONGEST_RULES, "a list of types"))
    return PlanOptions(
        output_tensor_type=_layout(output_tensor_type),
        token_embedding_type=_layout(token_embedding_type),
        tensor_types=rules,
        prune_layers=() if prune_layers is None else parse_layers(prune_layers),
        **flags,
    )


def _layout(name: str | None) -> Layout | None:
    from ggufscope.blocks.layouts import layout_named

    return None if name is None else layout_named(name)
