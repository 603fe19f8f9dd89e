"""A block taken apart adds up: the formula, computed from what is shown, gives the weights."""

from __future__ import annotations

import numpy as np
import pytest

from ggufscope.arrays import Array
from ggufscope.blocks.apart import KINDS, take_apart
from ggufscope.blocks.codec import dequantize
from ggufscope.blocks.layouts import LAYOUTS, Layout


def test_every_type_is_there() -> None:
    assert KINDS.keys() == LAYOUTS.keys()


def _computed(formula: str, numbers: dict[str, Array]) -> Array:
    """The formula in float32, from left to right, as Python reads it."""
    exact = "power" in numbers  # a plain float: its parts are not all float32, their product is
    as_type = np.float64 if exact else np.float32
    names = {name: values.astype(as_type) for name, values in numbers.items()}
    with np.errstate(all="ignore"):
        found: Array = eval(formula, {"__builtins__": {}}, names)
    return found.astype(np.float32)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_formula_gives_the_weights(layout: Layout) -> None:
    rng = np.random.default_rng(layout.number)
    raw = rng.integers(0, 256, (60, layout.block_bytes), np.uint8)
    raw[0], raw[1] = 0, 255  # zeros; and NaN, or the largest of everything
    for bytes_ in raw:
        block = bytes_.view(layout.dtype)
        apart = take_apart(block, layout)
        weights = dequantize(block, layout).reshape(-1)
        computed = _computed(apart.formula, dict(apart.numbers))
        np.testing.assert_array_equal(apart.weights, weights)
        np.testing.assert_array_equal(computed, weights)
        assert b"".join(field.raw for field in apart.fields) == bytes_.tobytes()
        assert all(field.meaning for field in apart.fields)
        assert {len(values) for values in apart.numbers.values()} == {layout.block_length}


@pytest.mark.parametrize("type_", ["Q4_K", "F32", "Q8_K", "IQ4_XS", "I16"])
def test_the_byte_order_does_not_count(type_: str) -> None:
    layout = LAYOUTS[type_]
    raw = np.random.default_rng(3).integers(0, 100, layout.block_bytes, np.uint8)
    block = raw.view(layout.dtype)
    other = block.astype(layout.dtype.newbyteorder(">"))
    one, two = take_apart(block, layout), take_apart(other, layout)
    np.testing.assert_array_equal(one.weights, two.weights)
    assert [field.value for field in one.fields] == [field.value for field in two.fields]


def test_a_block_of_q4_k_by_hand() -> None:
    """One super-block with numbers that can be followed on paper."""
    layout = LAYOUTS["Q4_K"]
    block = np.zeros(1, layout.dtype)
    block["d"], block["dmin"] = 0.5, 0.25
    block["scales"][0, :4], block["scales"][0, 4:8] = [1, 2, 3, 4], [5, 6, 7, 8]
    block["qs"][0, 0] = 0x93  # weight 0 has level 3, weight 32 level 9
    apart = take_apart(block, layout)
    assert apart.formula == "d * scale * level - dmin * minimum"
    assert apart.weights[0] == 0.5 * 1 * 3 - 0.25 * 5
    assert apart.weights[32] == 0.5 * 2 * 9 - 0.25 * 6
    assert [apart.numbers[name][32] for name in ("scale", "minimum", "level")] == [2, 6, 9]
    assert [(field.name, field.offset, field.value) for field in apart.fields[:2]] == [
        ("d", 0, 0.5),
        ("dmin", 2, 0.25),
    ]
    assert apart.shared == {"d": 256, "dmin": 256, "scale": 32, "minimum": 32, "level": 1}
