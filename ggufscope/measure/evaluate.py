"""A text of any length through a model and its candidates: what each says of every token.

The text is cut into chunks as llama-perplexity cuts it. A layer is read once; all chunks of the
reference go through it, then all of each candidate, whose weights are made, or read, once a layer.
What leaves a layer lies in memory, or in a temporary file where it is much, so neither the model
nor the text has to fit into memory. Logits are made some rows at a time, and reduced at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ggufscope.arrays import Floats, Integers
from ggufscope.container.file import GGUFFile
from ggufscope.errors import BadUsage, DifferentModels, naming
from ggufscope.forward.activations import Activations
from ggufscope.forward.checks import require_memory_for
from ggufscope.forward.held import LayerWeights
from ggufscope.forward.remembered import BUDGET, RememberedWeights
from ggufscope.forward.transformer import Transformer
from ggufscope.forward.weights import PlannedWeights, StoredWeights
from ggufscope.measure.base_file import DEEPEST, BaseFile, BaseWriter, scored_rows
from ggufscope.measure.candidates import Candidate, of_names, weighs
from ggufscope.measure.evaluation import Evaluation, Scores, beaten, evaluated
from ggufscope.measure.scoring import Logs, logs_of, score
from ggufscope.pool import in_parallel, one_pass

TOGETHER: Final = 2048
"""Tokens that go through a layer side by side, a chunk at the least."""
_LOGITS: Final = 1 << 26
"""Logits of one run that are computed together: 256 MiB."""


def evaluate(
    file: GGUFFile,
    chunks: Sequence[Sequence[int]],
    candidates: Sequence[Candidate | str] | str = (),
    *,
    bos: int | None = None,
    base: BaseFile | None = None,
    save_base: BaseWriter | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Evaluation:
    """Run chunks, ids (N, T), through a model and its candidates; return what was found.

    ``bos`` takes the place of each chunk's first token; None for models that want none. The second
    half of a chunk is scored, but for its last token. A candidate may be given by name: a type for
    every matrix (``"Q4_K"``), or a preset (``"Q4_K_M"``); one name stands for a list of it. With
    ``base`` the reference is what that file says of the same chunks, and the model itself is the
    first candidate. ``save_base`` is written meanwhile. ``progress`` is told how many steps of how
    many are done.

    Raises, before it reads a weight, ``BadUsage`` for chunks that are none, ``DifferentModels`` for
    a base of another vocabulary, and what ``Transformer``, ``require_runnable`` and ``Activations``
    raise; then ``NonFiniteWeight``.
    """
    made = of_names(file, candidates)
    _require_even(chunks)
    if base is not None:
        made.insert(0, Candidate(file.path.name, {}))
    entered = [[*chunk] if bos is None else [bos, *chunk[1:]] for chunk in chunks]
    context = len(chunks[0])
    held = LayerWeights(StoredWeights(file))
    reference = Transformer(file.metadata, held, context=context)
    for ids in entered:
        reference.require_runnable(ids)
    if base is not None and base.vocabulary != reference.n_vocab:
        raise DifferentModels(
            f"{base.path} is of a model with {base.vocabulary:,} tokens in its vocabulary, and "
            f"{file.path} has {reference.n_vocab:,}",
            hint="--base takes what another quantization of the same model says",
        )
    require_memory_for(reference.hparams, max(TOGETHER, context), matrices=0, logits=False)
    own = [] if base else [_Run(reference, held)]
    runs = own + [_Run.of(candidate, reference, held, context) for candidate in made]
    width = reference.weights.shape("token_embd.weight")[1]
    if save_base is not None:
        save_base.begin(chunks, reference.n_vocab)
    count = len(chunks) * scored_rows(context)
    tiles = -(-count // _tile_rows(reference.n_vocab))
    total = (reference.n_layers + 1) * len(runs) + tiles * len(runs)
    steps = iter(range(1, total + 1))

    def tell() -> None:
        progress(next(steps), total)

    with (
        one_pass(),
        np.errstate(all="ignore"),
        Activations(len(runs), len(chunks), context, width) as kept,
    ):
        for number, run in enumerate(runs):
            for chunk, ids in enumerate(entered):
                kept.write(number, chunk, run.model.embed(ids))
            run.release()
            tell()
        held.release()
        for layer in range(reference.n_layers):
            for number, run in enumerate(runs):
                run.through(layer, number, kept, len(chunks), max(1, TOGETHER // context))
                run.release()
                tell()
            held.release()
        for run in runs:
            run.share_budget(len(runs))
        following = np.array([chunk[context // 2 + 1 :] for chunk in chunks], np.int64).reshape(-1)
        scores = [Scores.empty(count) for _ in range(len(made) + 1)]
        _score_all(runs, kept, following, scores, base, save_base, tell)
    sizes = [weighs(file, candidate) for candidate in made]
    first = evaluated(
        base.path.name if base else file.path.name,
        None if base else weighs(file, Candidate("", {})),
        scores[0],
        len(chunks),
    )
    found = [
        evaluated(candidate.name, size, theirs, len(chunks), scores[0])
        for candidate, size, theirs in zip(made, sizes, scores[1:], strict=True)
    ]
    winners = beaten(sizes, scores[1:])
    named = [
        each
        if winner is None
        else replace(each, beaten_by=found[winner[0]].name, clearly=winner[1])
        for each, winner in zip(found, winners, strict=True)
    ]
    return Evaluation(context, len(chunks), count, first, tuple(named))


def _require_even(chunks: Sequence[Sequence[int]]) -> None:
    """Raise ``BadUsage`` where a text is not in chunks of one length that can be scored."""
    lengths = {0 if isinstance(chunk, int | str) else len(chunk) for chunk in chunks}
    if len(lengths) != 1 or not scored_rows(max(lengths)) > 0:
        raise BadUsage(
            "a text is evaluated in chunks of token ids, all of one length from 3 on",
            hint="cut it: [ids[i : i + 256] for i in range(0, len(ids) - 255, 256)]",
        )


@dataclass(slots=True)
class _Run:
    """The reference, or a candidate, under way."""

    model: Transformer
    weights: LayerWeights | RememberedWeights

    @classmethod
    def of(
        cls, candidate: Candidate, reference: Transformer, held: LayerWeights, context: int
    ) -> _Run:
        if candidate.file is not None:
            weights = RememberedWeights(StoredWeights(candidate.file))
            with naming(candidate.file.path):
                model = Transformer(candidate.file.metadata, weights, context=context)
        else:
            planned = PlannedWeights(held, candidate.types, candidate.importance)
            weights = RememberedWeights(planned)
            model = reference.with_weights(weights)
        return cls(model, weights)

    def through(
        self, layer: int, number: int, kept: Activations, chunks: int, together: int
    ) -> None:
        """Take all chunks through a layer."""

        def one(chunk: int) -> None:
            kept.write(number, chunk, self.model.layer(layer, kept.read(number, chunk)))

        one(0)  # by itself: its threads make the weights, which all others then find
        for start in range(1, chunks, together):
            in_parallel(one, range(start, min(start + together, chunks)))

    def release(self) -> None:
        """Forget a layer; the reference's weights are the candidates', and go with the last."""
        if isinstance(self.weights, RememberedWeights):
            self.weights.release()

    def share_budget(self, runs: int) -> None:
        """Have all output matrices together in memory, as far as there is room for them."""
        if isinstance(self.weights, RememberedWeights):
            self.weights.budget = BUDGET // runs


def _tile_rows(vocabulary: int) -> int:
    return max(1, _LOGITS // vocabulary)


def _score_all(
    runs: Sequence[_Run],
    kept: Activations,
    following: Integers,
    scores: Sequence[Scores],
    base: BaseFile | None,
    save_base: BaseWriter | None,
    tell: Callable[[], None],
) -> None:
    """Score all runs, tile by tile; the first of ``scores`` is the reference's."""
    vocabulary = runs[0].model.n_vocab
    step = _tile_rows(vocabulary)
    for first in range(0, len(following), step):
        last = min(first + step, len(following))
        tokens = following[first:last]
        base_logs: Logs | None = None
        if base is not None:
            base_logs = _of_file(base, first)
            score(base_logs, tokens, vocabulary, scores[0], first)
        for number, run in enumerate(runs):
            logits = run.model.logits(_scored(kept, number, first, last))
            logs = logs_of(logits)
            if save_base is not None and number == 0:
                save_base.add(logits)
            if base_logs is None:
                base_logs = logs
                score(logs, tokens, vocabulary, scores[0], first)
            else:
                into = scores[number + (base is not None)]
                deepest = -np.inf if base is None else -float(DEEPEST)
                score(logs, tokens, vocabulary, into, first, base_logs, deepest)
            tell()


def _of_file(base: BaseFile, start: int) -> Logs:
    return lambda first, last: base.rows(start + first, start + last)


def _scored(kept: Activations, run: int, first: int, last: int) -> Floats:
    """Return x (R, E) of scored rows [first, last), counted over all chunks."""
    context = kept.tokens
    each = scored_rows(context)
    parts = [
        kept.read(run, chunk, context // 2 + start, context // 2 + stop)
        for chunk, start, stop in _pieces(first, last, each)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _pieces(first: int, last: int, each: int) -> Iterator[tuple[int, int, int]]:
    """Yield (chunk, first, last) of rows, ``each`` of them in a chunk."""
    for chunk in range(first // each, -(-last // each)):
        yield chunk, max(first - chunk * each, 0), min(last - chunk * each, each)
