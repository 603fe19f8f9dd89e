"""An importance matrix made and kept: what is gathered is saved as it grows, and gone on from."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ggufscope.container.target import check_target
from ggufscope.errors import BadUsage, GGUFScopeError
from ggufscope.forward.transformer import Transformer
from ggufscope.measure.gathering import Calibration, Perplexity, Progress, fingerprint, gather
from ggufscope.recipes.imatrix_file import read_imatrix, write_imatrix
from ggufscope.recipes.importance import USUAL_CHUNK, ImportanceMatrix, merged


def make_imatrix(
    model: Transformer,
    calibration: Calibration,
    target: str | os.PathLike[str],
    *,
    in_files: Sequence[str | os.PathLike[str]] = (),
    legacy: bool = False,
    perplexity: bool = True,
    save_every: int = 1,
    copy_every: int | None = None,
    batch: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[Progress], object] = lambda progress: None,
) -> tuple[ImportanceMatrix, Perplexity]:
    """Gather an importance matrix and write it; return it, and the perplexity.

    ``in_files`` are added to. ``save_every`` chunks, in whole batches, the file is written: it is
    always whole, and names the run until that is complete. With ``resume`` a run goes on from
    there, and ends with the bytes that it would have had in one go. ``copy_every`` chunks a copy
    is left beside it, ``TARGET.at_N`` after N chunks: a matrix of its own, of the text so far.

    Raises what ``gather`` and ``write_imatrix`` raise, ``BadUsage`` for a file to resume from that
    is not of this run.
    """
    target = Path(target)
    before = merged(map(read_imatrix, in_files), calibration.context, target) if in_files else None
    run = fingerprint(model, calibration, before)
    count, skip = len(calibration.cut()), 0
    if resume and target.exists():
        done = read_imatrix(target)
        if done.unfinished != run:
            raise BadUsage(
                f"{target} is {'of another run' if done.unfinished else 'complete'}: there is "
                "nothing to resume",
                hint="resume with the same model, texts and options, or make it anew with --force",
            )
        skip = done.chunk_count - (before.chunk_count if before else 0)
        before = done
    written = bool(skip)
    last_saved = skip
    copies: dict[int, Path] = {}
    added = before.chunk_count - skip if before else 0
    for start in range(skip, count, batch):
        end = min(start + batch, count)
        if copy_every and (added + start) // copy_every < (added + end) // copy_every:
            copies[end] = target.with_name(f"{target.name}.at_{added + end}")
    for path in copies.values():
        check_target(path, overwrite=overwrite or resume)

    def keep(matrix: ImportanceMatrix, chunks: int) -> None:
        nonlocal written, last_saved
        if chunks in copies:  # before the checkpoint: a run that goes on from that makes it no more
            write_imatrix(matrix, copies[chunks], legacy=legacy, overwrite=overwrite or resume)
        if chunks < count and chunks - last_saved < save_every:
            return
        whole = replace(matrix, unfinished="" if chunks == count else run)
        write_imatrix(whole, target, legacy=legacy, overwrite=overwrite or written)
        written, last_saved = True, chunks

    return gather(
        model,
        calibration,
        target,
        before=before,
        skip=skip,
        perplexity=perplexity,
        batch=batch,
        keep=keep,
        progress=progress,
    )


def is_checkpoint(path: Path) -> bool:
    """Whether a run that was ended can be gone on with from a file."""
    try:
        return bool(read_imatrix(path).unfinished)
    except GGUFScopeError:
        return False


def merge_imatrices(
    paths: Sequence[Path],
    target: Path,
    *,
    chunk_size: int | None = None,
    legacy: bool = False,
    overwrite: bool = False,
) -> ImportanceMatrix:
    """Add importance matrices up and write the sum; return it.

    ``chunk_size``: by default what the first says that says it, else 512. Raises
    ``ImportanceMismatch``, and what ``read_imatrix`` and ``write_imatrix`` raise.
    """
    parts = [read_imatrix(path) for path in paths]
    said = next((part.chunk_size for part in parts if part.chunk_size), USUAL_CHUNK)
    whole = merged(parts, chunk_size or said, target)
    write_imatrix(whole, target, legacy=legacy, overwrite=overwrite)
    return whole
