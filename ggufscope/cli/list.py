"""``ggufscope list``: what is stored in a model, and what is only computed when it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from typer import Argument, Option

from ggufscope.cli.options import AsJson, warn
from ggufscope.cli.output import AsMarkdown, Brief, Quiet, print_views, require_one_form
from ggufscope.cli.shelf import print_shelf, several_in
from ggufscope.errors import BadUsage, NotInModel, naming

if TYPE_CHECKING:
    from ggufscope.container.file import GGUFFile
    from ggufscope.model.inventory import Entry

DEFAULT_TOKENS: Final = 128


class Sort(StrEnum):
    """What stored tensors, or several models, can be sorted by."""

    FILE = "file"
    NAME = "name"
    SIZE = "size"
    TYPE = "type"
    BITS = "bits"


def list_command(
    models: Annotated[
        list[str] | None,
        Argument(
            metavar="MODEL...",
            help="A GGUF file, any shard of a split model, or a known shape; a name on the Hub or "
            "a URL; several, or a folder.",
        ),
    ] = None,
    local: Annotated[
        bool, Option("--local", help="What Ollama, LM Studio and others have on this machine.")
    ] = False,
    stored: Annotated[bool, Option("--stored", help="Only what is in the file.")] = False,
    computed: Annotated[bool, Option("--computed", help="Only what is made at run time.")] = False,
    metadata: Annotated[
        bool, Option("--metadata", help="Every metadata key; long values cut.")
    ] = False,
    key: Annotated[
        str | None, Option("--key", metavar="NAME", help="One metadata value, whole.")
    ] = None,
    layer: Annotated[
        int | None,
        Option("--layer", min=0, max=2**31, help="Only this layer, counted from 0."),
    ] = None,
    filter_: Annotated[
        str | None,
        Option(
            "--filter",
            metavar="PATTERN",
            help="Only these names: a glob, or a /regex/; of several models, theirs.",
        ),
    ] = None,
    sort: Annotated[
        Sort | None, Option("--sort", help="One line a tensor, or a model, in this order.")
    ] = None,
    tokens: Annotated[
        int | None,
        Option(
            "--tokens",
            min=1,
            max=2**31,
            help=f"Tokens to compute shapes for.  \\[default: {DEFAULT_TOKENS}]",
        ),
    ] = None,
    explain: Annotated[
        bool, Option("--explain", help="A layer in order, with a caption for each quantity.")
    ] = False,
    hf_names: Annotated[
        bool, Option("--hf-names", help="Hugging Face's name of each stored tensor.")
    ] = False,
    brief: Brief = False,
    markdown: AsMarkdown = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Show what is stored in a model, and apart from it what is only computed.

    The file holds W_q, W_k, W_v and W_o. Attention weights (kq_soft_max) are
    not in it: they are computed anew for each text, and so in the second table.

    A known name (llama-3.1-8b) shows what its file would have. Of several
    models, a folder, or a repository (owner/repo), a line each.

    For example: ggufscope list model.gguf --layer 0 --explain
    """
    from ggufscope.model.anatomy.build import anatomy_of
    from ggufscope.model.inventory import entries_of
    from ggufscope.model.required import warnings_of
    from ggufscope.model.selection import matcher, select_anatomy, select_entries
    from ggufscope.model.summary import summarize

    require_one_form(as_json=as_json, markdown=markdown, brief=brief)
    if markdown and key is not None:
        raise BadUsage("--markdown is no form of --key", hint="a value is printed as it is")
    others = stored or computed or metadata or explain or hf_names
    if brief and (others or sort is not None or tokens is not None):
        raise BadUsage(
            "--brief leaves out what another option asks for",
            hint="it shows the model and its types; leave out --brief for more",
        )
    matches = matcher(filter_) if filter_ is not None else None
    names = models or []
    if local or len(names) != 1 or several_in(names[0]):
        of_one = {
            "--stored": stored,
            "--computed": computed,
            "--metadata": metadata,
            "--key": key is not None,
            "--layer": layer is not None,
            "--tokens": tokens is not None,
            "--explain": explain,
            "--hf-names": hf_names,
            "--brief": brief,
        }
        given = [option for option, is_given in of_one.items() if is_given]
        if given:
            raise BadUsage(f"{given[0]} is for one model", hint="name one of them")
        order = None if sort in (None, Sort.FILE) else sort.value
        print_shelf(names, order, matches, local=local, as_json=as_json, markdown=markdown)
        return
    if not as_json and others:  # JSON has all of it
        if sort is not None and not (stored or hf_names):
            raise BadUsage(
                "--sort is about stored tensors, which are not shown",
                hint="leave it out, or add --stored",
            )
        if tokens is not None and not (computed or explain):
            raise BadUsage(
                "--tokens is about what is computed, which is not shown",
                hint="leave it out, or add --computed",
            )
        if stored and explain and not computed:
            raise BadUsage(
                "--stored shows what is in the file alone, and --explain the whole layer",
                hint="leave one of them out, or add --computed",
            )
    (model,) = names
    with _opened(model) as file, naming(file.path):
        for words in warnings_of(file):
            warn(words)
        if key is not None:
            _print_value(file, key, as_json=as_json)
            return
        shapes = {tensor.name: tensor.shape for tensor in file.tensors.values()}
        anatomy = select_anatomy(
            anatomy_of(shapes, file.metadata, tokens or DEFAULT_TOKENS), layer, matches
        )
        entries = select_entries(entries_of(file.tensors.values()), layer, matches)
        if sort is not None:
            entries.sort(key=_ORDERS[sort])
        summary = summarize(file)
        hf = None
        if hf_names:
            from ggufscope.model.hf_names import hf_names as names_of

            hf = names_of(summary.architecture, shapes)
        if as_json:
            from ggufscope.report.as_json import write_json
            from ggufscope.report.list.json import listing_json

            write_json(listing_json(file, summary, entries, anatomy, hf), sys.stdout)
        made = () if stored else (*anatomy.head, *anatomy.layers, *anatomy.tail)
        if filter_ is not None and not (entries or made):
            raise NotInModel(
                f"no name matches {filter_!r}", hint="without --filter all names are shown"
            )
        if as_json:
            return
        from ggufscope.report.list.text import Sections, views

        if summary.file_type is None and file.no_file is None:
            from ggufscope.recipes.fit import recognized

            recipe = recognized(list(file.tensors.values()), file.metadata)
            summary = replace(summary, file_type=recipe and f"{recipe} by its types")
        sections = Sections(
            stored=stored,
            computed=computed,
            metadata=metadata,
            explain=explain,
            one_a_line=sort is not None or layer is not None or matches is not None,
            hf_names=hf,
            brief=brief,
        )
        print_views(views(file, summary, entries, anatomy, sections), markdown=markdown)


