"""Each search against the C loop it stands for, written out over scalars: the same scale, bit for
bit. Blocks keep only some bits of a scale; here all of them count.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ggufscope.blocks import iq4, kquants
from ggufscope.blocks.fits import affine, positive, symmetric
from tests.blocks.weights import TRIES, finite_edges, other_edges, random_weights, ties_of_tries

F = np.float32
Lane = npt.NDArray[np.float32]
SEARCHES = {
    "Q2_K": affine.AffineSearch(3, -0.5, 0.1, 15, absolute=True),
    "Q4_K": affine.AffineSearch(15, -1.0, 0.1, 20, absolute=False),
    "Q4_K by importance": affine.by_importance(15),
}


def nearest(value: F, low: int, high: int) -> int:
    bits = int(np.asarray(value + F(12582912), np.float32).view(np.int32))
    return max(low, min(high, (bits & 0x7FFFFF) - 0x400000))


def qkx2(x: Lane, w: Lane, search: affine.AffineSearch) -> tuple[F, F, list[int]]:
    low = high = x[0]
    sum_w, sum_x = w[0], w[0] * x[0]
    for v, weight in zip(x[1:], w[1:], strict=True):
        low = v if v < low else low
        high = v if v > high else high
        sum_w += weight
        sum_x += weight * v
    low = F(0) if low > 0 else low
    if high == low:
        return F(0), low, [0] * len(x)

    def misfit(levels: list[int], scale: F, minimum: F) -> F:
        total = F(0)
        for v, weight, level in zip(x, w, levels, strict=True):
            diff = scale * F(level) + minimum - v
            total += weight * (abs(diff) if search.absolute else diff * diff)
        return total

    iscale = F(search.top) / (high - low)
    scale = F(1) / iscale
    kept = [nearest(iscale * (v - low), 0, search.top) for v in x]
    best = misfit(kept, scale, low)
    for i in range(search.last + 1):
        iscale = (F(search.first) + F(search.step) * F(i) + F(search.top)) / (high - low)
        levels = [nearest(iscale * (v - low), 0, search.top) for v in x]
        sum_l = sum_l2 = sum_xl = F(0)
        for v, weight, level in zip(x, w, map(F, levels), strict=True):
            sum_l += weight * level
            sum_l2 += weight * level * level
            sum_xl += weight * level * v
        det = sum_w * sum_l2 - sum_l * sum_l
        if det > 0:
            new_scale = (sum_w * sum_xl - sum_x * sum_l) / det
            new_low = (sum_l2 * sum_x - sum_l * sum_xl) / det
            if new_low > 0:
                new_low = F(0)
                new_scale = sum_xl / sum_l2
            error = misfit(levels, new_scale, new_low)
            if error < best:
                best, scale, low, kept = error, new_scale, new_low, levels
    return scale, low, kept


def extreme(x: Lane) -> F:
    amax = most = F(0)
    for v in x:
        if abs(v) > amax:
            amax, most = abs(v), v
    return most


def qx(x: Lane, w: Lane, top: int) -> tuple[F, list[int]]:
    most = extreme(x)
    if abs(most) < F(1e-15):
        return F(0), [0] * len(x)
    scale = best = F(0)
    kept: list[int] = []
    for step in [0, *range(-9, 0), *range(1, 10)]:
        iscale = -(F(top) + F(0.1) * F(step)) / most
        levels = [nearest(iscale * v, -top, top - 1) for v in x]
        sum_lx = sum_l2 = F(0)
        for v, weight, level in zip(x, w, map(F, levels), strict=True):
            sum_lx += weight * v * level
            sum_l2 += weight * level * level
        if step == 0:
            scale, kept = sum_lx / sum_l2 if sum_l2 else F(0), levels
            best = scale * sum_lx
        elif sum_l2 > 0 and sum_lx * sum_lx > best * sum_l2:
            scale, kept = sum_lx / sum_l2, levels
            best = scale * sum_lx
    return scale, [level + top for level in kept]


def qp(x: Lane, w: Lane, top: int) -> tuple[F, list[int]]:
    most = F(0)
    for v in x:
        most = most if most > v else v
    if most < F(1e-15):
        return F(0), [0] * len(x)

    def misfit(levels: list[int], scale: F) -> F:
        total = F(0)
        for v, weight, level in zip(x, w, levels, strict=True):
            diff = v - scale * F(level)
            total += weight * diff * diff
        return total

    anything = 1 << 24
    iscale = F(top) / most
    best = misfit([nearest(iscale * v, -anything, anything) & 255 for v in x], F(1) / iscale)
    for step in [*range(-4, 0), *range(1, 5)]:
        tried = (F(0.1) * F(step) + F(top)) / most
        error = misfit([nearest(tried * v, -anything, top) for v in x], F(1) / tried)
        if error < best:
            best, iscale = error, tried
    levels = [nearest(iscale * v, -anything, top) for v in x]
    sum_lx = sum_l2 = F(0)
    for v, weight, level in zip(x, w, map(F, levels), strict=True):
        sum_lx += weight * v * level
        sum_l2 += weight * level * level
    levels = [level & 255 for level in levels]
    for _ in range(5):
        changed = False
        for i, (v, weight) in enumerate(zip(x, w, strict=True)):
            lx = sum_lx - weight * v * F(levels[i])
            l2 = sum_l2 - weight * F(levels[i]) * F(levels[i])
            if lx > 0 and l2 > 0:
                new = nearest(v * l2 / lx, -anything, top)
                if new != levels[i]:
                    lx += weight * v * F(new)
                    l2 += weight * F(new) * F(new)
                    if lx * lx * sum_l2 > sum_lx * sum_lx * l2:
                        levels[i], sum_lx, sum_l2, changed = new & 255, lx, l2, True
        if not changed:
            break
    return (sum_lx / sum_l2 if sum_l2 > 0 else F(0)), levels


def q3(x: Lane, top: int) -> tuple[F, list[int]]:
    most = extreme(x)
    if abs(most) < F(1e-15):
        return F(0), [0] * len(x)
    levels = [nearest(F(-top) / most * v, -top, top - 1) for v in x]
    sum_lx = sum_l2 = F(0)
    for v, level in zip(x, map(F, levels), strict=True):
        sum_lx += v * v * v * level
        sum_l2 += v * v * level * level
    for _ in range(5):
        before = list(levels)
        for i, v in enumerate(x):
            lx = sum_lx - v * v * v * F(levels[i])
            if lx > 0:
                l2 = sum_l2 - v * v * F(levels[i]) * F(levels[i])
                new = nearest(v * l2 / lx, -top, top - 1)
                if new != levels[i]:
                    lx += v * v * v * F(new)
                    l2 += v * v * F(new) * F(new)
                    if l2 > 0 and lx * lx * sum_l2 > sum_lx * sum_lx * l2:
                        levels[i], sum_lx, sum_l2 = new, lx, l2
        if levels == before:
            break
    return (sum_lx / sum_l2 if sum_l2 > 0 else F(0)), [level + top for level in levels]


def nearest_value(t: F) -> F:
    values = [F(value) for value in iq4.VALUES]
    if t <= values[0]:
        return values[0]
    if t >= values[-1]:
        return values[-1]
    low, high = 0, 15
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if t < values[middle] else (middle, high)
    return values[high - 1] if t - values[high - 1] < values[high] - t else values[high]


def iq4_scale(x: Lane) -> F:
    most = extreme(x)
    if abs(most) < F(1e-15):
        return F(0)
    scale = best = F(0)
    for step in [None, *range(-7, 8)]:
        inverse = F(1) / (-most / F(-127)) if step is None else (F(step) + F(-127)) / most
        sum_qx = sum_q2 = F(0)
        for v in x:
            q = nearest_value(inverse * v)
            sum_qx += v * v * q * v
            sum_q2 += v * v * q * q
        if step is None:
            scale = sum_qx / sum_q2 if sum_q2 > 0 else F(0)
            best = scale * sum_qx
        elif sum_q2 > 0 and sum_qx * sum_qx > best * sum_q2:
            scale = sum_qx / sum_q2
            best = scale * sum_qx
    return scale


def lanes(length: int, factors: list[float], count: int) -> Lane:
    """Lanes (length, count and more) of every kind of weight, ties of the tries among them."""
    rng = np.random.default_rng(length)
    edges = [x for _, x in [*finite_edges(), *other_edges()]]
    kinds = [
        ties_of_tries(rng, count * length // 256, factors),
        random_weights(count * length, seed=length),
        np.concatenate([x[rng.integers(len(x)), :length][None] for x in edges]),
    ]
    return np.ascontiguousarray(np.concatenate([x.reshape(-1, length) for x in kinds]).T)


def same(ours: npt.NDArray[np.float32], expected: list[F]) -> bool:
    """Equal bits, and a NaN is a NaN: its sign is the operand order of a compiler."""
    theirs = np.array(expected, np.float32)
    equal = ours.view(np.int32) == theirs.view(np.int32)
    return bool((equal | (np.isnan(ours) & np.isnan(theirs))).all())


@pytest.fixture(autouse=True)
def _as_c() -> object:
    with np.errstate(all="ignore"):
        yield


def counted(x: Lane) -> Lane:
    """What the weights x (k, lanes) may count by importance; some nothing, and some lanes all."""
    rng = np.random.default_rng(9)
    importance = np.where(rng.random(x.shape) < 0.1, 0, rng.lognormal(0, 3, x.shape)).astype(F)
    importance[:, rng.integers(0, x.shape[1], 20)] = 0
    importance *= np.sqrt(F(1e-4) + x * x)
    return importance


@pytest.mark.parametrize(
    ("name", "length", "count"),
    [
        ("Q2_K", 16, 30),
        ("Q4_K", 32, 20),
        ("Q4_K by importance", 32, 10),
        pytest.param("Q2_K", 16, 400, marks=pytest.mark.slow),
        pytest.param("Q4_K", 32, 400, marks=pytest.mark.slow),
        pytest.param("Q4_K by importance", 32, 50, marks=pytest.mark.slow),
    ],
)
def test_qkx2_is_the_loop(name: str, length: int, count: int) -> None:
    search = SEARCHES[name]
    x = lanes(length, [float(search.factor(i)) for i in range(search.last + 1)], count)
    mean_square = np.array([sum((v * v for v in lane), F(0)) for lane in x.T]) / F(length)
    weights = np.abs(x) if name == "Q2_K" else np.sqrt(mean_square) + np.abs(x)
    weights = counted(x) if "importance" in name else weights
    expected = [qkx2(a, b, search) for a, b in zip(x.T, weights.T, strict=True)]
    fit = affine.qkx2(x, weights, search)
    assert same(fit.scale, [each[0] for each in expected])
    # Nothing reads the sign of a minimum of zero.
    assert same(fit.minimum + F(0), [each[1] + F(0) for each in expected])
    assert fit.levels(x, search.top).T.tolist() == [each[2] for each in expected]


@pytest.mark.parametrize(
    ("top", "by_importance", "count"),
    [
        (32, False, 100),
        (8, True, 60),
        pytest.param(32, False, 600, marks=pytest.mark.slow),
        pytest.param(8, True, 200, marks=pytest.mark.slow),
    ],
)
def test_qx_is_the_loop(top: int, by_importance: bool, count: int) -> None:
    x = lanes(16, [top + 0.1 * i for i in range(-9, 10)], count)
    weights = counted(x) if by_importance else x * x
    expected = [qx(a, b, top) for a, b in zip(x.T, weights.T, strict=True)]
    scale, iscale = symmetric.qx(x, weights, top)
    assert same(scale, [each[0] for each in expected])
    assert symmetric.qx_levels(x, iscale, top).T.tolist() == [each[1] for each in expected]


@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_qp_is_the_loop(count: int) -> None:
    factors = [15 + 0.1 * i for i in range(-4, 5)]
    # Scales are above zero, but for rounding errors.
    x = np.concatenate([np.abs(lanes(16, factors, 2 * count)), lanes(16, factors, count)], axis=1)
    weights = counted(x)
    expected = [qp(a, b, 15) for a, b in zip(x.T, weights.T, strict=True)]
    scale, levels = positive.qp(x, weights, 15)
    assert same(scale, [each[0] for each in expected])
    assert levels.T.tolist() == [each[1] for each in expected]


@pytest.mark.parametrize("count", [250, pytest.param(6000, marks=pytest.mark.slow)])
def test_q3_is_the_loop(count: int) -> None:
    # Weights in half steps are near to many ties of the descent; few lanes tell rounding errors.
    halves = np.random.default_rng(3).integers(-8, 8, (16, 3 * count)) * F(0.15)
    x = np.concatenate([lanes(16, TRIES[3], count), halves.astype(np.float32)], axis=1)
    scale, levels = symmetric.q3(x, x * x, 4)
    expected = [q3(lane, 4) for lane in x.T]
    assert same(scale, [pair[0] for pair in expected])
    assert levels.T.tolist() == [pair[1] for pair in expected]


@pytest.mark.parametrize("count", [12, pytest.param(60, marks=pytest.mark.slow)])
def test_the_search_of_iq4_is_the_loop(count: int) -> None:
    x = lanes(32, TRIES[15], count)
    scale = symmetric.qvalues(x, x * x, F(-127), iq4._nearest)
    assert same(scale, [iq4_scale(lane) for lane in x.T])


@pytest.mark.parametrize(
    ("low", "high", "affine"), [(-4, 3, False), (-32, 31, False), (0, 15, True)]
)
def test_the_last_rounding_divides(low: int, high: int, affine: bool) -> None:
    rng = np.random.default_rng(high)
    d = (rng.standard_normal(4000) * rng.integers(1, 64, 4000)).astype(np.float16).astype(F)
    level = rng.integers(low, high, (16, 4000)) + 0.5
    m = rng.random(4000).astype(F) if affine else None
    x = (level * d - (0 if m is None else m)).astype(F)
    x = (x.view(np.int32) + rng.integers(-2, 3, x.shape)).astype(np.int32).view(F)
    expected = [
        [nearest((v if m is None else v + m[i]) / d[i], low, high) - low for i, v in enumerate(row)]
        for row in x
    ]
    assert kquants._requantize(x, d, m, low, high).tolist() == expected
