"""What a type for a tensor costs, in nats, for all tensors and types in one pass there and back.

With g a gradient at a matrix's output, as ``Backward`` draws it from the model's own predictions,
and d the error that a type makes in that output, ``1/2 E[(g d)^2]``, summed over outputs, is the KL
divergence that this one change will cause: the Fisher information in second order, of which the
products between outputs are left out. Costs add up while each is small.

All types of a tensor share x and g: ``d = x (W_type - W)^T`` is one product for each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from ggufscope.arrays import Floats, Places
from ggufscope.blocks.codec import dequantize, quantize
from ggufscope.errors import BadUsage, NonFiniteActivation
from ggufscope.forward.backward import Backward, Reached
from ggufscope.forward.transformer import Transformer
from ggufscope.forward.weights import Weights, tile_rows
from ggufscope.pool import in_parallel
from ggufscope.recipes.sensitivities import Sensitivities, model_digest

_OUTPUTS: Final = 1 << 26
"""Gradients of the output matrix that are kept, 256 MiB: of a large vocabulary every n-th token."""


@dataclass(slots=True)
class _Seen:
    """What came through one matrix, or one expert of a stack, so far."""

    x: list[Floats] = field(default_factory=list)
    squares: list[Floats] = field(default_factory=list)
    """Of the gradients, summed over the draws."""
    rows: list[Places] = field(default_factory=list)
    """Of an embedding table, in place of x."""

    def add(self, each: Reached, keep: slice) -> None:
        squares = np.square(each.dy[keep])
        if each.draw:
            self.squares[-1] += squares
            return
        self.squares.append(squares)
        if each.rows is not None:
            self.rows.append(each.rows)
        elif each.x is not None:
            self.x.append(each.x[keep])


class Meter:
    """Adds up costs; hand its ``tell`` and ``after`` to ``Backward.run``."""

    def __init__(
        self,
        model: Transformer,
        types: Mapping[str, Sequence[str]],
        *,
        tokens: int,
        draws: int,
    ) -> None:
        """``types``: tensor -> those it could have."""
        self.costs = {name: dict.fromkeys(wanted, 0.0) for name, wanted in types.items()}
        self.reached: dict[str, set[int]] = {}
        self._experts = model.hparams.expert_count or 1
        self.importance: Mapping[str, Floats] = {}
        """Tensor -> (slices, row), by which a type's errors are weighed."""
        self._scale = 0.5 / (tokens * draws)
        self._seen: dict[tuple[str, int | None, bool], _Seen] = {}
        tied = "output.weight" not in model.weights
        self._output = "token_embd.weight" if tied else "output.weight"
        # The rows of the output matrix are so many that no text needs all of its tokens there.
        self._every = -(-tokens * model.n_vocab // _OUTPUTS)
        self._kept = len(range(0, tokens, self._every))
        self._tokens = tokens

    def tell(self, each: Reached) -> None:
        """Take what came through a matrix."""
        if not self.costs.get(each.tensor):
            return
        keep = slice(None)
        if each.tensor == self._output and each.rows is None:
            keep = slice(-int(each.tokens[0]) % self._every, None, self._every)
        if each.expert is not None:
            self.reached.setdefault(each.tensor, set()).add(each.expert)
        key = each.tensor, each.expert, each.rows is not None
        self._seen.setdefault(key, _Seen()).add(each, keep)

    def after(self, weights: Weights) -> None:
        """Add up what the types of all that was taken cost, and forget it."""
        for (tensor, expert, looked_up), seen in self._seen.items():
            squares = np.concatenate(seen.squares)
            if not np.isfinite(squares).all():
                raise NonFiniteActivation(
                    f"the gradient at {tensor!r} overflows",
                    hint="a model whose numbers overflow cannot be measured: check its weights",
                )
            scale = self._scale
            if looked_up:
                found = self._of_table(weights, tensor, np.concatenate(seen.rows), squares)
            else:
                if tensor == self._output:
                    scale *= self._tokens / self._kept
                x = np.concatenate(seen.x)
                found = self._of_matrix(weights, tensor, expert, x, squares)
            for type_, cost in found.items():
                self.costs[tensor][type_] += scale * cost
        self._seen = {}

    def _of_matrix(
        self, weights: Weights, tensor: str, expert: int | None, x: Floats, squares: Floats
    ) -> dict[str, float]:
        """x (N, in), squares (N, out) -> the sum of (g d)^2 by type."""
        matrix = weights.matrix(tensor)
        count = matrix.shape[0] // (1 if expert is None else self._experts)
        first = (expert or 0) * count
        step = tile_rows(matrix.shape[1])
        tiles = [(at, min(at + step, count)) for at in range(0, count, step)]

        def of_tile(item: tuple[int, int, str]) -> float:
            start, stop, type_ = item
            exact = matrix.rows(first + start, first + stop)
            error = self._error(exact, tensor, type_, expert)
            d = x @ error.T
            np.square(d, out=d)
            d *= squares[:, start:stop]
            return float(d.sum(dtype=np.float64))

        return self._by_type(of_tile, tensor, tiles)

    def _of_table(
        self, weights: Weights, tensor: str, rows: Places, squares: Floats
    ) -> dict[str, float]:
        """rows (N,) of a table of embeddings, squares (N, E) -> the sum of (g d)^2 by type."""
        matrix = weights.matrix(tensor)
        used, where = np.unique(rows, return_inverse=True)
        summed = np.zeros((len(used), matrix.shape[1]))
        np.add.at(summed, where, squares)
        exact = np.concatenate([matrix.rows(int(row), int(row) + 1) for row in used])
        step = tile_rows(matrix.shape[1])
        tiles = [(at, min(at + step, len(used))) for at in range(0, len(used), step)]

        def of_tile(item: tuple[int, int, str]) -> float:
            start, stop, type_ = item
            d = self._error(exact[start:stop], tensor, type_, None)
            return float((np.square(d) * summed[start:stop]).sum(dtype=np.float64))

        return self._by_type(of_tile, tensor, tiles)

    def _by_type(
        self,
        of_tile: Callable[[tuple[int, int, str]], float],
        tensor: str,
        tiles: Sequence[tuple[int, int]],
    ) -> dict[str, float]:
        items = [(*tile, type_) for tile in tiles for type_ in self.costs[tensor]]
        found = dict.fromkeys(self.costs[tensor], 0.0)
        for (_, _, type_), part in zip(items, in_parallel(of_tile, items), strict=True):
            found[type_] += part
        return found

    def _error(self, exact: Floats, tensor: str, type_: str, expert: int | None) -> Floats:
        """Rows of a matrix -> what a type adds to them."""
        by_slice = self.importance.get(tensor)
        weighed = None if by_slice is None else by_slice[(expert or 0) % len(by_slice)]
        blocks = quantize(exact, type_, importance=weighed, threads=1, check_finite=False)
        return dequantize(blocks, type_, exact.shape, threads=1) - exact


def measure(
    model: Transformer,
    windows: Sequence[Sequence[int]],
    types: Mapping[str, Sequence[str]],
    *,
    draws: int = 1,
    seed: int = 0,
    importance: Callable[[], Mapping[str, Floats]] = dict,
    entering: Callable[[str, Floats, int | None], None] | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Sensitivities:
    """Return what each of the types of each tensor costs on windows of token ids.

    ``types``: tensor -> those it could have. ``importance`` is asked when all tokens are through
    all layers, and returns tensor -> (slices, row), by which a type's errors are weighed; by then
    ``entering`` was handed, as by ``Trace``, all that entered the matrices. ``progress`` is told of
    layers done and of all, there and back. Raises what ``Backward`` does, and
    ``NonFiniteActivation`` for a gradient that overflows.
    """
    tokens = sum(map(len, windows))
    meter = Meter(model, types, tokens=tokens, draws=draws)

    def turned() -> None:
        meter.importance = importance()

    back = Backward(model, windows, draws=draws, seed=seed)
    back.run(
        meter.tell,
        after=meter.after,
        entering=entering,
        turned=turned,
        progress=lambda done: progress(done, back.steps),
    )
    experts = model.hparams.expert_count or 1
    missed = {name: experts - len(found) for name, found in meter.reached.items()}
    return Sensitivities(
        model=of_model(model.weights),
        text=of_windows(windows),
        tokens=tokens,
        windows=len(windows),
        draws=draws,
        seed=seed,
        importance=of_importance(meter.importance),
        costs=meter.costs,
        unreached={name: count for name, count in missed.items() if count},
    )


def of_model(weights: Weights) -> str:
    """Return what tells one model from another, short of its weights: a digest."""
    names = weights.names()
    return model_digest((name, weights.type(name), weights.shape(name)) for name in names)


def of_windows(windows: Sequence[Sequence[int]]) -> str:
    """Return what tells one text, cut into windows, from another: a digest."""
    digest = hashlib.sha256()
    for window in windows:
        digest.update(np.array([len(window), *window], np.int64).tobytes())
    return digest.hexdigest()


def of_importance(importance: Mapping[str, Floats]) -> str:
    """Return what tells one importance matrix from another: a digest; empty for none."""
    if not importance:
        return ""
    digest = hashlib.sha256()
    for name in sorted(importance):
        digest.update(name.encode("utf-8", "surrogateescape"))
        digest.update(np.ascontiguousarray(importance[name]).tobytes())
    return digest.hexdigest()


def require_fits(
    known: Sensitivities,
    weights: Weights,
    windows: Sequence[Sequence[int]],
    types: Mapping[str, Sequence[str]],
    importance: Mapping[str, Floats],
) -> None:
    """Raise ``BadUsage`` where sensitivities are not of this model, this text or these types."""
    known.require_model(of_model(weights))
    for what, mine, its in (
        ("another text, or one cut otherwise", known.text, of_windows(windows)),
        ("another importance matrix, or none", known.importance, of_importance(importance)),
    ):
        if mine != its:
            raise BadUsage(
                f"the sensitivities are of {what}", hint="measure anew: name another file for them"
            )
    known.require_types(types)
