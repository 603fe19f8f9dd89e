"""The reference and all candidates through the layers side by side, one layer at a time.

Each layer of the file is read and dequantized once: what the reference reads is quantized for all
candidates while it is at hand. Nothing of a layer outlives it but the numbers of the comparison,
what leaves it, and what ``keep`` makes of it. What is longer than the context goes through in
windows, one after the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from ggufscope.arrays import Floats, Reals
from ggufscope.container.file import GGUFFile
from ggufscope.errors import naming
from ggufscope.forward.activations import Activations
from ggufscope.forward.cache import KVCache
from ggufscope.forward.checks import require_ids, require_memory_for
from ggufscope.forward.held import LayerWeights
from ggufscope.forward.remembered import BUDGET, RememberedWeights
from ggufscope.forward.trace import Trace, key_of
from ggufscope.forward.transformer import Transformer
from ggufscope.forward.weights import PlannedWeights, StoredWeights, Weights
from ggufscope.measure.candidates import Candidate, of_names, weighs
from ggufscope.measure.comparison import (
    CandidateDifference,
    Comparison,
    NextToken,
    is_original,
)
from ggufscope.measure.differences import (
    LayerDifference,
    Prediction,
    compare_predictions,
    join_layers,
    join_predictions,
    layer_difference,
    losses_in_parallel,
    mean_perplexity,
)
from ggufscope.measure.effect import Level
from ggufscope.measure.measured import MeasuredWeights
from ggufscope.measure.metrics.distributions import likeliest, log_softmax, perplexity_of
from ggufscope.measure.verdict import Tolerances, judge
from ggufscope.measure.windows import in_windows
from ggufscope.pool import in_parallel, one_pass

if TYPE_CHECKING:
    from ggufscope.measure.inspection import Inspection

Keep = Callable[[int, int, Reals], object]
"""Told run (0 the reference, then the candidates), layer, and ``kq_soft_max`` (H, T, T).

