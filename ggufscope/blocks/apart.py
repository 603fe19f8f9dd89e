"""One block taken apart: its fields, the numbers in them, and the formula that makes weights of it.

For every type there is a formula in Python's notation, and for every weight of a block the numbers
that it takes. Computed in float32 from left to right, as it is written, it gives each weight as
``dequantize`` does, bit by bit; a test holds every type to that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from ggufscope.arrays import Array, Blocks, Bytes, Floats
from ggufscope.blocks import grids, iq4, microscale
from ggufscope.blocks.codec import dequantize
from ggufscope.blocks.layouts import Layout
from ggufscope.blocks.ordered import from_bfloat, from_half
from ggufscope.blocks.packing import (
    EVEN_SIGNS,
    even_signs,
    unpack_fields,
    unpack_scales_mins,
    unpack_sixteen_scales,
)
from ggufscope.blocks.ternary import digits_tq1_0

Numbers = dict[str, Array]
"""What a formula takes, by name: one for all weights, or one for each run of them."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a block, as it stands in the file."""

    name: str
    offset: int
    """Bytes from the beginning of the block."""
    raw: bytes
    value: float | None
    """What a single number says; None where many are packed in it."""
    meaning: str


@dataclass(frozen=True, slots=True)
class Apart:
    """A block taken apart."""

    type: str
    fields: tuple[Field, ...]
    formula: str
    numbers: Mapping[str, Array]
    """What the formula takes, one for each weight, (block_length,) each."""
    shared: Mapping[str, int]
    """How many weights in a row have one number of a name in common."""
    weights: Floats
    """(block_length,): what the block stands for."""


@dataclass(frozen=True, slots=True)
class _Kind:
    formula: str
    numbers: Callable[[Blocks], Numbers]
    """blocks (1,) -> what the formula takes, each (k,) where k divides the block's length."""
    meanings: Mapping[str, str]


