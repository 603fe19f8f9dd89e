"""What ``ggufscope list`` shows, for eyes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import RenderableType

from ggufscope.container.file import GGUFFile
from ggufscope.model.anatomy.build import Anatomy
from ggufscope.model.hf_names import HFName
from ggufscope.model.hparams import HParams
from ggufscope.model.inventory import Entry, totals_by_type
from ggufscope.model.summary import Summary
from ggufscope.report.console import facts, hidden_rows, title
from ggufscope.report.list.computed import computed_section, explain_view
from ggufscope.report.list.metadata import metadata_view
from ggufscope.report.list.names import names_section
from ggufscope.report.list.stored import stored_section, totals_view
from ggufscope.report.units import bits, count, size


@dataclass(frozen=True, slots=True)
class Sections:
    """What to show; where nothing is chosen, the stored and the computed."""

    stored: bool = False
    computed: bool = False
    metadata: bool = False
    explain: bool = False
    one_a_line: bool = False
    """Each stored tensor by itself, not folded over layers."""
    hf_names: Mapping[str, HFName] | None = None
    """Shown in place of roles and sizes where they are given."""
    brief: bool = False
    """The model and its types, no more."""


def views(
    file: GGUFFile,
    summary: Summary,
    entries: Sequence[Entry],
    anatomy: Anatomy,
    sections: Sections,
) -> Iterator[RenderableType]:
    """Show what is chosen, in order."""
    chosen = sections.stored or sections.computed or sections.metadata or sections.explain
    chosen = chosen or sections.hf_names is not None
    yield summary_view(file, summary)
    if sections.brief:
        yield ""
        yield totals_view("by type", totals_by_type(entries))
        return
    if sections.metadata:
        yield title(f"Metadata: {len(file.metadata)} keys")
        yield metadata_view(file.metadata)
        yield from hidden_rows(len(file.metadata), "keys", "--key and --json reach them")
    if sections.hf_names is not None:
        yield from names_section(entries, sections.hf_names, one_a_line=sections.one_a_line)
    if sections.stored or not chosen:
        yield from stored_section(entries, anatomy, one_a_line=sections.one_a_line)
    if sections.computed or not chosen:
        yield from computed_section(anatomy)
    if sections.explain:
        yield title("A layer in order, stored and computed")
        yield explain_view(anatomy)


def summary_view(file: GGUFFile, summary: Summary) -> RenderableType:
    """Return the model in a few lines."""
    shards = f" over {len(file.shards)} files" if len(file.shards) > 1 else ""
    order = ", big-endian" if file.header.order == ">" else ""
    version = f"GGUF v{file.header.version}{order}"
    named = f"{summary.name}, " if summary.name else ""
    architecture = f"architecture {summary.architecture or 'not said'}"
    recipe = f"{summary.file_type}, " if summary.file_type else ""
    where = f"{file.path.name}: {size(file.nbytes)}{shards}, {version}"
    if file.no_file is not None:
        where = f"known shape, no file: {size(file.nbytes)} as a converter would write it"
    rows = [
        ("file", where),
        ("model", f"{named}{architecture}, {count(summary.n_elements)} parameters"),
        ("stored as", f"{recipe}{bits(summary.bits_per_weight)} bits per weight"),
    ]
    if summary.hparams:
        rows += _shape_rows(summary, summary.hparams)
    if summary.tokenizer:
        entries = f", {summary.vocab_size:,} entries" if summary.vocab_size else ""
        rows.append(("tokenizer", f"{summary.tokenizer}{entries}"))
    if file.no_file is not None and file.no_file.assumes:
        rows.append(("taken", file.no_file.assumes))
    return facts(rows)


def _shape_rows(summary: Summary, hparams: HParams) -> list[tuple[str, str]]:
    shape = [f"{hparams.block_count} layers"]
    if hparams.embedding_length:
        shape.append(f"embedding {hparams.embedding_length:,}")
    if hparams.feed_forward_length:
        widths = hparams.feed_forward_length.distinct()
        shape.append(
            "feed-forward " + " to ".join(f"{n:,}" for n in sorted({widths[0], widths[-1]}))
        )
    if hparams.expert_count:
        shape.append(
            f"{hparams.expert_used_count} of {hparams.expert_count} experts for each token"
        )
    rows = [("shape", ", ".join(shape))]
    if summary.attention:
        head = f"; head size {hparams.key_length}" if hparams.key_length else ""
        rows.append(("attention", summary.attention + head))
    if summary.windowed_layers:
        seen = f"{hparams.sliding_window:,} tokens" if hparams.sliding_window else "tokens"
        rows.append(("window", f"{summary.windowed_layers} layers see only the last {seen}"))
    if hparams.context_length:
        rows.append(("context", f"{hparams.context_length:,} tokens"))
    return rows
