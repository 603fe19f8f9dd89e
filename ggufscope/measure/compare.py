"""The reference and all candidates through the layers side by side, one layer at a time.

Each layer of the file is read and dequantized once; candidates quantize what the reference holds.
Nothing of a layer outlives it but the numbers of the comparison, and what ``keep`` makes of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np

from ggufscope.arrays import Blocks, Floats, Reals
from ggufscope.blocks.codec import dequantize
from ggufscope.blocks.error import NO_ERROR, WeightError
from ggufscope.blocks.layouts import LAYOUTS, Layout
from ggufscope.container.file import GGUFFile
from ggufscope.forward.cache import KVCache
from ggufscope.forward.checks import require_memory_for
from ggufscope.forward.held import LayerWeights
from ggufscope.forward.trace import Trace, key_of
from ggufscope.forward.transformer import Transformer
from ggufscope.forward.weights import Matrix, PlannedWeights, StoredWeights, View, Weights
from ggufscope.measure.candidates import Candidate, of_name
from ggufscope.measure.comparison import (
    CandidateDifference,
    Comparison,
    NextToken,
    is_original,
)
from ggufscope.measure.differences import (
    LayerDifference,
    TensorDifference,
    compare_predictions,
    layer_difference,
)
from ggufscope.measure.effect import Level
from ggufscope.measure.inspection import Inspection
from ggufscope.measure.metrics.distributions import likeliest, log_softmax, perplexity
from ggufscope.measure.metrics.tensors import stored_error
from ggufscope.measure.verdict import Tolerances, judge
from ggufscope.pool import in_parallel, one_pass

Keep = Callable[[int, int, Reals], object]
"""Told run (0 the reference, then the candidates), layer, and ``kq_soft_max`` (H, T, T)."""

NEXT_TOKENS: Final = 5
"""The likeliest next tokens of each run that are kept."""
_KEPT: Final = frozenset({"kq_soft_max", "kqv", "l_out"})


def compare(
    file: GGUFFile,
    ids: Sequence[int],
    candidates: Sequence[Candidate | str],
    *,
    context: int | None = None,
    tolerances: Tolerances | None = None,
    require: Level | str | None = None,
    keep: Keep | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Comparison:
    """Run a prompt, ids (T,), through a model and its candidates; return all differences.

    A candidate may be given by name: a type for every matrix (``"Q4_K"``), or a preset
    (``"Q4_K_M"``). ``context`` is that of ``Transformer``. A file is held to what quantizing the
    model gives, unless that is quantized itself. ``tolerances`` and ``require``, the largest effect
    that will do, are for the verdict.
    ``progress`` is told how many steps of how many are done.
    Raises, before it reads a weight, what ``Transformer`` and ``require_runnable`` raise; then
    ``NonFiniteWeight``, naming tensor and row.
    """
    held = LayerWeights(StoredWeights(file))
    reference = Transformer(file.metadata, held, context=context)
    reference.require_runnable(ids)
    require_memory_for(
        reference.hparams, len(ids), matrices=1, logits=True, runs=len(candidates) + 1
    )
    made = [of_name(file, each) if isinstance(each, str) else each for each in candidates]
    stored = Counter(t.type.name for t in file.tensors.values() if len(t.shape) > 1)
    types = dict(stored.most_common())
    level = None if require is None else Level(require)
    runs = [_Run.of(candidate, reference, held, context) for candidate in made]
    if is_original(types):
        for run in runs:
            if run.candidate.file is not None:
                run.inspection = Inspection.of(file, run.candidate.file)
    inspections = [run.inspection for run in runs if run.inspection]
    steps = reference.n_layers + 1
    with one_pass():
        x = reference.embed(ids)
        for run in runs:
            run.x = run.model.embed(ids, cache=run.cache)
        held.release()
        for layer in range(reference.n_layers):
            trace = Trace(_KEPT)
            x = reference.layer(layer, x, trace=trace)
            mine = _of_layer(trace, layer)
            # Candidates side by side: of a small model each matrix is one tile.
            theirs = in_parallel(partial(_Run.step, layer=layer, reference=mine), runs)
            if keep:
                for number, kept in enumerate((mine, *theirs)):
                    keep(number, layer, kept["kq_soft_max"])
            for inspection in inspections:
                inspection.look_at(layer, held)
            held.release()
            if progress:
                progress(layer + 1, steps)
        logits = reference.logits(x)
        for inspection in inspections:
            inspection.look_at(None)
        found = [run.finish(file, logits, ids, tolerances or {}, level) for run in runs]
        held.release()
    if progress:
        progress(steps, steps)
    return Comparison(
        *(tuple(map(int, ids)), types, perplexity(logits, ids), tuple(found)),
        next_tokens=_next_tokens([logits[-1], *(run.last for run in runs)]),
    )


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

    candidate: Candidate
    model: Transformer
    weights: MeasuredWeights
    cache: KVCache | None
    x: Floats = field(default_factory=lambda: np.empty((0, 0), np.float32))
    layers: list[LayerDifference] = field(default_factory=list)
    inspection: Inspection | None = None
    last: Reals = field(default_factory=lambda: np.empty(0, np.float32))
    """The logits (V,) after the prompt."""

    @classmethod
    def of(
        cls, candidate: Candidate, reference: Transformer, held: LayerWeights, context: int | None
    ) -> _Run:
        if candidate.file is not None:
            weights = MeasuredWeights(StoredWeights(candidate.file), held)
            model = Transformer(candidate.file.metadata, weights, context=context)
        else:
            weights = MeasuredWeights(
                PlannedWeights(held, candidate.types, candidate.importance), held
            )
            model = reference.with_weights(weights)
        cache = KVCache(*candidate.cache_types) if candidate.cache_types else None
        return cls(candidate, model, weights, cache)

    def step(self, layer: int, reference: Mapping[str, Reals]) -> dict[str, Reals]:
        """Go through a layer, compare, and forget all but the numbers."""
        trace = Trace(_KEPT)
        self.x = self.model.layer(layer, self.x, trace=trace, cache=self.cache)
        mine = _of_layer(trace, layer)
        tensors = self.weights.take_differences()
        self.layers.append(layer_difference(layer, reference, mine, tensors))
        return mine

    def finish(
        self,
        file: GGUFFile,
        logits: Reals,
        ids: Sequence[int],
        tolerances: Tolerances,
        required: Level | None,
    ) -> CandidateDifference:
        """Compare the logits, and judge."""
        mine = self.model.logits(self.x)
        self.last = mine[-1].copy()
        prediction = compare_predictions(logits, mine, ids)
        candidate = self.candidate
        making = self.inspection.result() if self.inspection else None
        return CandidateDifference(
            name=candidate.name,
            types=_types(candidate),
            bits_per_weight=_bits_per_weight(file, candidate),
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


def _bits_per_weight(file: GGUFFile, candidate: Candidate) -> float:
    nbytes = n_elements = 0
    for tensor in (candidate.file or file).tensors.values():
        type_ = candidate.types.get(tensor.name)
        n_elements += tensor.info.n_elements
        nbytes += LAYOUTS[type_].row_bytes(tensor.info.n_elements) if type_ else tensor.nbytes
    return 8 * nbytes / n_elements if n_elements else 0.0


class MeasuredWeights(View):
    """A candidate's view of the weights that measures each tile it hands out, once."""

    def __init__(self, weights: Weights, reference: Weights) -> None:
        super().__init__(weights)
        self._reference = reference
        self._errors: dict[tuple[str, int], WeightError] = {}

    def matrix(self, name: str) -> Matrix:
        """Return a tensor by its rows."""
        matrix = self._base.matrix(name)
        reference = self._reference.matrix(name)
        return matrix if matrix is reference else _MeasuredMatrix(matrix, reference, self._errors)

    def take_differences(self) -> list[TensorDifference]:
        """Return the tensors measured since the last call, of which a weight or the type differs.

        Tensors whose type differs are returned even where no weight does.
        """
        totals: dict[str, WeightError] = {}
        for (name, _), error in sorted(self._errors.items()):
            totals[name] = totals.get(name, NO_ERROR) + error
        self._errors.clear()
        return [
            TensorDifference(name, self._reference.type(name), self.type(name), error)
            for name, error in totals.items()
            if error.squared_error or self._reference.type(name) != self.type(name)
        ]


class _MeasuredMatrix:
    def __init__(
        self, base: Matrix, reference: Matrix, errors: dict[tuple[str, int], WeightError]
    ) -> None:
        self.name, self.shape = base.name, base.shape
        self._base, self._reference, self._errors = base, reference, errors

    def rows(self, start: int, stop: int) -> Floats:
        return dequantize(*self.blocks(start, stop), threads=1)

    def blocks(self, start: int, stop: int) -> tuple[Blocks, Layout]:
        blocks, layout = self._base.blocks(start, stop)
        # Several threads take different tiles; one tile twice gives the same numbers twice.
        if (self.name, start) not in self._errors:
            reference = self._reference.rows(start, stop)
            self._errors[self.name, start] = stored_error(reference, blocks, layout)
        return blocks, layout
