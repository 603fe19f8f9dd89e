"""The choice of types, held to every choice there is."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ggufscope.recipes import knapsack
from ggufscope.recipes.knapsack import Item, Knapsack, Selection

Groups = list[list[Item]]

items = st.builds(
    Item, st.integers(0, 40).map(lambda n: 6 * n), st.sampled_from([0.0, 1e-9, 0.1, 0.3, 1, 1e6])
)
groups_of = st.lists(st.lists(items, min_size=1, max_size=4), min_size=1, max_size=4)


def every(groups: Groups) -> list[Item]:
    return [
        Item(sum(item.nbytes for item in chosen), sum(item.cost for item in chosen))
        for chosen in product(*groups)
    ]


def check(groups: Groups, found: Selection) -> None:
    chosen = [group[way] for group, way in zip(groups, found.items, strict=True)]
    assert found.nbytes == sum(item.nbytes for item in chosen)
    assert found.cost == pytest.approx(sum(item.cost for item in chosen))
    assert found.bound <= found.cost


@settings(max_examples=150)
@given(groups_of, st.integers(0, 700))
def test_it_is_the_least_cost_of_every_choice_that_fits(groups: Groups, budget: int) -> None:
    fits = [choice.cost for choice in every(groups) if choice.nbytes <= budget]
    found = Knapsack(groups).cheapest(budget)
    assert (found is None) == (not fits)
    if found is not None:
        check(groups, found)
        assert found.nbytes <= budget
        assert found.cost == pytest.approx(min(fits), rel=1e-9, abs=1e-12)
        assert found.bound <= min(fits) * (1 + 1e-9) + 1e-9


@settings(max_examples=150)
@given(groups_of, st.sampled_from([0.0, 0.1, 0.45, 2.0, 1e7]))
def test_it_is_the_smallest_of_every_choice_that_costs_no_more(groups: Groups, cost: float) -> None:
    fits = [choice.nbytes for choice in every(groups) if choice.cost <= cost]
    found = Knapsack(groups).smallest(cost)
    if found is not None:
        check(groups, found)
        assert found.cost <= cost
        assert found.nbytes == min(fits)
    else:  # sums in another order may differ in the last bit
        assert not [c for c in every(groups) if c.cost < cost - 1e-9]


@settings(max_examples=100)
@given(groups_of, st.integers(0, 700))
def test_in_coarse_units_it_fits_and_says_how_far_off_it_may_be(
    groups: Groups, budget: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(knapsack, "_CELLS", 12)
        found = Knapsack(groups).cheapest(budget)
        assert (found is None) == (Knapsack(groups).least > budget)
        if found is not None:
            check(groups, found)
            assert found.nbytes <= budget
            least = min(choice.cost for choice in every(groups) if choice.nbytes <= budget)
            assert found.bound <= least * (1 + 1e-9) + 1e-9


@given(groups_of)
def test_the_frontier_only_falls_and_ends_at_the_least_cost(groups: Groups) -> None:
    steps = Knapsack(groups).steps
    assert steps[0].nbytes == min(choice.nbytes for choice in every(groups))
    sizes, costs = [step.nbytes for step in steps], [step.cost for step in steps]
    assert sizes == sorted(sizes)
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] == pytest.approx(min(choice.cost for choice in every(groups)), abs=1e-3)


def test_a_large_model_is_chosen_for_in_a_table_of_bounded_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As many tensors as 70B has, sizes with a vocabulary that divides badly."""
    sizes = [2.6, 3.4, 4.5, 5.5, 6.6, 8.5]
    groups = [
        [Item(int(n * 32 * bits / 8) * 32, n * 4.0**-bits) for bits in sizes]
        for n in (30_001, 1000, 1000, 8000, 8000, 28_000, 28_000, 28_000) * 80
    ]
    budget = sum(group[2].nbytes for group in groups)
    monkeypatch.setattr(knapsack, "_CELLS", 1 << 21)
    found = Knapsack(groups).cheapest(budget)
    assert found is not None
    assert found.nbytes <= budget
    assert found.cost <= 1.01 * found.bound
