"""What ``ggufscope size`` shows: the answer first, the model, every preset, a bare count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import RenderableType

from ggufscope.model.summary import attention_words
from ggufscope.recipes.plan import Plan
from ggufscope.report.console import cell, facts, left, paragraph, plain_table, right, title, words
from ggufscope.report.size.fits import answer_lines, fits_section, preset_note
from ggufscope.report.size.memory import memory_section, sharing_section
from ggufscope.report.size.mixes import mix_lines, mixes_section
from ggufscope.report.units import bits, decimal_size, size
from ggufscope.sizing.bare import EXAMPLE, BareSize
from ggufscope.sizing.file_size import NO_SMALLER, USUAL_NAMES, PresetSize, PresetSizes
from ggufscope.sizing.here import Here
from ggufscope.sizing.overview import Overview


def overview_views(overview: Overview, *, brief: bool = False) -> Iterator[RenderableType]:
    """Show all that is to be printed of one model, in order; in brief, the answers.

    Where nothing was asked for, in brief, the model.
    """
    answers = [*answer_lines(overview), *mix_lines(overview.mixes)]
    for answer in answers:
        yield paragraph(answer, "bold")
    if brief and answers:
        return
    if answers:
        yield ""
    yield model_view(overview, presets=_usual(overview) if brief else ())
    if brief:
        return
    asks_memory = bool(overview.fits or overview.splits)
    if overview.targets or not asks_memory:
        yield from presets_section(overview)
    yield from mixes_section(overview.mixes)
    yield from memory_section(overview)
    if not asks_memory:
        yield from sharing_section(overview)
    yield from fits_section(overview)


def _usual(overview: Overview) -> list[PresetSize]:
    """Return presets to name in brief: those asked for, or where none was, the usual of a shape."""
    sizes = overview.sizes
    if not sizes.are_all:
        return [*sizes.sizes]
    return [] if overview.as_it_is else [each for each in sizes.sizes if each.preset in _USUAL]


_USUAL: Final = ("F16", "Q8_0", "Q4_K_M")


def model_view(overview: Overview, presets: Sequence[PresetSize] = ()) -> RenderableType:
    """Show the model in a few lines, and in a line each, some presets."""
    rows = [("model", f"{overview.name}: {overview.n_elements:,} weights")]
    hparams = overview.hparams
    if hparams:
        shape = f"architecture {hparams.architecture}, {hparams.block_count} layers"
        rows.append(("shape", shape))
        attention = attention_words(hparams)
        if attention:
            rows.append(("attention", attention))
        if hparams.context_length:
            rows.append(("context", f"made for {hparams.context_length:,} tokens"))
    if overview.as_it_is:
        itself = overview.as_it_is
        rows.append(("as it is", f"{size(itself.weighs)}, {bits(itself.bits_per_weight)} bits"))
    rows += [
        (each.preset, f"{size(each.weighs)}, {bits(each.bits_per_weight)} bits") for each in presets
    ]
    if overview.here:
        rows += _here_rows(overview.here)
    if overview.assumes:
        rows.append(("taken", overview.assumes))
    return facts(rows)


def _here_rows(here: Here) -> Iterator[tuple[str, str]]:
    yield "memory", f"{size(here.free)} free on this machine"
    for gpu in here.gpus:
        taken = ", the one counted" if len(here.gpus) > 1 and gpu is here.gpu else ""
        yield "GPU", f"{gpu.name}: {size(gpu.free)} free of {size(gpu.nbytes)}{taken}"


def presets_section(overview: Overview) -> Iterator[RenderableType]:
    """Show every preset in one table, and what the columns leave out."""
    sizes = overview.sizes
    known = any(each.file_nbytes is not None for each in sizes.sizes)
    yield title("On disk: the file in every preset" if known else "On disk: every preset")
    numbers = map(right, ("bytes", "", "", "bits", "fall back"))
    table = plain_table(left("preset"), *numbers, words("note"))
    for each in sizes.sizes:
        table.add_row(
            cell(each.preset),
            f"{each.weighs:,}",
            size(each.weighs),
            decimal_size(each.weighs),
            bits(each.bits_per_weight),
            str(each.fallbacks or ""),
            cell(preset_note(each), "dim"),
        )
    yield table
    yield ""
    yield paragraph(_below_presets(sizes, known=known))
    for refusal in sizes.refused:
        yield paragraph(f"No {refusal.preset}: {refusal.why}.")


def _below_presets(sizes: PresetSizes, *, known: bool) -> str:
    lines = []
    if not known:
        lines.append("Bytes of the tensors; a file's header, mostly the tokenizer, adds 1 to 8 MB.")
    if any(each.fallbacks for each in sizes.sizes):
        lines.append("fall back: tensors whose rows do not divide into the type's blocks.")
    if any(each.needs_importance for each in sizes.sizes):
        lines.append("imatrix: refused without an importance matrix; ggufscope imatrix makes one.")
    if any(each.set_aside not in ("", NO_SMALLER) for each in sizes.sizes):
        lines.append(
            "older, trained so, gpt-oss: not proposed; a K-quant is better, or only models trained "
            "in these types are any good in them."
        )
    if any(each.set_aside == NO_SMALLER and not each.quantizes_twice for each in sizes.sizes):
        lines.append("no smaller: the weights have 16 bits or less, and gain nothing by it.")
    if any(each.quantizes_twice for each in sizes.sizes):
        lines.append(
            "twice: the file is quantized already, and to do it again adds loss to loss; quantize "
            "asks for --allow-requantize."
        )
    if known and any(each.plan.options.importance for each in sizes.sizes):
        lines.append(
            f"The header names an importance matrix, here {USUAL_NAMES[0]!r} made of "
            f"{USUAL_NAMES[1]!r}: longer names, or paths, take a byte for each character more."
        )
    lines.append("ggufscope quantize --dry-run gives each tensor's type, and why.")
    return " ".join(lines)


def bare_views(sizes: Sequence[BareSize], examples: Sequence[Plan]) -> Iterator[RenderableType]:
    """Show the memory table of so many weights, and how a preset differs from a type."""
    yield paragraph(f"{sizes[0].n_elements:,} weights, each in one type", "bold")
    yield ""
    documented = any(each.documented for each in sizes)
    said = ["introductions say"] if documented else []
    table = plain_table(left("type"), *map(right, ["bits", "bytes", "GB", "GiB", *said]))
    for each in sizes:
        row = [
            each.type.name,
            bits(each.type.bits_per_weight),
            f"{each.nbytes:,}",
            f"{each.nbytes / 1e9:.3f}",
            f"{each.nbytes / 2**30:.3f}",
        ]
        table.add_row(*row, *([f"~{each.documented:g} GB" if each.documented else ""] * documented))
    yield table
    yield ""
    (first, *others) = (f"{plan.preset} {plan.bits_per_weight:.2f}" for plan in examples)
    mixed = ", ".join([first.replace(" ", " has ") + " bits", *others])
    yield paragraph(f"Presets mix types: in {EXAMPLE} {mixed}.")
    yield paragraph("For presets and memory give a GGUF file, or a name such as llama-3.1-8b.")
