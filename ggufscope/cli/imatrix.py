"""``ggufscope imatrix``: an importance matrix, made of a model and a text, merged, or shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ggufscope.cli.chunks import (
    Chunks,
    ChunkTokens,
    IdsFile,
    ParseSpecial,
    Texts,
    chunk_tokens,
    read_texts,
)
from ggufscope.cli.options import AsJson, Force, Ids, complain, warn_about
from ggufscope.cli.output import Quiet, print_views
from ggufscope.errors import BadUsage, naming

if TYPE_CHECKING:
    from ggufscope.measure.gathering import Calibration, Perplexity, Progress
    from ggufscope.model.summary import Summary
    from ggufscope.recipes.importance import ImportanceMatrix

DEFAULT_OUTPUT: Final = Path("imatrix.gguf")


class Format(StrEnum):
    """What llama-imatrix can write."""

    GGUF = "gguf"
    DAT = "dat"


def imatrix_command(
    file: Annotated[Path, typer.Argument(help="A model, or an importance matrix to look into.")],
    text: Texts = None,
    ids: Ids = None,
    ids_file: IdsFile = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="What to write.  \\[default: imatrix.gguf]"
        ),
    ] = None,
    output_format: Annotated[
        Format | None,
        typer.Option("--output-format", help="By default dat for a name in .dat, else gguf."),
    ] = None,
    context: ChunkTokens = None,
    chunks: Chunks = None,
    from_chunk: Annotated[
        int,
        typer.Option(
            "--from-chunk", "--chunk", min=0, metavar="N", help="Skip the first N of each text."
        ),
    ] = 0,
    in_file: Annotated[
        list[Path] | None,
        typer.Option("--in-file", metavar="FILE", help="A matrix to add; may be repeated."),
    ] = None,
    process_output: Annotated[
        bool, typer.Option("--process-output", help="The output projection, too.")
    ] = False,
    parse_special: ParseSpecial = False,
    no_ppl: Annotated[bool, typer.Option("--no-ppl", help="No perplexity: a bit faster.")] = False,
    output_frequency: Annotated[
        int,
        typer.Option("--output-frequency", min=1, metavar="N", help="Chunks from save to save."),
    ] = 1,
    save_frequency: Annotated[
        int | None,
        typer.Option(
            "--save-frequency", min=1, metavar="N", help="Leave a copy every N chunks: FILE.at_N."
        ),
    ] = None,
    chunks_at_once: Annotated[
        int,
        typer.Option("--chunks-at-once", min=1, max=256, metavar="N", help="Chunks side by side."),
    ] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run was ended.")] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Of an importance matrix: a line for each entry.")
    ] = False,
    force: Force = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Make an importance matrix of a model and a text, merge some, or show one.

    Of a model: runs the text as llama-imatrix does, and writes what
    `quantize --imatrix` and llama-quantize read. Of an importance matrix:
    shows it; with --output writes it anew, those of --in-file added.

    For example: ggufscope imatrix model.gguf --text calibration.txt
    """
    from ggufscope.container.target import check_target
    from ggufscope.measure.calibrating import merge_imatrices
    from ggufscope.recipes.imatrix_file import is_imatrix

    shows, added = is_imatrix(file), list(in_file or ())
    for name, given in (
        *(("--text", text), ("--ids", ids), ("--ids-file", ids_file), ("--chunks", chunks)),
        *(("--from-chunk", from_chunk), ("--save-frequency", save_frequency)),
        *(("--process-output", process_output), ("--resume", resume)),
        *(("--no-ppl", no_ppl), ("--parse-special", parse_special)),
    ):
        if shows and given:
            raise BadUsage(
                f"{name} is for a model, and {file} is an importance matrix", hint="name a model"
            )
    if every and (not shows or output):
        raise BadUsage("--all is about an importance matrix that is shown", hint="leave it out")
    if shows and output is None:
        for name, of_file in (
            *(("--in-file", added), ("--context", context)),
            *(("--output-format", output_format), ("--force", force)),
        ):
            if of_file:
                raise BadUsage(
                    f"{name} is about what is written, and nothing is", hint="give --output FILE"
                )
        _show(file, every=every, as_json=as_json)
        return
    target = output or DEFAULT_OUTPUT
    legacy = output_format is Format.DAT or (output_format is None and target.suffix == ".dat")
    sources = [file, *added, *(text or ()), *([ids_file] if ids_file else [])]
    check_target(target, overwrite=force or resume, sources=sources)
    if shows:
        matrix = merge_imatrices(
            [file, *added], target, chunk_size=context, legacy=legacy, overwrite=force
        )
        _report(matrix, None, None, as_json=as_json)
        return
    if resume and legacy:
        raise BadUsage("a .dat does not say what run it is of", hint="write GGUF, or no --resume")
    how = {
        "in_files": added,
        "legacy": legacy,
        "perplexity": not no_ppl,
        "save_every": output_frequency,
        "copy_every": save_frequency,
        "batch": chunks_at_once,
        "resume": resume,
        "overwrite": force,
    }

    def calibration(metadata: Mapping[str, Any]) -> Calibration:
        found = read_texts(metadata, text or [], ids, ids_file, parse_special=parse_special)
        return replace(
            found,
            context=chunk_tokens(metadata, context, file),
            chunks=chunks,
            skipped=from_chunk,
            process_output=process_output,
        )

    _make(file, calibration, target, how, as_json=as_json)


