"""An importance matrix, gathered: a text run through a model, and what enters each matrix squared.

Follows ``compute_imatrix`` and ``IMatrixCollector::collect_imatrix`` of llama.cpp's
``tools/imatrix/imatrix.cpp``: the text is cut into chunks, each is a pass of its own that begins
with BOS, and of every matrix of the layers the squares are summed column by column; of a stack of
experts for each expert, over the tokens that chose it. Of contexts that are no multiple of 16
llama-imatrix leaves out the last tokens of some passes, and here none is.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from ggufscope.arrays import Floats
from ggufscope.blocks.codec import through
from ggufscope.errors import ImportanceMismatch, NonFiniteActivation, TooFewTokens
from ggufscope.forward.checks import require_memory_for
from ggufscope.forward.held import LayerWeights
from ggufscope.forward.trace import Trace
from ggufscope.forward.transformer import Transformer
from ggufscope.pool import one_pass
from ggufscope.recipes.importance import Entry, ImportanceMatrix, in_order

_LOGITS: Final = 1 << 25
"""Logits that are computed together: 128 MiB, and as much again while they are."""
_OUTPUT: Final = "output.weight"
_ROUNDED: Final = frozenset({"F16", "BF16"})
"""What weights are stored as where ggml's CPU code rounds the other factor to the same type."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is run, and how it is cut."""

    texts: Sequence[tuple[str, Sequence[int]]]
    """Of each text what it is called, which may be nothing, and its token ids."""
    context: int = 512
    """Tokens of a chunk."""
    chunks: int | None = None
    """Of each text at the most; None for all."""
    skipped: int = 0
    """Chunks at the beginning of each text that are not run."""
    bos: int | None = None
    """What stands in for the first token of each chunk; None where the model wants none."""
    process_output: bool = False
    """Whether the output projection counts as well."""

    def cut(self) -> list[list[int]]:
        """Return the token ids of every chunk; raises ``TooFewTokens``."""
        found = []
        for name, ids in self.texts:
            left = ids[self.skipped * self.context :]
            if len(left) < 2 * self.context:
                after = f" after the {self.skipped:,} that are skipped" if self.skipped else ""
                raise TooFewTokens(
                    f"two chunks of {self.context:,} tokens are needed at the least{after}, and "
                    f"{name or 'the text'} has {len(ids):,}",
                    hint="give a longer text, or a smaller --context",
                )
            count = min(len(left) // self.context, self.chunks or len(left))
            for start in range(0, count * self.context, self.context):
                found.append([*left[start : start + self.context]])
        return found

    def entered(self, chunk: Sequence[int]) -> list[int]:
        """Return the ids that enter the model for a chunk."""
        return [*chunk] if self.bos is None else [self.bos, *chunk[1:]]


@dataclass(slots=True)
class Perplexity:
    """How well the second half of each chunk was foretold, so far."""

    total: float = 0.0
    squares: float = 0.0
    count: int = 0
    so_far: list[float] = field(default_factory=list)
    """After each chunk."""

    def add(self, logits: Floats, following: Sequence[int]) -> None:
        """Take logits (R, V), which are used up, and the token that followed each (R,)."""
        logits -= logits.max(axis=1, keepdims=True)
        told = logits[np.arange(len(following)), following].astype(np.float64)
        np.exp(logits, out=logits)
        losses = np.log(logits.sum(axis=1, dtype=np.float64)) - told
        self.total += float(losses.sum())
        self.squares += float(np.square(losses).sum())
        self.count += len(losses)

    @property
    def value(self) -> float:
        """The perplexity; NaN before the first chunk."""
        return math.exp(min(self.total / self.count, 700.0)) if self.count else math.nan

    @property
    def error(self) -> float:
        """One standard deviation of it, as llama-imatrix reckons."""
        if self.count < 2:
            return math.nan
        mean = self.total / self.count
        variance = self.squares / self.count - mean * mean
        return self.value * math.sqrt(max(0.0, variance) / (self.count - 1))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come."""

    steps: int
    """Layers of chunks that are done; the output is a layer, too."""
    total: int
    chunks: int
    perplexity: float


class Collector:
    """Sums of squares by tensor; hand its ``entering`` to a ``Trace``."""

    def __init__(
        self, model: Transformer, before: ImportanceMatrix | None, *, output: bool
    ) -> None:
        """Go on from ``before``, of raw sums. Raises ``ImportanceMismatch``."""
        self._weights, self._output = model.weights, output
        self._entries: dict[str, Entry] = dict(before.entries) if before else {}
        self._mine: dict[str, Entry] = {}

    def entering(self, name: str, x: Floats, expert: int | None) -> Floats:
        """Add what enters a matrix, (T, in); return it as ggml's CPU code rounds it.

        Raises ``NonFiniteActivation``.
        """
        if name.startswith("blk.") or (self._output and name == _OUTPUT):
            self._add(name, x, expert)
        type_ = self._weights.type(name)
        return through(x, type_) if type_ in _ROUNDED else x

    def _add(self, name: str, x: Floats, expert: int | None) -> None:
        entry = self._mine.get(name) or self._begin(name, stacked=expert is not None)
        at = expert or 0
        sums = entry.sums[at]
        sums += np.einsum("tc,tc->c", x, x)
        entry.counts[at] += len(x)
        if not np.isfinite(sums).all():
            raise NonFiniteActivation(
                f"what enters {name!r} overflows in column {int(np.argmin(np.isfinite(sums)))}",
                hint="a model whose numbers overflow has no importance matrix: check its weights",
            )

    def matrix(self, path: Path, datasets: tuple[str, ...], chunk_size: int) -> ImportanceMatrix:
        """Return what was gathered so far; what is gathered later does not change it."""
        entries = {
            name: Entry(entry.sums.copy(), entry.counts.copy())
            for name, entry in {**self._entries, **self._mine}.items()
        }
        most = max((int(entry.counts.max()) for entry in entries.values()), default=0)
        return ImportanceMatrix(path, in_order(entries), datasets, most // chunk_size, chunk_size)

    def _begin(self, name: str, *, stacked: bool) -> Entry:
        """Return the entry of a matrix that is met for the first time in this run."""
        shape = self._weights.shape(name)
        shape = (shape[0] if stacked else 1, shape[-1])
        there = self._entries.get(name)
        sums, counts = np.zeros(shape, np.float32), np.zeros(shape[0], np.int64)
        if there is not None:
            alike = bool((there.counts == there.counts[0]).all())
            fits = len(there.counts) in (1, shape[0]) or (alike and not stacked)
            if there.sums.size != sums.size or not fits:
                raise ImportanceMismatch(
                    f"--in-file has {there.sums.size} numbers for {name!r} of {shape[0]} experts "
                    f"and {shape[1]} columns",
                    hint="only matrices of the same model can be gone on from",
                )
            sums += there.sums.reshape(shape)
            # A legacy file has one count for a stack; an old GGUF one for each where one is due.
            counts += there.counts[: shape[0]]
        self._mine[name] = entry = Entry(sums, counts)
        return entry


def gather(
    model: Transformer,
    calibration: Calibration,
    path: Path,
    *,
    before: ImportanceMatrix | None = None,
    skip: int = 0,
    perplexity: bool = True,
    batch: int = 1,
    keep: Callable[[ImportanceMatrix, int], object] = lambda matrix, chunks: None,
    progress: Callable[[Progress], object] = lambda progress: None,
) -> tuple[ImportanceMatrix, Perplexity]:
    """Run the chunks of a calibration; return the matrix, raw sums, and the perplexity.

    ``before``: a matrix of raw sums to add to; its first ``skip`` chunks of the calibration are
    in it already. ``batch``: chunks that go through the layers side by side, each layer read once.
    ``keep`` is handed the matrix, and how many chunks are in it, after each batch: it may save it.
    Each chunk is added as a whole, so a run that goes on from there ends with the same numbers.

    Raises ``TooFewTokens``, ``ImportanceMismatch``, ``NonFiniteActivation``, ``TooMuchMemory``, and
    what ``Transformer.run`` raises.
    """
    chunks = calibration.cut()
    for chunk in chunks:
        model.require_runnable(calibration.entered(chunk))
    require_memory_for(model.hparams, calibration.context * batch, matrices=0, logits=False)
    collector = Collector(model, before, output=calibration.process_output)
    datasets = before.datasets if before else ()
    if not skip:
        datasets += tuple(name for name, _ in calibration.texts if name)
    found = Perplexity()
    total = len(chunks) * (model.n_layers + 1)
    trace = Trace((), entering=collector.entering)
    held = LayerWeights(model.weights) if batch > 1 else None
    runner = model.with_weights(held) if held else model

    def tell(done: int, layers: int, together: int) -> None:
        steps = done * (model.n_layers + 1) + layers * together
        progress(Progress(steps, total, done, found.value))

    def kept(done: int) -> ImportanceMatrix:
        matrix = collector.matrix(path, datasets, calibration.context)
        keep(matrix, done)
        return matrix

    made = collector.matrix(path, datasets, calibration.context)
    with one_pass(), np.errstate(all="ignore"):
        for start in range(skip, len(chunks), batch):
            group = chunks[start : start + batch]
            xs = [runner.embed(calibration.entered(chunk)) for chunk in group]
            for layer in range(model.n_layers):
                xs = [runner.layer(layer, x, trace=trace) for x in xs]
                if held:
                    held.release()
                tell(start, layer + 1, len(group))
            for chunk, x in zip(group, xs, strict=True):
                _finish(runner, calibration, chunk, x, trace, found if perplexity else None)
            if held:
                held.release()
            made = kept(start + len(group))
            tell(start + len(group), 0, 0)
    return made, found


def _finish(
    model: Transformer,
    calibration: Calibration,
    chunk: Sequence[int],
    x: Floats,
    trace: Trace,
    found: Perplexity | None,
) -> None:
    """Take x (T, E) through the output, as far as anybody wants it: its second half is scored."""
    half, last = calibration.context // 2, len(chunk) - 1
    wanted = range(len(chunk)) if calibration.process_output else range(half, last)
    if found is None and not calibration.process_output:
        return
    step = max(1, _LOGITS // model.n_vocab)
    for first in wanted[::step]:
        stop = min(first + step, wanted.stop)
        logits = model.logits(x[first:stop], trace=trace)
        begin, end = max(half, first), min(last, stop)
        if found is not None and begin < end:
            found.add(logits[begin - first : end - first], chunk[begin + 1 : end + 1])
    if found is not None:
        found.so_far.append(found.value)


def fingerprint(
    model: Transformer, calibration: Calibration, before: ImportanceMatrix | None
) -> str:
    """Return what tells one run from another: model, chunks, and what it goes on from."""
    digest = hashlib.sha256()
    for name in model.weights.names():
        said = f"{name} {model.weights.type(name)} {model.weights.shape(name)}\n"
        digest.update(said.encode("utf-8", "surrogateescape"))
    digest.update(f"{calibration.context} {calibration.process_output}".encode())
    for chunk in calibration.cut():
        digest.update(np.array(calibration.entered(chunk), np.int64).tobytes())
    for name, entry in before.entries.items() if before else ():
        digest.update(name.encode("utf-8", "surrogateescape"))
        digest.update(entry.sums.tobytes() + entry.counts.tobytes())
    return digest.hexdigest()