_ORDERS: Final[dict[Sort, Callable[[Entry], Any]]] = {
    Sort.FILE: lambda entry: 0,
    Sort.NAME: lambda entry: entry.tensor.name,
    Sort.SIZE: lambda entry: -entry.tensor.nbytes,
    Sort.TYPE: lambda entry: (entry.tensor.type.name, entry.tensor.name),
    Sort.BITS: lambda entry: -(entry.tensor.info.bits_per_weight or 0),
}


def _opened(model: str) -> GGUFFile:
    from ggufscope.container.file import open_gguf

    if os.path.lexists(model):
        return open_gguf(model)
    from ggufscope.sizing.overview import named

    found = named(model)
    if isinstance(found, int):
        raise BadUsage(
            f"{model} says how many weights, and nothing of tensors",
            hint="give a GGUF file, or a name such as llama-3.1-8b",
        )
    return open_gguf(model) if isinstance(found, Path) else found.as_file()


def _print_value(file: GGUFFile, key: str, *, as_json: bool) -> None:
    from ggufscope.report.list.json import write_key
    from ggufscope.report.list.metadata import whole_value
    from ggufscope.spelling import did_you_mean

    value = file.metadata.typed.get(key)
    if value is None:
        raise NotInModel(
            f"{file.path} has no metadata key {key!r}",
            hint=did_you_mean(key, file.metadata, "`--metadata` shows all of them"),
        )
    if as_json:
        write_key(key, value, sys.stdout)
    else:
        sys.stdout.writelines(whole_value(value))
        sys.stdout.write("\n")
