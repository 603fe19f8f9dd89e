"""What a type for a tensor costs, in nats, for all tensors and types in one pass there and back.

With g a gradient at a matrix's output, as ``Backward`` draws it from the model's own predictions,
and d the error that a type makes in that output, ``1/2 E[(g . d)^2]`` over tokens is the KL
divergence that this one change will cause: the Fisher information in second order, of which the
products between tokens, and between matrices, are left out. Those between the outputs of a matrix
are not: a key's errors add up, and its cost would come out at a third. Costs of matrices add up
while each is small.

All types of a tensor share x and g: ``d = x (W_type - W)^T`` is one product for each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from ggufscope.arrays import Floats, Places
from ggufscope.blocks.codec import through
from ggufscope.errors import BadUsage, NonFiniteActivation
from ggufscope.forward.backward import Backward, Reached
from ggufscope.forward.transformer import Transformer
from ggufscope.forward.weights import Weights, tile_rows
from ggufscope.pool import in_parallel
from ggufscope.recipes.sensitivities import Sensitivities, model_digest

_GRADIENTS: Final = 1 << 26
"""Numbers that are kept of a layer, 256 MiB: of a wide one, or a long text, every n-th token's."""
_EMBEDDING: Final = "embedding"
"""The part of a model where rows are looked up."""


def _part(tensor: str) -> str:
    """Return which tensors' gradients are there together: those of a layer, or it alone."""
    return tensor.rsplit(".", 2)[0] if tensor.startswith("blk.") else tensor


@dataclass(slots=True)
class _Seen:
    """What came through one matrix, or one expert of a stack, so far."""

    x: list[Floats] = field(default_factory=list)
    rows: list[Places] = field(default_factory=list)
    """Of an embedding table, in place of x."""
    dy: list[list[Floats]] = field(default_factory=list)
    """The gradients, by draw."""

    def add(self, each: Reached, keep: slice | Places) -> None:
        if each.draw == len(self.dy):
            self.dy.append([])
        self.dy[each.draw].append(each.dy[keep].copy())
        if each.draw:
            return
        if each.rows is not None:
            self.rows.append(each.rows[keep])
        elif each.x is not None:
            self.x.append(each.x[keep])

    def gradients(self) -> Floats:
        """Return those of all windows, (draws, N, out)."""
        return np.stack([np.concatenate(each) for each in self.dy])


