"""``ggufscope inspect``: one tensor, its weights, and how its type stores them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from typer import Argument, Option

from ggufscope.cli.options import AsJson, Force, Model, Readers, check_results
from ggufscope.cli.output import AsMarkdown, Brief, Quiet, print_views, require_one_form
from ggufscope.errors import BadUsage

if TYPE_CHECKING:
    from ggufscope.arrays import Floats
    from ggufscope.blocks.apart import Apart
    from ggufscope.container.file import Tensor
    from ggufscope.measure.statistics import Part
    from ggufscope.report.inspect.facts import Inspected

_LAST_BLOCK: Final = 2**62


def inspect_command(
    model: Model,
    tensor: Annotated[str, Argument(metavar="TENSOR", help="Its name, as `list` shows it.")],
    block: Annotated[
        int | None,
        Option("--block", min=0, max=_LAST_BLOCK, metavar="N", help="Take this block apart."),
    ] = None,
    rows: Annotated[
        str | None, Option("--rows", metavar="A:B", help="Only these rows, from A to before B.")
    ] = None,
    save: Annotated[
        Path | None, Option("--save", metavar="FILE", help="Write the weights as NumPy's .npy.")
    ] = None,
    html: Annotated[
        Path | None, Option("--html", metavar="FILE", help="Write a page with a picture of them.")
    ] = None,
    threads: Readers = None,
    force: Force = False,
    brief: Brief = False,
    markdown: AsMarkdown = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Show one tensor: where it lies, its weights in numbers, and what other types would cost.

    With --block a block is taken apart: its bytes, its fields, the formula, and
    for each weight the level that is stored and the number that it stands for.

    For example: ggufscope inspect model.gguf blk.0.attn_q.weight --block 0
    """
    from ggufscope.container.file import open_gguf
    from ggufscope.errors import naming
    from ggufscope.measure.costs import costs_of
    from ggufscope.measure.statistics import part_of, statistics
    from ggufscope.model.hf_names import hf_names
    from ggufscope.model.keys import architecture_of
    from ggufscope.report.inspect.facts import Inspected
    from ggufscope.report.progress import CommandBar

    require_one_form(as_json=as_json, markdown=markdown, brief=brief)
    if brief and block is not None:
        raise BadUsage("--brief leaves out what --block asks for", hint="give one of them")
    if html is not None and save is not None and html.absolute() == save.absolute():
        raise BadUsage("--html and --save name one file", hint="name two files")
    wanted = _rows(rows)
    with open_gguf(model) as file, naming(file.path):
        found = file.tensor(tensor)
        check_results([html, save], [file], None, overwrite=force)
        part = part_of(found, wanted)
        apart = None if block is None else _apart(found, block)
        with CommandBar(file.path.name) as bar:
            numbers = statistics(part, threads=threads, progress=bar.phase("reading"))
            costs = costs_of(part, threads=threads)
            names = hf_names(architecture_of(file.metadata), {found.name: found.shape})
            inspected = Inspected(part, numbers, costs, names[found.name], block, apart)
            if save is not None:
                from ggufscope.report.saving import write_floats

                shape = found.shape if part.n == found.info.n_elements else (part.rows, part.row)
                write_floats(save, shape, _pieces(part), overwrite=force)
            if html is not None:
                from ggufscope.measure.picture import picture
                from ggufscope.report.inspect.page import inspect_page
                from ggufscope.report.saving import write_text

                write_text(html, inspect_page(inspected, picture(part)), overwrite=force)
        _print(inspected, html, save, brief=brief, markdown=markdown, as_json=as_json)


def _print(
    found: Inspected,
    html: Path | None,
    save: Path | None,
    *,
    brief: bool,
    markdown: bool,
    as_json: bool,
) -> None:
    if as_json:
        from ggufscope.report.as_json import write_json
        from ggufscope.report.inspect.json import inspect_json

        write_json(inspect_json(found, html, save), sys.stdout)
        return
    from ggufscope.report.console import make_console
    from ggufscope.report.heatmap import shades_for
    from ggufscope.report.inspect.text import inspect_views

    mark = shades_for(make_console())[-1]
    written = [(word, path) for word, path in (("page", html), ("weights", save)) if path]
    print_views(inspect_views(found, written, mark=mark, brief=brief), markdown=markdown)


def _rows(text: str | None) -> tuple[int | None, int | None]:
    """Read ``A:B``, ``A:`` or ``:B``. Raises ``BadUsage``."""
    if text is None:
        return None, None
    start, colon, stop = text.partition(":")
    if not colon or not all(part.isdecimal() or not part for part in (start, stop)):
        raise BadUsage(f"--rows {text!r:.60} is not A:B", hint="write 0:16 for the first 16 rows")
    if max(len(start), len(stop)) > len(str(_LAST_BLOCK)):
        raise BadUsage("--rows names a row that no tensor has", hint="`ggufscope list` has shapes")
    return int(start) if start else None, int(stop) if stop else None


def _apart(tensor: Tensor, number: int) -> Apart:
    """Read one block and take it apart. Raises ``BadUsage`` where there is none of this number."""
    from ggufscope.blocks.apart import take_apart
    from ggufscope.measure.reading import layout_of, read_blocks

    layout = layout_of(tensor)
    count = tensor.info.n_elements // layout.block_length
    if number >= count:
        raise BadUsage(
            f"tensor {tensor.name!r} has no block {number}: they are 0 to {count - 1}",
            hint=f"a block of {layout.name} holds {layout.block_length} "
            f"weight{'s' if layout.block_length > 1 else ''} of a row",
        )
    first = number * layout.block_length
    return take_apart(read_blocks(tensor, first, first + layout.block_length), layout)


def _pieces(part: Part) -> Iterator[Floats]:
    from ggufscope.measure.reading import tiles
    from ggufscope.measure.statistics import weights_of

    return (weights_of(part, start, stop) for start, stop in tiles(part.n))
