"""One type for each tensor, the least cost in so many bytes: the multiple-choice knapsack.

Exact by dynamic programming over bytes, in units of the greatest common divisor of all steps: that
is large, since the sizes of a tensor in two types differ by whole blocks. Where a table in that
unit would be too large, in a coarser one, and how far the result may be from the least is said: a
walk along the convex hulls of the tensors, the last step taken in part, costs no more than any
choice can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import gcd
from typing import Final, NamedTuple

import numpy as np

from ggufscope.arrays import Bytes, Doubles

_CELLS: Final = 1 << 25
"""Of the table, a byte each: (tensors, units)."""


class Item(NamedTuple):
    """One way to store a tensor."""

    nbytes: int
    cost: float


class Step(NamedTuple):
    """One step of the walk along the hulls: a tensor gets a larger type."""

    group: int
    item: int
    nbytes: int
    """Of all tensors, after the step."""
    cost: float


@dataclass(frozen=True, slots=True)
class Selection:
    """An item of each group."""

    items: tuple[int, ...]
    nbytes: int
    cost: float
    bound: float
    """No choice within the bytes costs less."""


class Knapsack:
    """Groups of items, of which one of each is taken."""

    def __init__(self, groups: Sequence[Sequence[Item]]) -> None:
        """Take groups, each of one item at least, whose sizes and costs are not negative."""
        self._groups = [list(group) for group in groups]
        self._useful = [_undominated(group) for group in self._groups]
        self._least = [group[ways[0]].nbytes for group, ways in self._pairs()]
        self._unit = (
            gcd(
                *(
                    group[way].nbytes - least
                    for (group, ways), least in zip(self._pairs(), self._least, strict=True)
                    for way in ways
                )
            )
            or 1
        )
        self.steps = self._walk()
        """The frontier: from the smallest choice on, the steps that gain most for their bytes."""

    @property
    def least(self) -> int:
        """Bytes of the smallest choice."""
        return sum(self._least)

    def cheapest(self, budget: int) -> Selection | None:
        """Return the choice of the least cost within ``budget`` bytes; None where none fits."""
        room = budget - self.least
        if room < 0:
            return None
        best, taken, unit = self._table(room)
        walked = max((s for s in self.steps if s.nbytes <= budget), key=lambda step: step.nbytes)
        # Rounded up to a coarse unit, the table may miss more than the walk does.
        both = self._read(taken, len(best) - 1, unit), self._items_of(walked)
        found = min((self._filled(items, budget) for items in both), key=lambda found: found.cost)
        return replace(found, bound=found.cost) if unit == self._unit else found

    def smallest(self, cost: float) -> Selection | None:
        """Return the smallest choice that costs no more; None where every one does."""
        enough = next((step for step in self.steps if step.cost <= cost), None)
        if enough is None:
            return None
        best, taken, unit = self._table(enough.nbytes - self.least)
        fits = np.flatnonzero(best <= cost)
        if not len(fits):  # rounded up to the unit, what the walk found did not fit
            return self._filled(self._items_of(enough), enough.nbytes)
        items = self._read(taken, int(fits[0]), unit)
        return self._selection(items, self._nbytes(items))

    def _pairs(self) -> list[tuple[list[Item], list[int]]]:
        return list(zip(self._groups, self._useful, strict=True))

    def _table(self, room: int) -> tuple[Doubles, list[Bytes], int]:
        """Return the least cost in at most so many units, what each group took then, the unit."""
        extra = [
            [group[way].nbytes - least for way in ways]
            for (group, ways), least in zip(self._pairs(), self._least, strict=True)
        ]
        unit = self._unit
        room = min(room, sum(sizes[-1] for sizes in extra))
        unit *= -(-(room // unit + 1) * max(1, len(extra)) // _CELLS)
        units = room // unit + 1
        best: Doubles = np.zeros(units)
        taken: list[Bytes] = []
        for (group, ways), sizes in zip(self._pairs(), extra, strict=True):
            costs: Doubles = np.full(units, np.inf)
            choice: Bytes = np.zeros(units, np.uint8)
            for number, (way, size) in enumerate(zip(ways, sizes, strict=True)):
                offset = -(-size // unit)
                if offset < units:
                    other = best[: units - offset] + group[way].cost
                    better = other < costs[offset:]
                    costs[offset:][better] = other[better]
                    choice[offset:][better] = number
            best = costs
            taken.append(choice)
        return best, taken, unit

    def _read(self, taken: Sequence[Bytes], at: int, unit: int) -> list[int]:
        """Return the item of each group that the table's cell stands for."""
        found = []
        for index in reversed(range(len(taken))):
            way = self._useful[index][taken[index][at]]
            at -= -(-(self._groups[index][way].nbytes - self._least[index]) // unit)
            found.append(way)
        return found[::-1]

    def _filled(self, items: list[int], budget: int) -> Selection:
        """Spend what rounding left over, the best single steps first."""
        while True:
            room = budget - self._nbytes(items)
            gains = [
                (group[items[index]].cost - group[way].cost, index, way)
                for index, (group, ways) in enumerate(self._pairs())
                for way in ways
                if group[way].nbytes - group[items[index]].nbytes <= room
            ]
            gain, index, way = max(gains, default=(0.0, 0, 0))
            if gain <= 0:
                return self._selection(items, budget)
            items[index] = way

    def _selection(self, items: Sequence[int], budget: int) -> Selection:
        cost = self._cost(items)
        return Selection(tuple(items), self._nbytes(items), cost, min(cost, self._bound(budget)))

    def _nbytes(self, items: Sequence[int]) -> int:
        return sum(group[way].nbytes for group, way in zip(self._groups, items, strict=True))

    def _cost(self, items: Sequence[int]) -> float:
        return sum(group[way].cost for group, way in zip(self._groups, items, strict=True))

    def _bound(self, budget: int) -> float:
        """Return what the walk costs where its bytes reach the budget, between steps in part."""
        before = self.steps[0]
        for step in self.steps[1:]:
            if step.nbytes > budget:
                part = (budget - before.nbytes) / (step.nbytes - before.nbytes)
                return before.cost + part * (step.cost - before.cost)
            before = step
        return before.cost

    def _items_of(self, last: Step) -> list[int]:
        """Return the items after a step of the walk."""
        items = [ways[0] for ways in self._useful]
        for step in self.steps[1 : 1 + self.steps.index(last)]:
            items[step.group] = step.item
        return items

    def _walk(self) -> list[Step]:
        moves = []
        for index, (group, ways) in enumerate(self._pairs()):
            hull = _hull(group, ways)
            for before, after in pairwise(hull):
                nbytes = group[after].nbytes - group[before].nbytes
                gain = group[before].cost - group[after].cost
                moves.append((gain / nbytes, index, after, nbytes, gain))
        moves.sort(key=lambda move: -move[0])
        nbytes = self.least
        cost = sum(group[ways[0]].cost for group, ways in self._pairs())
        steps = [Step(-1, -1, nbytes, cost)]
        for _, index, after, more, gain in moves:
            nbytes, cost = nbytes + more, max(0.0, cost - gain)
            steps.append(Step(index, after, nbytes, cost))
        return steps


def _undominated(group: Sequence[Item]) -> list[int]:
    """Return the items that no smaller or equal one beats, by size; never more than 256."""
    order = sorted(range(len(group)), key=lambda way: (group[way].nbytes, group[way].cost))
    found: list[int] = []
    for way in order:
        if not found or group[way].cost < group[found[-1]].cost:
            found.append(way)
    return found


def _hull(group: Sequence[Item], ways: Sequence[int]) -> list[int]:
    """Return the items on the lower convex hull, by size: each step gains less for a byte."""
    hull: list[int] = []
    for way in ways:
        while len(hull) > 1 and _slope(group, hull[-2], hull[-1]) >= _slope(group, hull[-1], way):
            hull.pop()
        hull.append(way)
    return hull


def _slope(group: Sequence[Item], before: int, after: int) -> float:
    """Return what a byte changes of the cost: less than nothing."""
    bytes_more = group[after].nbytes - group[before].nbytes
    return (group[after].cost - group[before].cost) / bytes_more
