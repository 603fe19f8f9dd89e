"""Weights to quantize: the ordinary ones in bulk, and those where something special happens.

Rows of 256, so that every type divides them. Everything is seeded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]
ROW = 256
ZERO, ONE = np.float32(0), np.float32(1)


def _rows(x: npt.ArrayLike) -> Rows:
    return np.ascontiguousarray(np.asarray(x, np.float32).reshape(-1, ROW))


def random_weights(count: int, seed: int = 7) -> Rows:
    """Half like a trained matrix, the rest with heavy tails, off centre, and of mixed magnitude."""
    rng = np.random.default_rng(seed)
    rows = count // ROW
    x = rng.standard_normal((rows, ROW), np.float32)
    half, most, last = rows // 2, rows * 3 // 4, rows * 7 // 8
    x[:half] *= np.float32(0.02)
    x[half:most] = rng.standard_t(2, (most - half, ROW))
    x[most:last] = np.abs(x[most:last]) * np.float32(0.1) + np.float32(0.01)
    x[last:] *= 10 ** rng.uniform(-5, 2, (rows - last, ROW // 16)).repeat(16, axis=1)
    return x


# The numbers of levels that each search tries over the spread of a sub-block.
TRIES = {
    3: [2.5 + 0.1 * i for i in range(16)],
    15: [14 + 0.1 * i for i in range(21)],
    31: [30.5 + 0.1 * i for i in range(16)],
    32: [32 + 0.1 * i for i in range(-9, 10)],
}


def ties_of_tries(rng: np.random.Generator, rows: int, factors: list[float]) -> Rows:
    """Weights from 0 to 1 on the levels of a try, but for some, a bit or two off the middles.

    So the try fits well, and what becomes of the others hangs on the last bit of the try's scale.
    """
    runs = rows * ROW // 16
    factor = rng.choice(factors, (runs, 1))
    level = rng.integers(0, factor.astype(int) + 1, (runs, 16))
    tie = rng.random((runs, 16)) < 0.3
    x = ((level + 0.5 * tie) / factor).clip(0, 1).astype(np.float32)
    bits = x.view(np.int32)
    bits += (rng.integers(-2, 3, x.shape) * (tie & (x > 0))).astype(np.int32)
    x[:, 0], x[:, 5] = 0, 1
    return _rows(x)


def finite_edges() -> Iterator[tuple[str, Rows]]:
    """Give names and rows of finite weights."""
    rng = np.random.default_rng(11)

    def normal(rows: int) -> Rows:
        return rng.standard_normal((rows, ROW), np.float32)

    def powers(low: int, high: int, size: tuple[int, ...]) -> npt.NDArray[Any]:
        return 10.0 ** rng.integers(low, high, size)

    yield "zeros", _rows(np.zeros((2, ROW)))
    yield "minus zeros", _rows(-np.zeros((2, ROW)))
    yield "zeros of both signs", _rows(np.where(rng.random((16, ROW)) < 0.5, ZERO, -ZERO))
    constants = [1, -1, 0.5, 3.7, -2.2, 1e-41, -1e-41, 1e-20, 6e-8, 65504, 7e4, 3e38, -3e38]
    yield "constants", _rows(np.repeat(constants, ROW))
    magnitudes = np.array([max(10.0**e, 1e-44) for e in range(-45, 39)])
    yield (
        "1e-45 to 1e38",
        _rows(np.clip(normal(84 * 4) * magnitudes.repeat(4)[:, None], -3e38, 3e38)),
    )
    positive = np.minimum(np.abs(normal(84 * 2)) * magnitudes.repeat(2)[:, None], 3e38)
    yield "positive, 1e-45 to 1e38", _rows(positive)
    yield "negative, 1e-45 to 1e38", _rows(-positive)
    exponents = np.arange(-149, 124)
    small = np.sign(normal(exponents.size)) * rng.integers(0, 17, (exponents.size, ROW))
    yield "integers by powers of two", _rows(np.ldexp(small, exponents[:, None]))
    yield "denormals", _rows(rng.integers(-200, 200, (64, ROW)) * float(np.float32(1e-45)))
    for unit in (0.5, 1, 2, 4, 0.125):
        yield f"ties of {unit}", _rows(rng.integers(-34, 35, (32, ROW)) * unit)
    yield "few integers", _rows(rng.integers(-8, 9, (64, ROW)))
    yield "three levels", _rows(rng.integers(-1, 2, (64, ROW)))
    yield "positive integers", _rows(rng.integers(0, 16, (64, ROW)))
    one_hot = np.zeros((128, ROW))
    one_hot[np.arange(128), rng.integers(0, ROW, 128)] = normal(1)[0, :128] * powers(
        -40, 38, (128,)
    )
    yield "one-hot", _rows(one_hot)
    for share in (0.01, 0.05, 0.2):
        yield f"{share} filled", _rows(np.where(rng.random((64, ROW)) < share, normal(64), ZERO))
    yield "Cauchy", _rows(rng.standard_cauchy((256, ROW)))
    yield "exponential tails", _rows(np.exp(6 * normal(256)) * np.sign(normal(256)))
    for width in (16, 32, 64, 128):
        wide, near = powers(-30, 30, (128, ROW // width)), powers(-5, 3, (256, ROW // width))
        yield f"jumps each {width}", _rows(normal(128) * wide.repeat(width, axis=1))
        yield f"small jumps each {width}", _rows(normal(256) * near.repeat(width, axis=1))
    yield (
        "jumps each weight",
        _rows(np.clip(normal(256) * powers(-38, 39, (256, ROW)), -3e38, 3e38)),
    )
    yield "huge", _rows(np.clip(normal(64), -3.4, 3.4) * 1e38)
    yield "about 1e-15", _rows(normal(64) * 1e-15)
    threshold = np.float32(1e-15).view(np.int32) + np.arange(-2, 3, dtype=np.int32)
    yield (
        "the threshold of zero",
        _rows(threshold.view(np.float32)[:, None] * rng.integers(-1, 2, (5, ROW))),
    )
    for most, factors in TRIES.items():
        yield f"ties of the tries for {most} levels", ties_of_tries(rng, 128, factors)
    for offset, noise in ((1, 1e-3), (-1, 1e-3), (1, 1e-6), (1e4, 1e-3)):
        yield f"{offset} and {noise} of noise", _rows(offset + normal(64) * noise)
    bits = rng.integers(0, 1 << 32, (512, ROW), dtype=np.uint32).view(np.float32)
    yield "any bits", _rows(np.where(np.isfinite(bits), bits, ZERO))
    tops = np.ldexp(1.0, np.arange(-148, 128)).astype(np.float32).view(np.int32)
    near_powers = (tops[:, None] + np.arange(-24, 8)).clip(1, 0x7F7FFFFF).astype(np.int32)
    top = near_powers.reshape(-1, 1).view(np.float32)
    spread = np.linspace(-0.9, 0.9, 32, dtype=np.float32)
    spread[5] = 1
    yield "peaks about powers of two", _rows(top * spread)
    for most in (3, 15, 31):
        factors = [most - 0.9 + 0.05 * i for i in range(37)]
        yield f"ties of the tries for {most} levels by importance", ties_of_tries(rng, 64, factors)


def other_edges() -> Iterator[tuple[str, Rows]]:
    """Give names and rows of weights with canonical NaNs and infinities."""
    rng = np.random.default_rng(13)

    def sprinkle(x: Rows, value: float, share: float) -> Rows:
        return np.where(rng.random(x.shape) < share, np.float32(value), x)

    def normal(rows: int) -> Rows:
        return rng.standard_normal((rows, ROW), np.float32)

    for value in (np.nan, np.inf, -np.inf):
        for share in (0.002, 0.02, 0.3):
            yield f"{value}, a share of {share}", sprinkle(normal(64), value, share)
        yield f"nothing but {value}", _rows(np.full(ROW, value))
        alone = np.zeros((32, ROW))
        alone[np.arange(32), np.arange(32) * 7 % ROW] = value
        yield f"{value} among zeros", _rows(alone)
        ends = normal(16)
        ends[:8, 0], ends[8:, 15::16] = value, value
        yield f"{value} first and last", ends
    mixed = normal(256)
    jumping = normal(256) * (10.0 ** rng.integers(-38, 38, (256, ROW))).astype(np.float32)
    for value in (np.nan, np.inf, -np.inf):
        mixed, jumping = sprinkle(mixed, value, 0.02), sprinkle(jumping, value, 0.01)
    yield "all three", mixed
    yield "all three, and jumps", jumping


def side_by_side(edges: Mapping[str, Rows], row: int = ROW) -> tuple[list[str], Rows]:
    """Put all edges into one array (rows, row), which is made at once; and say whose each row is.

    An edge is repeated to the end of its last row.
    """
    parts = {name: np.resize(x, (-(-x.size // row), row)) for name, x in edges.items()}
    names = [name for name, part in parts.items() for _ in part]
    return names, np.concatenate([*parts.values()])


def importances(row: int) -> Iterator[tuple[str, Rows]]:
    """Give names and importances (row,) of columns, none below 0 or without end."""
    rng = np.random.default_rng(17)
    typical = rng.lognormal(0, 2, row)
    typical[rng.random(row) < 0.04] = 0
    typical[row // 4 : row // 4 + 16] = 0
    yield "typical", typical.astype(np.float32)
    yield "zeros", np.zeros(row, np.float32)
    yield "minus zeros", -np.zeros(row, np.float32)
    yield "all equal", np.full(row, 0.3, np.float32)
    hot = np.zeros(row, np.float32)
    hot[row // 3] = 700
    yield "one hot column", hot
    yield "one hot column above the rest", hot + np.float32(1e-3)
    yield "huge ratios", (10 ** rng.uniform(-44, 38, row)).astype(np.float32)
    yield "huge", np.full(row, 3e38, np.float32)
    yield "denormals", (rng.integers(0, 9, row) * 1e-45).astype(np.float32)
    yield "every other block", (np.arange(row) // 16 % 2).astype(np.float32)