Of the first window."""

NEXT_TOKENS: Final = 5
"""The likeliest next tokens of each run that are kept."""
_KEPT: Final = frozenset({"kq_soft_max", "kqv", "l_out"})


def compare(
    file: GGUFFile,
    ids: Sequence[int],
    candidates: Sequence[Candidate | str] | str,
    *,
    context: int | None = None,
    tolerances: Tolerances | None = None,
    require: Level | str | None = None,
    keep: Keep | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Comparison:
    """Run a prompt, ids (T,), through a model and its candidates; return all differences.

    A candidate may be given by name: a type for every matrix (``"Q4_K"``), or a preset
    (``"Q4_K_M"``); one name stands for a list of it. ``context`` is that of ``Transformer``;
    ``in_windows`` cuts a longer prompt. A file is held to what quantizing the model gives, unless
    that is quantized itself. ``tolerances`` and ``require``, the largest effect that will do, are
    for the verdict.
    ``progress`` is told how many steps of how many are done.
    Raises, before it reads a weight, what ``Transformer`` and ``require_ids`` raise; then
    ``NonFiniteWeight``, naming tensor and row.
    """
    held = LayerWeights(StoredWeights(file))
    reference = Transformer(file.metadata, held, context=context)
    require_ids(ids, 0, reference.n_vocab, None)
    windows = in_windows(ids, reference.n_context, file.metadata)
    longest = max(map(len, windows))
    made = of_names(file, candidates)
    require_memory_for(reference.hparams, longest, matrices=1, logits=True, runs=len(made) + 1)
    stored = Counter(t.type.name for t in file.tensors.values() if len(t.shape) > 1)
    types = dict(stored.most_common())
    level = None if require is None else Level(require)
    runs = [
        _Run.of(number, candidate, reference, held, context, len(windows), len(made))
        for number, candidate in enumerate(made, 1)
    ]
    if is_original(types):
        for run in runs:
            if run.candidate.file is not None:
                from ggufscope.measure.inspection import Inspection

                run.inspection = Inspection.of(file, run.candidate.file)
    held.followers += [run.follow for run in runs]
    if len(windows) > 1:
        held.followers.append(_comes_back)
    inspections = [run.inspection for run in runs if run.inspection]
    steps = reference.n_layers + 1
    width = reference.weights.shape("token_embd.weight")[1]
    with one_pass(), Activations(len(runs) + 1, len(windows), longest, width) as kept:
        for number, window in enumerate(windows):
            kept.write(0, number, reference.embed(window))
            for run in runs:
                run.embed(kept, number, window)
        for run in runs:
            run.remembered.release()
        held.release()
        for layer in range(reference.n_layers):
            for number, window in enumerate(windows):
                seen = _through(layer, reference, runs, kept, number, len(window))
                if keep and not number:
                    for at, each in enumerate(seen):
                        keep(at, layer, each["kq_soft_max"])
            for run in runs:
                run.leave(windows)
            for inspection in inspections:
                inspection.look_at(layer, held)
            held.release()
            if progress:
                progress(layer + 1, steps)
        for inspection in inspections:
            inspection.look_at(None)
        perplexities, last = [], []
        for number, window in enumerate(windows):
            logits = reference.logits(kept.read(0, number, 0, len(window)))
            perplexities.append(perplexity_of(losses_in_parallel(logits, window)))
            last = [logits[-1].copy()]
            last += [run.predict(kept, number, window, logits) for run in runs]
        found = [run.finish(file, windows, tolerances or {}, level) for run in runs]
        held.release()
    if progress:
        progress(steps, steps)
    return Comparison(
        *(windows, types, mean_perplexity(perplexities, windows), tuple(found)),
        next_tokens=_next_tokens(last),
    )


def _through(
    layer: int,
    reference: Transformer,
    runs: Sequence[_Run],
    kept: Activations,
    window: int,
    tokens: int,
) -> list[dict[str, Reals]]:
    """Take a window of all runs through a layer; return what is compared of each."""
    trace = Trace(_KEPT)
    kept.write(0, window, reference.layer(layer, kept.read(0, window, 0, tokens), trace=trace))
    mine = _of_layer(trace, layer)
    # Candidates side by side: of a small model each matrix is one tile.
    step = partial(_Run.step, layer=layer, kept=kept, window=window, tokens=tokens, reference=mine)
    return [mine, *in_parallel(step, runs)]


def _comes_back(name: str, start: int, weights: Floats) -> bool:
    """Say, for the reference, that the next window needs these rows again."""
    return False


def _next_tokens(last: Sequence[Reals]) -> tuple[NextToken, ...]:
    """Logits (V,) of each run after the prompt -> the tokens that any of them holds likeliest."""
    likely = dict.fromkeys(id_ for logits in last for id_, _ in likeliest(logits, NEXT_TOKENS))
    with np.errstate(all="ignore"):  # a model whose numbers overflow gives NaN
        shares = np.array([np.exp(log_softmax(logits)) for logits in last])
    found = [NextToken(id_, tuple(map(float, shares[:, id_]))) for id_ in likely]
    return tuple(sorted(found, key=lambda each: -each.shares[0]))


def _of_layer(trace: Trace, layer: int) -> dict[str, Reals]:
    return {name: trace[key_of(name, layer)] for name in _KEPT}


@dataclass(slots=True)
class _Run:
    """One candidate under way."""

    number: int
    """From 1 on; 0 is the reference."""
    candidate: Candidate
    model: Transformer
    weights: MeasuredWeights
    planned: PlannedWeights | None
    """What is made of the reference's weights; None where there is a file."""
    remembered: RememberedWeights
    """What keeps a layer's weights, for each window."""
    caches: list[KVCache | None]
    """Of each window."""
    seen: list[LayerDifference] = field(default_factory=list)
    """What was found in each window, of the layer under way."""
    layers: list[LayerDifference] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)
    inspection: Inspection | None = None

    @classmethod
    def of(
        cls,
        number: int,
        candidate: Candidate,
        reference: Transformer,
        held: LayerWeights,
        context: int | None,
        windows: int,
        runs: int,
    ) -> _Run:
        planned: PlannedWeights | None
        base: Weights
        if candidate.file is not None:
            planned, base = None, StoredWeights(candidate.file)
        else:
            base = planned = PlannedWeights(held, candidate.types, candidate.importance)
        remembered = RememberedWeights(base, budget=BUDGET // runs)
        weights = MeasuredWeights(remembered, held)
        if candidate.file is not None:
            with naming(candidate.file.path):
                model = Transformer(candidate.file.metadata, weights, context=context)
        else:
            model = reference.with_weights(weights)
        types = candidate.cache_types
        caches = [KVCache(*types) if types else None for _ in range(windows)]
        return cls(number, candidate, model, weights, planned, remembered, caches)

    def follow(self, name: str, start: int, weights: Floats) -> bool:
        """Make, measure and keep rows of a matrix while those of the reference are at hand."""
        if self.planned is None or not self.remembered.has_room:
            return False
        made = self.planned.made(name, start, weights)
        if made is None:
            return False
        self.remembered.keep(name, start, made)
        self.weights.measure(name, start, weights, *made)
        return True

    def embed(self, kept: Activations, window: int, ids: Sequence[int]) -> None:
        """Begin a window."""
        kept.write(self.number, window, self.model.embed(ids, cache=self.caches[window]))

    def step(
        self,
        layer: int,
        kept: Activations,
        window: int,
        tokens: int,
        reference: Mapping[str, Reals],
    ) -> dict[str, Reals]:
        """Take a window through a layer, and compare; return what may be kept of it."""
        trace, x = Trace(_KEPT), kept.read(self.number, window, 0, tokens)
        x = self.model.layer(layer, x, trace=trace, cache=self.caches[window])
        kept.write(self.number, window, x)
        mine = _of_layer(trace, layer)
        self.seen.append(layer_difference(layer, reference, mine))
        return mine

    def leave(self, windows: Sequence[Sequence[int]]) -> None:
        """Join what was found in all windows of a layer, and forget its weights."""
        self.layers.append(join_layers(self.seen, windows, self.weights.take_differences()))
        self.seen.clear()
        self.remembered.release()

    def predict(
        self, kept: Activations, window: int, ids: Sequence[int], reference: Reals
    ) -> Reals:
        """Compare logits (T, V) of a window; return those after its last token."""
        mine = self.model.logits(kept.read(self.number, window, 0, len(ids)))
        self.predictions.append(compare_predictions(reference, mine, ids))
        last: Reals = mine[-1].copy()
        return last

    def finish(
        self,
        file: GGUFFile,
        windows: Sequence[Sequence[int]],
        tolerances: Tolerances,
        required: Level | None,
    ) -> CandidateDifference:
        """Join the predictions, and judge."""
        prediction = join_predictions(self.predictions, windows)
        candidate = self.candidate
        self.remembered.release()
        making = self.inspection.result() if self.inspection else None
        return CandidateDifference(
            name=candidate.name,
            types=_types(candidate),
            bits_per_weight=weighs(file, candidate).bits_per_weight,
            cache_types=candidate.cache_types,
            in_memory=candidate.file is None,
            layers=tuple(self.layers),
            other_tensors=tuple(self.weights.take_differences()),
            kl_divergence=prediction.kl_divergence,
            top1_agreement=prediction.top1_agreement,
            perplexity=prediction.perplexity,
            verdict=judge(self.layers, prediction, tolerances, required, making),
        )


def _types(candidate: Candidate) -> dict[str, int]:
    if candidate.file is None:
        return dict(Counter(candidate.types.values()))
    return dict(Counter(tensor.type.name for tensor in candidate.file.tensors.values()))
