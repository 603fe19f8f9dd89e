from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Array, Value
from ggufscope.errors import UnencodableValue

_INTEGERS = {
    ValueType.UINT8: (0, 2**8 - 1),
    ValueType.INT8: (-(2**7), 2**7 - 1),
    ValueType.UINT16: (0, 2**16 - 1),
    ValueType.INT16: (-(2**15), 2**15 - 1),
    ValueType.UINT32: (0, 2**32 - 1),
    ValueType.INT32: (-(2**31), 2**31 - 1),
    ValueType.UINT64: (0, 2**64 - 1),
    ValueType.INT64: (-(2**63), 2**63 - 1),
}
_STRATEGIES: dict[ValueType, st.SearchStrategy[Any]] = {
    **{type_: st.integers(*limits) for type_, limits in _INTEGERS.items()},
    ValueType.FLOAT32: st.floats(width=32, allow_nan=False),
    ValueType.FLOAT64: st.floats(allow_nan=False),
    ValueType.BOOL: st.booleans(),
    ValueType.STRING: st.text(),
}


@st.composite
def typed_values(draw: st.DrawFn, depth: int = 2) -> tuple[Value, Any]:
    """A value and the plain data it was made from."""
    type_ = draw(st.sampled_from([*_STRATEGIES, ValueType.ARRAY]))
    if type_ is not ValueType.ARRAY:
        data = draw(_STRATEGIES[type_])
        return Value.of(type_, data), data
    element = draw(st.sampled_from([*_STRATEGIES, *([ValueType.ARRAY] if depth else [])]))
    if element is not ValueType.ARRAY:
        items = draw(st.lists(_STRATEGIES[element], max_size=6))
        return Value.array(element, items), items
    inner = draw(st.lists(typed_values(depth - 1), max_size=3))
    arrays = [(value, data) for value, data in inner if value.type is ValueType.ARRAY]
    return Value.array(element, [v for v, _ in arrays]), [data for _, data in arrays]


def _plain(data: Any) -> Any:
    return [_plain(item) for item in data] if isinstance(data, Array) else data


@given(typed_values())
def test_what_is_encoded_is_decoded(made: tuple[Value, Any]) -> None:
    value, data = made
    assert _plain(value.data) == data


@given(typed_values())
def test_the_other_byte_order_says_the_same_and_back_again(made: tuple[Value, Any]) -> None:
    value, data = made
    swapped = Value(value.type, value.encode(">"), ">")
    assert _plain(swapped.data) == data
    assert swapped.encode("<") == bytes(value.raw)


def test_a_string_that_is_no_utf8_keeps_its_bytes() -> None:
    raw = struct.pack("<Q", 3) + b"a\xff\xfe"
    value = Value(ValueType.STRING, raw)
    assert value.data == "a\udcff\udcfe"
    assert Value.of(ValueType.STRING, value.data).raw == raw


def test_a_nan_keeps_its_payload() -> None:
    signalling = struct.pack("<I", 0x7F800001)
    value = Value(ValueType.FLOAT32, signalling)
    assert np.isnan(value.data)
    assert value.encode("<") == signalling
    assert value.encode(">") == signalling[::-1]


@pytest.mark.parametrize(
    ("type_", "data"),
    [
        (ValueType.UINT8, 256),
        (ValueType.UINT8, -1),
        (ValueType.UINT32, 1.5),
        (ValueType.FLOAT32, 1e300),
        (ValueType.STRING, 5),
        (ValueType.INT8, "x"),
        (ValueType.ARRAY, [1]),
    ],
)
def test_what_does_not_fit_is_refused(type_: ValueType, data: Any) -> None:
    with pytest.raises(UnencodableValue, match=type_.name):
        Value.of(type_, data)


def test_an_array_is_decoded_piece_by_piece() -> None:
    value = Value.array(ValueType.STRING, ["a", "b", "c"])
    array = value.data
    assert isinstance(array, Array)
    assert (len(array), array.head(2), array[-1], array[1:]) == (3, ["a", "b"], "c", ["b", "c"])
    assert list(array) == ["a", "b", "c"] == array


def test_numbers_are_seen_through_numpy() -> None:
    array = Value.array(ValueType.FLOAT32, [1.5, -2.0]).data
    assert array.numpy().tolist() == [1.5, -2.0]
    assert Value.array(ValueType.BOOL, [True, False]).data.numpy().tolist() == [True, False]
    with pytest.raises(TypeError, match="STRING"):
        Value.array(ValueType.STRING, ["a"]).data.numpy()