def _make(
    path: Path,
    calibration: Callable[[Mapping[str, Any]], Calibration],
    target: Path,
    how: Mapping[str, Any],
    *,
    as_json: bool,
) -> None:
    """Run the texts through a model, and report."""
    from ggufscope.container.file import open_gguf
    from ggufscope.forward.transformer import Transformer
    from ggufscope.measure.calibrating import is_checkpoint, make_imatrix
    from ggufscope.model.summary import summarize
    from ggufscope.report.progress import CommandBar

    with open_gguf(path) as file, naming(file.path):
        warn_about(file)
        found = calibration(file.metadata)
        model = Transformer.of(file, context=found.context)
        count = len(found.cut())
        with CommandBar(file.path.name) as bar:
            advance = bar.phase("gathering", unit="layers")

            def progress(done: Progress) -> None:
                said = "" if math.isnan(done.perplexity) else f", PPL {done.perplexity:.4f}"
                chunk = f"chunk {min(done.chunks + 1, count):,} of {count:,}"
                advance(done.steps, done.total, chunk + said)

            try:
                matrix, perplexity = make_imatrix(model, found, target, progress=progress, **how)
            except (KeyboardInterrupt, SystemExit):
                if not how["legacy"] and is_checkpoint(target):
                    complain("hint", f"{target} has the chunks so far: --resume goes on from it")
                raise
        file.require_unchanged()
        _report(matrix, (file.path, summarize(file)), perplexity, as_json=as_json)


def _report(
    matrix: ImportanceMatrix,
    model: tuple[Path, Summary] | None,
    perplexity: Perplexity | None,
    *,
    as_json: bool,
) -> None:
    from ggufscope.measure.importance import coverage_of
    from ggufscope.report.as_json import dumps
    from ggufscope.report.imatrix.json import made_json
    from ggufscope.report.imatrix.text import made_views

    if as_json:
        typer.echo(dumps(made_json(matrix, model, perplexity)))
    else:
        print_views(made_views(matrix, coverage_of(matrix), perplexity))


def _show(path: Path, *, every: bool, as_json: bool) -> None:
    from ggufscope.measure.importance import findings_of
    from ggufscope.recipes.imatrix_file import read_imatrix
    from ggufscope.report.as_json import dumps
    from ggufscope.report.imatrix.json import findings_json
    from ggufscope.report.imatrix.text import findings_views

    matrix = read_imatrix(path)
    matrix.require_numbers()
    findings = findings_of(matrix)
    if as_json:
        typer.echo(dumps(findings_json(matrix, findings)))
    else:
        print_views(findings_views(matrix, findings, every=every))