class Meter:
    """Adds up costs; hand its ``tell`` and ``after`` to ``Backward.run``."""

    def __init__(
        self, model: Transformer, types: Mapping[str, Sequence[str]], *, tokens: int, draws: int
    ) -> None:
        """``types``: tensor -> those it could have."""
        self.costs = {name: dict.fromkeys(wanted, 0.0) for name, wanted in types.items()}
        self.reached: dict[str, set[int]] = {}
        self.importance: Mapping[str, Floats] = {}
        """Tensor -> (slices, row), by which a type's errors are weighed."""
        self._experts = model.hparams.expert_count or 1
        self._tokens, self._draws = tokens, draws
        self._seen: dict[tuple[str, int | None, bool], _Seen] = {}
        self._wide = {_EMBEDDING: model.hparams.embedding_length or 1}
        for name in types:
            *stack, out, _ = model.weights.shape(name)
            wide = out * (model.hparams.expert_used_count or 1) if stack else out
            self._wide[_part(name)] = self._wide.get(_part(name), 0) + wide

    def tell(self, each: Reached) -> None:
        """Take what came through a matrix."""
        if not self.costs.get(each.tensor):
            return
        if each.expert is not None:
            self.reached.setdefault(each.tensor, set()).add(each.expert)
        looked_up = each.rows is not None
        every = self._every(each.tensor, looked_up=looked_up)
        keep = slice(None) if every == 1 else np.flatnonzero(each.tokens % every == 0)
        key = each.tensor, each.expert, looked_up
        self._seen.setdefault(key, _Seen()).add(each, keep)

    def after(self, weights: Weights) -> None:
        """Add up what the types of all that was taken cost, and forget it."""
        for (tensor, expert, looked_up), seen in self._seen.items():
            dy = seen.gradients()
            if looked_up:
                found = self._of_table(weights, tensor, np.concatenate(seen.rows), dy)
            else:
                found = self._of_matrix(weights, tensor, expert, np.concatenate(seen.x), dy)
            kept = len(range(0, self._tokens, self._every(tensor, looked_up=looked_up)))
            for type_, products in found.items():
                cost = float(np.square(products, dtype=np.float64).sum()) / (2 * kept * self._draws)
                if not np.isfinite(cost):
                    raise NonFiniteActivation(
                        f"the gradient at {tensor!r} overflows",
                        hint="a model whose numbers overflow cannot be measured: check its weights",
                    )
                self.costs[tensor][type_] += cost
        self._seen = {}

    def _every(self, tensor: str, *, looked_up: bool) -> int:
        """Return of how many tokens one is kept, which stands for all: not all have room."""
        wide = self._wide[_EMBEDDING if looked_up else _part(tensor)]
        return -(-self._tokens * self._draws * wide // _GRADIENTS)

    def _of_matrix(
        self, weights: Weights, tensor: str, expert: int | None, x: Floats, dy: Floats
    ) -> dict[str, Floats]:
        """x (N, in), dy (draws, N, out) -> g d (draws, N) by type."""
        matrix = weights.matrix(tensor)
        count = matrix.shape[0] // (1 if expert is None else self._experts)
        first = (expert or 0) * count
        step = tile_rows(matrix.shape[1])
        tiles = [(at, min(at + step, count)) for at in range(0, count, step)]

        def of_tile(item: tuple[int, int, str]) -> Floats:
            start, stop, type_ = item
            exact = matrix.rows(first + start, first + stop)
            d = x @ self._error(exact, tensor, type_, expert).T
            found: Floats = np.einsum("rno,no->rn", dy[:, :, start:stop], d)
            return found

        return self._by_type(of_tile, tensor, tiles)

    def _of_table(
        self, weights: Weights, tensor: str, rows: Places, dy: Floats
    ) -> dict[str, Floats]:
        """rows (N,) of a table of embeddings, dy (draws, N, E) -> g d (draws, N) by type."""
        matrix = weights.matrix(tensor)
        used, where = np.unique(rows, return_inverse=True)
        exact = np.concatenate([matrix.rows(int(row), int(row) + 1) for row in used])
        step = tile_rows(matrix.shape[1])
        tiles = [(at, min(at + step, len(used))) for at in range(0, len(used), step)]

        def of_tile(item: tuple[int, int, str]) -> Floats:
            start, stop, type_ = item
            error = self._error(exact[start:stop], tensor, type_, None)
            here = np.flatnonzero((where >= start) & (where < stop))
            found = np.zeros(dy.shape[:2], np.float32)
            found[:, here] = np.einsum("rno,no->rn", dy[:, here], error[where[here] - start])
            return found

        return self._by_type(of_tile, tensor, tiles)

    def _by_type(
        self,
        of_tile: Callable[[tuple[int, int, str]], Floats],
        tensor: str,
        tiles: Sequence[tuple[int, int]],
    ) -> dict[str, Floats]:
        items = [(*tile, type_) for tile in tiles for type_ in self.costs[tensor]]
        found: dict[str, Floats] = {}
        for (_, _, type_), part in zip(items, in_parallel(of_tile, items), strict=True):
            found[type_] = found[type_] + part if type_ in found else part
        return found

    def _error(self, exact: Floats, tensor: str, type_: str, expert: int | None) -> Floats:
        """Rows of a matrix -> what a type adds to them."""
        by_slice = self.importance.get(tensor)
        weighed = None if by_slice is None else by_slice[(expert or 0) % len(by_slice)]
        return through(exact, type_, weighed) - exact


def measure(
    model: Transformer,
    windows: Sequence[Sequence[int]],
    types: Mapping[str, Sequence[str]],
    *,
    draws: int = 1,
    seed: int = 0,
    importance: Callable[[], Mapping[str, Floats]] = dict,
    entering: Callable[[str, Floats, int | None], Floats] | None = None,
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