def take_apart(block: Blocks, type_: Layout) -> Apart:
    """block (1,) of a type's dtype, in any byte order -> what is in it."""
    native = block.astype(type_.dtype, copy=False)
    kind = KINDS[type_.name]
    with np.errstate(all="ignore"):  # what is no number is shown as it is
        found = kind.numbers(native)
        fields = tuple(_fields(block, native, kind))
    shared = {name: type_.block_length // values.size for name, values in found.items()}
    return Apart(
        type=type_.name,
        fields=fields,
        formula=kind.formula,
        numbers={name: np.repeat(values, shared[name]) for name, values in found.items()},
        shared=shared,
        weights=dequantize(native, type_).reshape(-1),
    )


def _fields(block: Blocks, native: Blocks, kind: _Kind) -> list[Field]:
    if block.dtype.fields is None:
        meaning = kind.meanings.get("", "the weight")
        value = float(kind.numbers(native)["value"][0])
        return [Field("", 0, block.tobytes(), value, meaning)]
    found = []
    for name, (dtype, offset, *_) in block.dtype.fields.items():
        plain = not dtype.shape and (dtype.kind == "f" or name == "e")
        single = float(native[name][0]) if plain else None
        meaning = kind.meanings.get(name, _MEANINGS.get(name, ""))
        found.append(Field(name, offset, block[name].tobytes(), single, meaning))
    return found


def _one(x: Array) -> Array:
    """x (1, k) -> (k,)."""
    return x.reshape(-1)


def _plain(b: Blocks) -> Numbers:
    return {"value": b.astype(np.float32)}


def _fraction(bits: int, mantissa: int, decode: Callable[[Array], Array]) -> _Kind:
    """Return the kind of a binary float of so many bits: sign, exponent, fraction."""
    exponents = (1 << bits - 1 - mantissa) - 1
    bias = exponents >> 1

    def numbers(b: Blocks) -> Numbers:
        word = b.view(f"u{bits // 8}").astype(np.uint64)
        exponent = (word >> np.uint64(mantissa) & np.uint64(exponents)).astype(np.int64)
        part = (word & np.uint64((1 << mantissa) - 1)).astype(np.float64) / 2**mantissa
        sign = np.where(word >> np.uint64(bits - 1), -1.0, 1.0)
        whole = np.where(exponent == 0, part, 1 + part)
        if exponent[0] == exponents:  # NaN or infinity: the bits are no product
            whole, exponent = np.abs(decode(b).astype(np.float64)), np.array([bias])
        power = np.exp2(np.maximum(exponent, 1).astype(np.float64) - bias)
        return {"sign": sign, "power": power, "fraction": whole, "value": decode(b)}

    sizes = f"{bits - 1 - mantissa} bits of exponent, {mantissa} of fraction"
    return _Kind("sign * power * fraction", numbers, {"": f"a sign, {sizes}"})


def _scaled(d: str, bits: int, apart: int) -> Callable[[Blocks], Numbers]:
    """Return the numbers of a type with one d, and levels of some bits so many weights apart."""
    return lambda b: {"d": from_half(b[d]), "level": _one(unpack_fields(b["qs"], bits, apart))}


def _with_m(levels: Callable[[Blocks], Numbers]) -> Callable[[Blocks], Numbers]:
    return lambda b: {"d": from_half(b["d"]), "m": from_half(b["m"])} | levels(b)


def _levels(bits: int, apart: int) -> Callable[[Blocks], Numbers]:
    return lambda b: {"level": _one(unpack_fields(b["qs"], bits, apart))}


def _five(b: Blocks) -> Numbers:
    high = unpack_fields(b["qh"], 1, 1, up=4)
    return {"level": _one(unpack_fields(b["qs"], 4, 16) | high)}


def _signed(b: Blocks) -> Numbers:
    return {"d": b["d"].astype(np.float32), "level": _one(b["qs"])}


def _q2_k(b: Blocks) -> Numbers:
    both, levels = b["scales"], unpack_fields(b["qs"], 2, 32)
    return _affine(b, both & 15, both >> 4, levels)


def _affine(b: Blocks, scale: Bytes, minimum: Bytes, level: Bytes) -> Numbers:
    small = {"scale": _one(scale), "minimum": _one(minimum), "level": _one(level)}
    return {"d": from_half(b["d"]), "dmin": from_half(b["dmin"])} | small


def _q3_k(b: Blocks) -> Numbers:
    level = unpack_fields(b["hmask"], 1, 32, up=2) | unpack_fields(b["qs"], 2, 32)
    scale = _one(unpack_sixteen_scales(b["scales"]))
    return {"d": from_half(b["d"]), "scale": scale, "level": _one(level)}


def _q4_k(b: Blocks) -> Numbers:
    return _affine(b, *unpack_scales_mins(b["scales"]), unpack_fields(b["qs"], 4, 32))


def _q5_k(b: Blocks) -> Numbers:
    level = unpack_fields(b["qh"], 1, 32, up=4) | unpack_fields(b["qs"], 4, 32)
    return _affine(b, *unpack_scales_mins(b["scales"]), level)


def _q6_k(b: Blocks) -> Numbers:
    level = unpack_fields(b["ql"], 4, 64) | unpack_fields(b["qh"], 2, 32, up=4)
    return {"d": from_half(b["d"]), "scale": _one(b["scales"]), "level": _one(level)}


def _tq1_0(b: Blocks) -> Numbers:
    return {"d": from_half(b["d"]), "level": _one(digits_tq1_0(b))}


def _four(values: Array, apart: int, b: Blocks) -> Numbers:
    level = _one(unpack_fields(b["qs"], 4, apart))
    return {"level": level, "value": values[level]}


def _iq4_nl(b: Blocks) -> Numbers:
    return {"d": from_half(b["d"])} | _four(iq4.VALUES, 16, b)


def _iq4_xs(b: Blocks) -> Numbers:
    scale = _one(iq4.scales_xs(b))
    return {"d": from_half(b["d"]), "scale": scale} | _four(iq4.VALUES, 16, b)


def _mxfp4(b: Blocks) -> Numbers:
    return {"scale": microscale.half_e8m0(b["e"])} | _four(microscale.VALUES, 16, b)


def _nvfp4(b: Blocks) -> Numbers:
    return {"scale": _one(microscale.half_ue4m3(b["d"]))} | _four(microscale.VALUES, 8, b)


def _vectors(b: Blocks, grid: Array, index: Array, signs: Array, scale: Array) -> Numbers:
    """index (1, i) into the grid, signs (1, 32), a bit a weight, scale (1, s)."""
    return {
        "d": from_half(b["d"]),
        "scale": _one(scale),
        "index": _one(index),
        "magnitude": _one(grids.lookup(grid, index)),
        "sign": 1 - 2 * _one(unpack_fields(signs, 1, 1)).astype(np.int8),
    }


def _iq2_xxs(b: Blocks) -> Numbers:
    words = np.ascontiguousarray(b["qs"]).view("<u4").reshape(1, -1, 2)
    index, packed = np.ascontiguousarray(words[:, :, 0]).view(np.uint8), words[:, :, 1]
    return _vectors(b, grids.IQ2_XXS, index, even_signs(packed), packed >> 28)


def _iq2_xs(b: Blocks) -> Numbers:
    qs, scale = b["qs"], unpack_fields(b["scales"], 4, 1)
    return _vectors(b, grids.IQ2_XS, qs & 511, EVEN_SIGNS[qs >> 9], scale)


def _iq2_s(b: Blocks) -> Numbers:
    low, signs = np.split(b["qs"], 2, axis=1)
    index = low | unpack_fields(b["qh"], 2, 1).astype(np.uint16) << 8
    return _vectors(b, grids.IQ2_S, index, signs, unpack_fields(b["scales"], 4, 1))


def _iq3_xxs(b: Blocks) -> Numbers:
    index, tail = np.split(b["qs"], [b["qs"].shape[1] * 2 // 3], axis=1)
    packed = np.ascontiguousarray(tail).view("<u4")
    return _vectors(b, grids.IQ3_XXS, index, even_signs(packed), packed >> 28)


def _iq3_s(b: Blocks) -> Numbers:
    index = b["qs"] | unpack_fields(b["qh"], 1, 1).astype(np.uint16) << 8
    scale = unpack_fields(b["scales"], 4, 1)
    return _vectors(b, grids.IQ3_S, index, b["signs"], scale)


def _points(d: Array, scale: Array, index: Array, minus: Array) -> Numbers:
    return {
        "d": d,
        "scale": _one(scale),
        "index": _one(index),
        "point": _one(grids.lookup(grids.IQ1_S, index)),
        "delta": np.where(_one(minus) != 0, np.float32(-0.125), np.float32(0.125)),
    }


def _iq1_s(b: Blocks) -> Numbers:
    qh = b["qh"]
    high = qh[:, :, None] >> np.array([0, 3, 6, 9], np.uint16) & 7
    index = b["qs"] | high.reshape(1, -1) << 8
    return _points(from_half(b["d"]), qh >> 12 & 7, index, qh >> 15)


def _iq1_m(b: Blocks) -> Numbers:
    qh = unpack_fields(b["qh"], 4, 1)
    words = np.ascontiguousarray(b["scales"]).view("<u2")
    quarters = words >> 12 << np.array([0, 4, 8, 12], np.uint16)
    d = from_half(np.bitwise_or.reduce(quarters, axis=1).view(np.float16))
    scale = words[:, :, None] >> np.array([0, 3, 6, 9], np.uint16) & 7
    index = b["qs"] | (qh & 7).astype(np.uint16) << 8
    return _points(d, scale.reshape(1, -1), index, qh >> 3)


_MEANINGS: Final = {
    "d": "the scale, a float16",
    "m": "the smallest weight, a float16",
    "dmin": "the scale of the minimums, a float16",
    "qs": "the levels, or their low bits",
    "qh": "the high bits of the levels",
    "e": "the scale's exponent: 2 ** (e - 127)",
}
_SIX: Final = {"scales": "eight scales and eight minimums of 6 bits, for 32 weights each"}
_GRID: Final = {"qs": "the low bits of an index into the codebook for each 8 weights"}
_HIGH: Final = {"qh": "the high bits of the indices"}
_NIBBLES: Final = {"scales": "a scale of 4 bits for each 16 weights"}

_K: Final = "d * scale * level - dmin * minimum"
_IQ2: Final = "d * (scale + 0.5) * 0.25 * magnitude * sign"
_IQ1: Final = "d * (2 * scale + 1) * (point + delta)"

KINDS: Final[dict[str, _Kind]] = {
    "F32": _fraction(32, 23, lambda b: b),
    "F16": _fraction(16, 10, from_half),
    "BF16": _fraction(16, 7, from_bfloat),
    **{name: _Kind("value", _plain, {}) for name in ("I8", "I16", "I32", "I64", "F64")},
    "Q1_0": _Kind("d * (2 * level - 1)", _scaled("d", 1, 1), {"qs": "a bit a weight: its sign"}),
    "Q2_0": _Kind("d * (level - 1)", _scaled("d", 2, 1), {}),
    "Q4_0": _Kind("d * (level - 8)", _scaled("d", 4, 16), {}),
    "Q4_1": _Kind("d * level + m", _with_m(_levels(4, 16)), {}),
    "Q5_0": _Kind("d * (level - 16)", lambda b: {"d": from_half(b["d"])} | _five(b), {}),
    "Q5_1": _Kind("d * level + m", _with_m(_five), {}),
    "Q8_0": _Kind("d * level", _signed, {"qs": "a level a weight"}),
    "Q8_1": _Kind(
        "d * level", _signed, {"qs": "a level a weight", "s": "d times the sum of all levels"}
    ),
    "Q2_K": _Kind(_K, _q2_k, {"scales": "a scale and a minimum of 4 bits for each 16 weights"}),
    "Q3_K": _Kind(
        "d * (scale - 32) * (level - 4)",
        _q3_k,
        {"hmask": "the third bit of each level", "scales": "a scale of 6 bits for each 16 weights"},
    ),
    "Q4_K": _Kind(_K, _q4_k, _SIX),
    "Q5_K": _Kind(_K, _q5_k, _SIX | {"qh": "the fifth bit of each level"}),
    "Q6_K": _Kind(
        "d * scale * (level - 32)",
        _q6_k,
        {
            "ql": "the low four bits of the levels",
            "qh": "the high two bits of the levels",
            "scales": "a scale of 8 bits for each 16 weights",
        },
    ),
    "Q8_K": _Kind(
        "d * level",
        _signed,
        {
            "d": "the scale, a float32",
            "qs": "a level a weight",
            "bsums": "the sum of each 16 levels",
        },
    ),
    "TQ1_0": _Kind(
        "d * (level - 1)",
        _tq1_0,
        {"qs": "five levels of three a byte", "qh": "the last levels, four a byte"},
    ),
    "TQ2_0": _Kind("d * (level - 1)", _scaled("d", 2, 32), {}),
    "IQ4_NL": _Kind("d * value", _iq4_nl, {"qs": "a level a weight, the place of its value"}),
    "IQ4_XS": _Kind(
        "d * (scale - 32) * value",
        _iq4_xs,
        {
            "scales_h": "the high two bits of a scale for each 32 weights",
            "scales_l": "their low four bits",
            "qs": "a level a weight, the place of its value",
        },
    ),
    "MXFP4": _Kind("scale * value", _mxfp4, {"qs": "a level a weight: a float of 4 bits, doubled"}),
    "NVFP4": _Kind(
        "scale * value",
        _nvfp4,
        {
            "d": "a scale for each 16 weights: a float of 8 bits without sign, halved",
            "qs": "a level a weight: a float of 4 bits, doubled",
        },
    ),
    "IQ2_XXS": _Kind(
        _IQ2, _iq2_xxs, {"qs": "for each 32 weights four indices, their signs and a scale"}
    ),
    "IQ2_XS": _Kind(
        _IQ2, _iq2_xs, _NIBBLES | {"qs": "for each 8 weights an index and their signs"}
    ),
    "IQ2_S": _Kind(
        _IQ2, _iq2_s, _NIBBLES | _HIGH | {"qs": "the low bits of the indices, then the signs"}
    ),
    "IQ3_XXS": _Kind(
        "d * (scale + 0.5) * 0.5 * magnitude * sign",
        _iq3_xxs,
        {"qs": "an index for each 4 weights, then signs and a scale for each 32"},
    ),
    "IQ3_S": _Kind(
        "d * (1 + 2 * scale) * magnitude * sign",
        _iq3_s,
        _HIGH
        | {
            "qs": "the low bits of an index into the codebook for each 4 weights",
            "signs": "a bit a weight: its sign",
            "scales": "a scale of 4 bits for each 32 weights",
        },
    ),
    "IQ1_S": _Kind(
        _IQ1,
        _iq1_s,
        _GRID | {"qh": "for each 32 weights the high bits of four indices, a scale, delta's sign"},
    ),
    "IQ1_M": _Kind(
        _IQ1,
        _iq1_m,
        _GRID
        | {
            "qh": "for each 8 weights the high bits of the index, and delta's sign",
            "scales": "a scale of 3 bits for each 16 weights, and the four quarters of d",
        },
    ),
}
"""Every type: its formula, and where its numbers are."""
